//! What a model needs of the server: an end, since an execution lasts until its last thread has ended.

use super::Callbacks;
use crate::primitive::atomic::{AtomicBool, Ordering};
use crate::primitive::thread::JoinHandle;

pub(super) struct State {
    is_over: AtomicBool,
    has_no_threads: AtomicBool,
    /// std's lock: it is no part of the model.
    server: std::sync::Mutex<Option<JoinHandle<()>>>,
}

impl State {
    pub(super) fn new() -> Self {
        let (is_over, has_no_threads) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { is_over, has_no_threads, server: std::sync::Mutex::new(None) }
    }

    pub(super) fn has_no_threads(&self) -> bool {
        // Ordering: Relaxed; said before the model's other threads begin.
        self.has_no_threads.load(Ordering::Relaxed)
    }

    pub(super) fn keep(&self, server: JoinHandle<()>) {
        *self.server.lock().unwrap() = Some(server);
    }
}

impl Callbacks {
    /// Whether the server shall end; it has looked after resetting its event, as it looks at the queue.
    pub(super) fn is_over(&self) -> bool {
        // Ordering: Relaxed; ordered by the event.
        self.model.is_over.load(Ordering::Relaxed)
    }
}

/// Has the server call what is queued, and waits for its end.
#[cfg(test)]
pub(in crate::rcu) fn end_server() {
    let callbacks = &super::domain().callbacks;
    // Ordering: Relaxed; ordered by the event.
    callbacks.model.is_over.store(true, Ordering::Relaxed);
    callbacks.queued.set();
    let server = callbacks.model.server.lock().unwrap().take();
    server.expect("something was queued").join().unwrap();
}

/// From now on no server can be started.
#[cfg(test)]
pub(in crate::rcu) fn forbid_threads() {
    // Ordering: Relaxed; the model's other threads begin afterwards.
    super::domain().callbacks.model.has_no_threads.store(true, Ordering::Relaxed);
}
