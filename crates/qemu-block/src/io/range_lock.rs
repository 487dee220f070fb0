//! A lock over byte ranges: shared or exclusive, granted in the order of arrival where ranges overlap.
//!
//! Nodes use it to serialise read-modify-write cycles with overlapping writes; format drivers use it for guest
//! clusters whose mapping is about to change. Requests that do not overlap never wait for one another.
//!
//! QEMU: `BdrvTrackedRequest` (block/io.c) and `in_flight` lists of drivers.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use qemu_util::primitive::Mutex;

/// How a range is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeMode {
    /// Others may hold overlapping ranges in shared mode too.
    Shared,
    /// Nobody else holds an overlapping range.
    Exclusive,
}

struct Entry {
    id: u64,
    range: Range<u64>,
    mode: RangeMode,
    /// `None` once granted.
    waiting: Option<Option<Waker>>,
}

impl Entry {
    fn conflicts(&self, range: &Range<u64>, mode: RangeMode) -> bool {
        let overlap = self.range.start < range.end && range.start < self.range.end;
        overlap && (self.mode == RangeMode::Exclusive || mode == RangeMode::Exclusive)
    }
}

#[derive(Default)]
struct Queue {
    /// Granted and waiting entries in the order of arrival. Short: one per request in flight.
    entries: VecDeque<Entry>,
    n_waiting: usize,
    next_id: u64,
}

impl Queue {
    /// Whether an entry before position `end` conflicts. Waiting ones count, so that nobody is overtaken.
    fn blocked(&self, range: &Range<u64>, mode: RangeMode, end: usize) -> bool {
        self.entries.iter().take(end).any(|entry| entry.conflicts(range, mode))
    }

    /// Grants every waiting entry that nothing before it conflicts with; returns their wakers.
    fn grant(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for at in 0..self.entries.len() {
            let entry = &self.entries[at];
            if entry.waiting.is_none() || self.blocked(&entry.range, entry.mode, at) {
                continue;
            }
            wakers.extend(self.entries[at].waiting.take().flatten());
            self.n_waiting -= 1;
        }
        wakers
    }

    fn remove(&mut self, id: u64) -> Vec<Waker> {
        if let Some(at) = self.entries.iter().position(|entry| entry.id == id) {
            let waited = self.entries.remove(at).is_some_and(|entry| entry.waiting.is_some());
            self.n_waiting -= usize::from(waited);
        }
        // The usual case: nobody waits for anything.
        if self.n_waiting == 0 { Vec::new() } else { self.grant() }
    }
}

/// The lock. See the module's description.
#[derive(Default)]
pub struct RangeLock {
    queue: Mutex<Queue>,
}

impl RangeLock {
    /// A lock that nobody holds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until nothing that conflicts is held or was asked for earlier, then holds `range`.
    ///
    /// Dropping the future gives the place in the queue up.
    pub async fn lock(&self, range: Range<u64>, mode: RangeMode) -> RangeGuard<'_> {
        let guard = {
            let mut queue = self.lock_queue();
            let id = queue.next_id;
            queue.next_id += 1;
            let blocked = queue.blocked(&range, mode, usize::MAX);
            queue.n_waiting += usize::from(blocked);
            queue.entries.push_back(Entry { id, range, mode, waiting: blocked.then_some(None) });
            RangeGuard { lock: self, id }
        };
        // The guard exists before the wait, so dropping this future dequeues the entry.
        Granted { guard: &guard }.await;
        guard
    }

    /// Holds `range` if that is possible at once.
    pub fn try_lock(&self, range: Range<u64>, mode: RangeMode) -> Option<RangeGuard<'_>> {
        let mut queue = self.lock_queue();
        if queue.blocked(&range, mode, usize::MAX) {
            return None;
        }
        let id = queue.next_id;
        queue.next_id += 1;
        queue.entries.push_back(Entry { id, range, mode, waiting: None });
        Some(RangeGuard { lock: self, id })
    }

    fn lock_queue(&self) -> impl std::ops::DerefMut<Target = Queue> + '_ {
        self.queue.lock()
    }
}

impl fmt::Debug for RangeLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RangeLock").field("entries", &self.lock_queue().entries.len()).finish()
    }
}

/// A held range; dropping it lets the next ones in.
#[must_use = "the range is released when the guard is dropped"]
pub struct RangeGuard<'a> {
    lock: &'a RangeLock,
    id: u64,
}

impl fmt::Debug for RangeGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RangeGuard").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for RangeGuard<'_> {
    fn drop(&mut self) {
        // Wakers run outside the mutex: a waker may do anything, even lock this again.
        let wakers = self.lock.lock_queue().remove(self.id);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Completes when the entry of `guard` is granted.
struct Granted<'g, 'a> {
    guard: &'g RangeGuard<'a>,
}

impl Future for Granted<'_, '_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.guard.lock.lock_queue();
        let Some(entry) = queue.entries.iter_mut().find(|entry| entry.id == self.guard.id) else {
            return Poll::Ready(());
        };
        match &mut entry.waiting {
            None => Poll::Ready(()),
            Some(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(all(test, not(qemu_loom)))]
mod tests {
    use std::pin::pin;

    use super::*;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn only_conflicting_overlaps_wait() {
        let lock = RangeLock::new();
        let shared = lock.try_lock(0..10, RangeMode::Shared).expect("free");
        let _other = lock.try_lock(5..15, RangeMode::Shared).expect("both shared");
        assert!(lock.try_lock(9..20, RangeMode::Exclusive).is_none());
        let _far = lock.try_lock(15..20, RangeMode::Exclusive).expect("no overlap");
        drop(shared);
        assert!(lock.try_lock(0..5, RangeMode::Exclusive).is_some());
    }

    #[test]
    fn waiters_are_served_in_order_and_may_leave() {
        let lock = RangeLock::new();
        let first = lock.try_lock(0..10, RangeMode::Shared).expect("free");
        let mut writer = pin!(lock.lock(0..10, RangeMode::Exclusive));
        assert!(poll(writer.as_mut()).is_pending());
        // A reader that comes later does not overtake the waiting writer.
        let mut reader = Box::pin(lock.lock(0..10, RangeMode::Shared));
        assert!(poll(reader.as_mut()).is_pending());
        drop(first);
        let Poll::Ready(held) = poll(writer.as_mut()) else { panic!("the writer is next") };
        assert!(poll(reader.as_mut()).is_pending());
        drop(reader);
        drop(held);
        assert!(lock.try_lock(0..10, RangeMode::Exclusive).is_some());
    }
}
