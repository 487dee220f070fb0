//! The locks driven by hand, poll by poll, and by threads.

mod gate;
mod mutex;
mod oneshot;
mod queue;
mod rwlock;
mod semaphore;
mod stress;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// A future that is polled by hand, and how often it has been woken.
struct Driven<'a, T> {
    future: Pin<Box<dyn Future<Output = T> + Send + 'a>>,
    wakes: Arc<WakeCount>,
}

#[derive(Default)]
struct WakeCount(AtomicUsize);

impl Wake for WakeCount {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl<'a, T> Driven<'a, T> {
    /// Boxes the future; that this compiles shows that the locks' futures are `Send`.
    fn new(future: impl Future<Output = T> + Send + 'a) -> Self {
        Self { future: Box::pin(future), wakes: Arc::default() }
    }

    /// Polls once, and expects that the future has to wait.
    fn waiting(future: impl Future<Output = T> + Send + 'a) -> Self {
        let mut driven = Self::new(future);
        assert!(driven.poll().is_none(), "the future should have to wait");
        driven
    }

    fn poll(&mut self) -> Option<T> {
        let waker = Waker::from(Arc::clone(&self.wakes));
        match self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    fn n_wakes(&self) -> usize {
        self.wakes.0.load(Ordering::Relaxed)
    }

    /// The value, for which the future must have been woken exactly once.
    fn woken(mut self) -> T {
        assert_eq!(self.n_wakes(), 1, "woken once");
        self.poll().expect("woken means ready")
    }
}

/// Runs a future on this thread, which sleeps in between: a lost wake-up is a hang.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

fn assert_send_sync<T: Send + Sync>(_: &T) {}
