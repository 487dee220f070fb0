//! The home thread under loom: what only it may do is never done by two threads at once.

use super::Home;
use crate::model::{Checked, explore, explore_bounded, reached};
use crate::primitive::{Arc, thread};

/// What only the home thread touches.
struct Context {
    home: Home,
    state: Checked,
}

impl Context {
    fn new() -> Arc<Self> {
        Arc::new(Self { home: Home::here(), state: Checked::new(0) })
    }

    /// One round of the loop, if it can be entered.
    fn run_once(&self) -> u32 {
        let Some(_outer) = self.home.enter() else { return 0 };
        let inner = self.home.enter().unwrap();
        assert!(!inner.is_outermost());
        drop(inner);
        assert!(self.home.is_entered_here());
        self.state.set(self.state.get() + 1);
        1
    }

    fn bind_and_run_once(&self) -> u32 {
        if self.home.bind() { self.run_once() } else { 0 }
    }
}

#[test]
pub(crate) fn the_next_home_thread_sees_what_the_last_one_did() {
    let both = reached();
    let note_both = both.clone();
    explore(move || {
        let context = Context::new();
        let other = Arc::clone(&context);
        let running = thread::spawn(move || other.bind_and_run_once());
        let n_here = context.run_once();
        let n_there = running.join().unwrap();
        if n_here + n_there == 2 {
            note_both.note();
        }
        assert_eq!(context.state.get(), n_here + n_there);
    });
    assert!(both.was_noted());
}

#[test]
fn two_threads_that_want_to_be_home() {
    explore_bounded(3, || {
        let context = Context::new();
        let running = [(); 2].map(|()| {
            let other = Arc::clone(&context);
            thread::spawn(move || other.bind_and_run_once())
        });
        let n_here = context.run_once();
        let n_there: u32 = running.into_iter().map(|running| running.join().unwrap()).sum();
        assert_eq!(context.state.get(), n_here + n_there);
    });
}
