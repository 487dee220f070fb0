//! Writes in the order of their offsets: who may write next, and who waits.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use qemu_util::primitive::Mutex;

/// The copy was given up while a task waited for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stopped;

/// Lets tasks through in the order of their tickets, each when the one before has finished.
///
/// Tickets are handed out in the order of offsets, without gaps. Finishing a turn wakes the task whose turn is next, if
/// it is there already, and nobody else.
///
/// QEMU: `wr_in_order`, `wr_offs` and `wait_sector_num` of `ImgConvertState` (qemu-img.c)
pub(super) struct WriteOrder {
    state: Mutex<State>,
}

struct State {
    /// The ticket that may write.
    next: u64,
    stopped: bool,
    waiting: BTreeMap<u64, Waker>,
}

impl WriteOrder {
    /// A line in which ticket 0 is the first.
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { next: 0, stopped: false, waiting: BTreeMap::new() }) }
    }

    /// Waits until all earlier tickets are done.
    ///
    /// # Errors
    /// [`Stopped`] when the copy is given up instead.
    pub(super) async fn turn(&self, ticket: u64) -> Result<Turn<'_>, Stopped> {
        poll_fn(|cx| {
            let mut state = self.state.lock();
            if state.stopped {
                return Poll::Ready(Err(Stopped));
            }
            if state.next == ticket {
                return Poll::Ready(Ok(()));
            }
            state.waiting.insert(ticket, cx.waker().clone());
            Poll::Pending
        })
        .await?;
        Ok(Turn { order: self, ticket, done: false })
    }

    /// Sends everybody away, those who wait and those who come later.
    pub(super) fn stop(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.stopped = true;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_values().for_each(Waker::wake);
    }

    fn finish(&self, ticket: u64) {
        let waker = {
            let mut state = self.state.lock();
            let next = ticket + 1;
            state.next = next;
            state.waiting.remove(&next)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl fmt::Debug for WriteOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("WriteOrder").field("next", &state.next).field("waiting", &state.waiting.len()).finish()
    }
}

/// The right to write. Dropping it without saying how it went means that the write was given up, and stops everybody.
#[must_use = "dropping the turn without finishing it stops the copy"]
#[derive(Debug)]
pub(super) struct Turn<'a> {
    order: &'a WriteOrder,
    ticket: u64,
    /// Whether the holder said how it went.
    done: bool,
}

impl Turn<'_> {
    /// Lets the next one through.
    pub(super) fn done(mut self) {
        self.done = true;
        self.order.finish(self.ticket);
    }

    /// Leaves without letting the next one through: the same ticket asks for its turn again, or stops the line.
    pub(super) fn keep(mut self) {
        self.done = true;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.order.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll<F: Future>(future: Pin<&mut F>, count: &Arc<Count>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(count))))
    }

    #[test]
    fn later_tickets_wait_and_only_the_next_is_woken() {
        let order = WriteOrder::new();
        let woken: [Arc<Count>; 3] = Default::default();
        let mut third = pin!(order.turn(2));
        assert!(poll(third.as_mut(), &woken[2]).is_pending());
        let mut second = pin!(order.turn(1));
        assert!(poll(second.as_mut(), &woken[1]).is_pending());
        let mut first = pin!(order.turn(0));
        let Poll::Ready(Ok(turn)) = poll(first.as_mut(), &woken[0]) else { panic!("ticket 0 is first") };
        turn.done();
        let counts = woken.each_ref().map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(counts, [0, 1, 0]);
        let Poll::Ready(Ok(turn)) = poll(second.as_mut(), &woken[1]) else { panic!("ticket 1 is next") };
        assert!(poll(third.as_mut(), &woken[2]).is_pending());
        turn.done();
        assert!(poll(third.as_mut(), &woken[2]).is_ready());
    }

    #[test]
    fn a_failed_turn_sends_everybody_away() {
        let order = WriteOrder::new();
        let woken = Arc::new(Count::default());
        let mut second = pin!(order.turn(1));
        assert!(poll(second.as_mut(), &woken).is_pending());
        let mut first = pin!(order.turn(0));
        let Poll::Ready(Ok(turn)) = poll(first.as_mut(), &woken) else { panic!("ticket 0 is first") };
        drop(turn);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(matches!(poll(second.as_mut(), &woken), Poll::Ready(Err(Stopped))));
        assert!(matches!(poll(pin!(order.turn(7)), &woken), Poll::Ready(Err(Stopped))));
    }
}
