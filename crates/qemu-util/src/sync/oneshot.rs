//! One value, sent once, from one task or thread to another.
//!
//! ```
//! use qemu_util::sync::oneshot;
//! use std::task::{Context, Poll, Waker};
//!
//! let (sender, receiver) = oneshot::channel();
//! let mut receiving = std::pin::pin!(receiver);
//! let mut context = Context::from_waker(Waker::noop());
//! assert!(receiving.as_mut().poll(&mut context).is_pending());
//! std::thread::spawn(|| sender.send(42)).join().expect("no panic").expect("the receiver is there");
//! assert_eq!(receiving.as_mut().poll(&mut context), Poll::Ready(Ok(42)));
//! ```

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::mutant::{Mutant, is_on};
use crate::primitive::{Arc, Mutex};

/// The sender was dropped without sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sender is gone")]
pub struct Cancelled;

/// The end that sends.
pub struct Sender<T> {
    /// `None` once the value is sent.
    shared: Option<Arc<Mutex<State<T>>>>,
}

/// The end that receives: a future for the value.
#[must_use = "futures do nothing unless polled"]
pub struct Receiver<T> {
    shared: Arc<Mutex<State<T>>>,
    /// The result was received: the sender is gone, and nothing is left in between.
    finished: bool,
}

enum State<T> {
    /// Neither sent nor given up; the waker is there once the receiver has been polled.
    Open(Option<Waker>),
    /// Sent and not received yet.
    Sent(T),
    /// The receiver will find nothing: the sender is gone, or the value was received.
    Finished,
    /// Nobody will look any more.
    ReceiverGone,
}

/// A new pair of ends.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Mutex::new(State::Open(None)));
    (Sender { shared: Some(Arc::clone(&shared)) }, Receiver { shared, finished: false })
}

impl<T> Sender<T> {
    /// Sends the value and wakes the receiver.
    ///
    /// # Errors
    ///
    /// The value comes back if the receiver has been dropped.
    ///
    /// # Panics
    ///
    /// Never: the state is taken out exactly once, by this method, which consumes the sender.
    pub fn send(mut self, value: T) -> Result<(), T> {
        let shared = self.shared.take().expect("taken only here, and `send` consumes the sender");
        finish(&shared, State::Sent(value))
    }

    /// Whether the receiver has been dropped, so that nobody needs the value.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| matches!(*shared.lock(), State::ReceiverGone))
    }
}

/// Moves an open channel to `end` and wakes the receiver; gives back the value if there is no receiver.
fn finish<T>(shared: &Mutex<State<T>>, end: State<T>) -> Result<(), T> {
    let waker = {
        let mut state = shared.lock();
        match &mut *state {
            State::Open(waker) => {
                let waker = waker.take();
                *state = end;
                waker
            }
            State::Sent(_) | State::Finished | State::ReceiverGone => {
                return match end {
                    State::Sent(value) => Err(value),
                    _ => Ok(()),
                };
            }
        }
    };
    if let Some(waker) = waker {
        waker.wake();
    }
    Ok(())
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take()
            && !is_on(Mutant::OneshotDropTellsNobody)
        {
            // Without a value none can come back: the result says nothing.
            drop(finish(&shared, State::Finished));
        }
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, Cancelled>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Cloned before the mutex is taken, and dropped after it is released: both may run foreign code.
        let waker = context.waker().clone();
        let (result, stale) = {
            let mut state = self.shared.lock();
            match mem::replace(&mut *state, State::Finished) {
                State::Open(Some(first)) if is_on(Mutant::OneshotKeepsFirstWaker) => {
                    *state = State::Open(Some(first));
                    (Poll::Pending, Some(waker))
                }
                State::Open(stale) => {
                    *state = State::Open(Some(waker));
                    (Poll::Pending, stale)
                }
                State::Sent(value) => (Poll::Ready(Ok(value)), Some(waker)),
                State::Finished | State::ReceiverGone => (Poll::Ready(Err(Cancelled)), Some(waker)),
            }
        };
        drop(stale);
        self.finished = result.is_ready();
        result
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // A value that was sent and not received is dropped with no lock held.
        let last = mem::replace(&mut *self.shared.lock(), State::ReceiverGone);
        drop(last);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("is_cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}
