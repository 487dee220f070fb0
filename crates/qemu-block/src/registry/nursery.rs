//! Opens that wait for one another, driven side by side instead of inside one another.
//!
//! An image opens its backing file before it is open itself, and so on down the chain. Were each of these futures polled
//! from within the one that waits for it, a long chain would need a deep stack. So whoever is asked first drives them
//! all: those further down are handed over, and the ones above wait for a message. The stack holds one open at a time.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use futures_util::stream::{FuturesUnordered, Stream};
use qemu_util::primitive::Mutex;
use qemu_util::sync::oneshot;

use crate::error::{BlockError, ErrorKind, Result};

type Child = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where opens are handed over. It accepts them as long as somebody drives it.
#[derive(Default)]
pub(super) struct Nursery {
    /// Those that are not driven yet.
    arrived: Mutex<Vec<Child>>,
}

impl std::fmt::Debug for Nursery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nursery").finish_non_exhaustive()
    }
}

/// The way to a nursery from below; nobody may be there any more.
pub(super) type NurseryRef = Weak<Nursery>;

impl Nursery {
    /// Drives `first`, and all that is handed over meanwhile, until `first` is done.
    pub(super) async fn drive<T>(self: Arc<Self>, first: impl Future<Output = T>) -> T {
        let mut first = pin!(first);
        let mut children = FuturesUnordered::new();
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(output) = first.as_mut().poll(cx) {
                    return Poll::Ready(output);
                }
                // Whatever a child did may let another one, or the first future, go on at once.
                if !self.step(&mut children, cx) {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Takes in who has arrived and polls who is ready; tells whether there was anything to do.
    fn step(&self, children: &mut FuturesUnordered<Child>, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        loop {
            let arrived = std::mem::take(&mut *self.arrived.lock());
            let n_arrived = arrived.len();
            children.extend(arrived);
            let done = matches!(Pin::new(&mut *children).poll_next(cx), Poll::Ready(Some(())));
            if n_arrived == 0 && !done {
                return any;
            }
            any = true;
        }
    }

    /// Hands `open` over, and waits for what comes of it.
    pub(super) async fn hand_over<T: Send + 'static>(
        self: Arc<Self>,
        open: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = oneshot::channel();
        let child = async move {
            // Who waited may have been dropped together with the whole open.
            drop(sender.send(open.await));
        };
        self.arrived.lock().push(Box::pin(child));
        drop(self);
        let gone = || BlockError::new(ErrorKind::Cancelled, "the open was given up");
        receiver.await.unwrap_or_else(|_| Err(gone()))
    }
}
