//! Functions to call after a grace period, on a thread that sleeps on a `QemuEvent` when there are none.
//!
//! The thread is made when the first function comes. If there is none to be had, functions wait in the queue, each new
//! one tries again, and [`drain_call_rcu`] does the work itself.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{domain, grace, reader};
use crate::event::QemuEvent;
use crate::primitive::{Arc, Mutex, thread};

type Callback = Box<dyn FnOnce() + Send>;

/// What the callers and the thread share.
pub(super) struct Callbacks {
    queue: Mutex<Queue>,
    /// Set after something was queued; `serve` resets it before it looks.
    queued: QemuEvent,
    /// Held while functions are called: they are called in the order in which they were queued.
    calling: Mutex<()>,
}

struct Queue {
    functions: Vec<Callback>,
    /// The thread that serves the queue, if there is one yet.
    server: Server,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    None,
    Running(Option<thread::ThreadId>),
}

impl Callbacks {
    #[cfg(not(qemu_loom))]
    pub(super) const fn new() -> Self {
        Self {
            queue: Mutex::new(Queue { functions: Vec::new(), server: Server::None }),
            queued: QemuEvent::new(false),
            calling: Mutex::new(()),
        }
    }

    #[cfg(qemu_loom)]
    pub(super) fn new() -> Self {
        Self {
            queue: Mutex::new(Queue { functions: Vec::new(), server: Server::None }),
            queued: QemuEvent::new(false),
            calling: Mutex::new(()),
        }
    }

    /// Queues a function; says whether a thread will call it.
    fn push(&self, function: Callback) -> bool {
        let mut queue = self.queue.lock();
        queue.functions.push(function);
        if queue.server == Server::None {
            let builder = thread::Builder::new().name("call_rcu".to_owned());
            if builder.spawn(|| domain().callbacks.serve()).is_ok() {
                queue.server = Server::Running(None);
            }
        }
        let served = queue.server != Server::None;
        drop(queue);
        self.queued.set();
        served
    }

    fn serve(&self) {
        self.queue.lock().server = Server::Running(Some(thread::current().id()));
        loop {
            self.queued.reset();
            if !self.call_queued() {
                self.queued.wait();
            }
        }
    }

    /// Calls what is queued, after one grace period for all of it; says whether there was anything.
    fn call_queued(&self) -> bool {
        let _in_order = self.calling.lock();
        let functions = std::mem::take(&mut self.queue.lock().functions);
        if functions.is_empty() {
            return false;
        }
        grace::synchronize();
        for function in functions {
            // The panic hook has reported it; the functions of others are not to suffer.
            drop(catch_unwind(AssertUnwindSafe(function)));
        }
        true
    }

    fn is_served_by_this_thread(&self) -> bool {
        self.queue.lock().server == Server::Running(Some(thread::current().id()))
    }
}

/// Has `function` called after a grace period, by a thread that exists for this. Never blocks for one.
///
/// Functions are called in the order of these calls. A panic in one of them is reported and otherwise ignored.
///
/// QEMU: `call_rcu` (include/qemu/rcu.h)
pub fn call_rcu(function: impl FnOnce() + Send + 'static) {
    domain().callbacks.push(Box::new(function));
}

/// Waits until all functions have been called that were handed to [`call_rcu`] before.
///
/// # Panics
/// Inside a read-side section of the calling thread, and inside such a function: it would wait for itself.
///
/// QEMU: `drain_call_rcu` (util/rcu.c)
pub fn drain_call_rcu() {
    assert!(
        !reader::is_inside_section(),
        "rcu::drain_call_rcu is called inside a read-side section of the same thread"
    );
    let callbacks = &domain().callbacks;
    assert!(!callbacks.is_served_by_this_thread(), "rcu::drain_call_rcu is called inside a function of call_rcu");
    let called = Arc::new(QemuEvent::new(false));
    let call = Arc::clone(&called);
    if !callbacks.push(Box::new(move || call.set())) {
        // There is no thread: this one does its work, or waits for one that does.
        callbacks.call_queued();
    }
    called.wait();
}
