//! Handlers for file descriptors: the list, and adding one while the loop sleeps.

use std::fs::File;
use std::os::fd::OwnedFd;

use super::super::fd::{FdCallbacks, Handlers};
use super::context;
use crate::model::explore_bounded;
use crate::primitive::{Arc, thread};
use crate::rcu::read_lock;

fn descriptor() -> Arc<OwnedFd> {
    Arc::new(File::open("/dev/null").unwrap().into())
}

/// Were the number newer than the list, an epoll set made of the list would pass for up to date.
#[test]
pub(crate) fn the_list_is_as_new_as_its_number() {
    explore_bounded(5, || {
        let handlers = Arc::new(Handlers::new());
        let adder = {
            let handlers = Arc::clone(&handlers);
            thread::spawn(move || handlers.add(descriptor(), FdCallbacks::default()))
        };
        // Entered before, unlike in the monitor: its fence would order the two looks in a model, and is none for the
        // processor in a shipped build.
        let guard = read_lock();
        let generation = handlers.generation();
        let n_handlers = handlers.read(&guard).len();
        drop(guard);
        assert!(generation == 0 || n_handlers == 1, "generation {generation} of {n_handlers} handlers");
        drop(adder.join().unwrap());
    });
}

/// The loop gives the list to the kernel when it goes to sleep; it has to come back for a handler that is added later.
#[test]
pub(crate) fn a_handler_added_elsewhere() {
    explore_bounded(4, || {
        let ctx = context();
        let adder = {
            let ctx = ctx.clone();
            thread::spawn(move || ctx.add_fd(descriptor(), FdCallbacks::default()))
        };
        while ctx.core().handlers.read(&read_lock()).is_empty() {
            ctx.poll(true);
        }
        drop(adder.join().unwrap());
        assert!(ctx.core().handlers.read(&read_lock()).is_empty());
    });
}
