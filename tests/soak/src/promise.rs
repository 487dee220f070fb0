//! Waiting, in a plain thread, for what was asked of an event loop.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use qemu_util::event::QemuEvent;
use qemu_util::primitive::Arc;
use qemu_util::primitive::atomic::{AtomicBool, Ordering};

use crate::counts;
use crate::ledger::Token;

#[derive(Debug)]
struct Shared {
    answered: QemuEvent,
    kept: AtomicBool,
}

/// The side that is asked: either it is kept, or it is dropped. Both are answers.
#[derive(Debug)]
pub(crate) struct Promise {
    shared: Arc<Shared>,
    asked: Instant,
    _token: Token,
}

/// The side that asks.
#[derive(Debug)]
pub(crate) struct Answer(Arc<Shared>);

/// Both sides.
pub(crate) fn promise() -> (Promise, Answer) {
    let shared = Arc::new(Shared { answered: QemuEvent::new(false), kept: AtomicBool::new(false) });
    let promise = Promise { shared: Arc::clone(&shared), asked: Instant::now(), _token: Token::new() };
    (promise, Answer(shared))
}

impl Promise {
    /// What was asked for is done.
    pub(crate) fn keep(self) {
        counts::answered(self.asked.elapsed());
        // Ordering: Relaxed; `set` publishes it.
        let before = self.shared.kept.swap(true, Ordering::Relaxed);
        assert!(!before, "a promise is kept once");
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.shared.answered.set();
    }
}

impl Answer {
    /// Waits for the answer; says whether the promise was kept.
    pub(crate) fn wait(self) -> bool {
        self.0.answered.wait();
        // Ordering: Relaxed; `wait` has acquired it.
        self.0.kept.load(Ordering::Relaxed)
    }
}

/// Wakes a thread that runs a future.
struct Alarm(QemuEvent);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.set();
    }
}

/// Runs a future in a thread that has no event loop.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let alarm = Arc::new(Alarm(QemuEvent::new(false)));
    let waker = Waker::from(Arc::clone(&alarm));
    let mut future = pin!(future);
    loop {
        alarm.0.reset();
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => alarm.0.wait(),
        }
    }
}
