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
            any |= !arrived.is_empty();
            children.extend(arrived);
            let done = matches!(Pin::new(&mut *children).poll_next(cx), Poll::Ready(Some(())));
            any |= done;
            // A child that was polled may have handed over another one, which nobody else would ever wake.
            if !done && self.arrived.lock().is_empty() {
                return any;
            }
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

#[cfg(all(test, not(qemu_loom)))]
mod tests {
    use futures_util::future::FutureExt;

    use super::*;

    /// A future that lets others go first, once.
    async fn later() {
        let mut yielded = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Opens `depth` images below one another, each of which waits for I/O before it asks for the next one.
    fn descend(nursery: Arc<Nursery>, depth: u32) -> Child {
        Box::pin(async move {
            later().await;
            if depth > 0 {
                let below = descend(Arc::clone(&nursery), depth - 1).map(Ok);
                nursery.hand_over(below).await.expect("driven to its end");
            }
        })
    }

    #[test]
    fn who_arrives_while_others_are_polled_is_driven_at_once() {
        let nursery = Arc::new(Nursery::default());
        let woken = Arc::new(Wakes::default());
        let waker = std::task::Waker::from(Arc::clone(&woken));
        let mut drive = pin!(Arc::clone(&nursery).drive(descend(Arc::clone(&nursery), 50)));
        // Polled only when it was woken: a hang would be seen as a poll without a wake.
        while drive.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            assert!(std::mem::take(&mut *woken.0.lock()), "asleep with work left");
        }
    }

    #[derive(Default)]
    struct Wakes(Mutex<bool>);

    impl std::task::Wake for Wakes {
        fn wake(self: Arc<Self>) {
            *self.0.lock() = true;
        }
    }
}
