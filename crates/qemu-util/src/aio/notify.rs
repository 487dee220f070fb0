//! Waking the loop when it sleeps, and only then: the protocol whose bug this project started from.
//!
//! # Fields
//!
//! | field | writer | meaning |
//! |---|---|---|
//! | `notify_me` | the home thread only | not 0: the loop sleeps or is about to; 2 for each level of nested polling |
//! | `notified` | wakers set it, the home thread clears it | the eventfd was written, or is just being written, since the last accept |
//! | `eventfd` | wakers write it, the home thread drains it | what the loop sleeps on |
//!
//! # The protocol
//!
//! | sleeper ([`Notifier::announce`]) | waker ([`Notifier::notify`]) |
//! |---|---|
//! | `notify_me += 2` (relaxed; one writer) | publish the work: push a bottom half or a task (release) |
//! | `fence(SeqCst)` | `fence(SeqCst)` |
//! | look at bottom halves, woken tasks, kicks, timers, handlers | look at `notify_me` |
//! | nothing there: sleep on the eventfd | not 0: write the eventfd |
//! | `notify_me -= 2` (release) | |
//! | accept: drain the eventfd, clear `notified` | |
//!
//! One of the two fences comes first in their total order. If it is the sleeper's, the waker sees `notify_me`; if it is
//! the waker's, the sleeper sees the work. A SeqCst read-modify-write of `notify_me` without the fence is not enough: on
//! a machine with load-linked and store-conditional the sleeper's look may be satisfied before its store is visible.
//!
//! # The accept
//!
//! Of many wakers that find the loop asleep only the first writes the eventfd; `notified` says that it has been done.
//! The invariant when the loop goes to sleep: `notified` is clear, or the eventfd is readable, or somebody is about to
//! write it. Accepting therefore drains first and clears afterwards, never the other way round: between a clear and a
//! drain the write of a new waker could vanish while its `notified` stays. Only a blocking poll accepts; a poll that
//! does not block has no business with the eventfd.
//!
//! QEMU: `aio_notify`, `aio_notify_accept` (util/async.c), after commit 5710a3e09f

use std::io;

use super::eventfd::EventFd;
use crate::mutant::{Mutant, fence_unless, is_on};
use crate::primitive::CachePadded;
use crate::primitive::atomic::{AtomicBool, AtomicU32, Ordering};

/// How much one level of polling adds; 1 is what QEMU uses for its GSource.
const POLLING: u32 = 2;

/// The notifier of a context; see the module head.
#[derive(Debug)]
pub(crate) struct Notifier {
    notify_me: CachePadded<AtomicU32>,
    notified: AtomicBool,
    eventfd: EventFd,
}

impl Notifier {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            notify_me: CachePadded(AtomicU32::new(0)),
            notified: AtomicBool::new(false),
            eventfd: EventFd::new()?,
        })
    }

    pub(crate) fn eventfd(&self) -> &EventFd {
        &self.eventfd
    }

    /// Called by any thread after it has published work for the loop.
    #[inline]
    pub(crate) fn notify(&self) {
        // Ordering: SeqCst fence; the published work before the look at `notify_me`. [pair: aio.notify-sleep]
        fence_unless(Mutant::NotifyWithoutFence);
        // Ordering: Relaxed; ordered by the fence.
        if self.notify_me.load(Ordering::Relaxed) != 0 {
            self.write_once();
        }
    }

    /// As [`notify`](Self::notify), for the home thread inside a poll, which needs no fence against itself.
    ///
    /// `notify_me` can only be set here when a signal handler interrupts the loop between its last look and its sleep.
    #[inline]
    pub(crate) fn notify_from_home(&self) {
        // Ordering: Relaxed; this thread is the only writer.
        if self.notify_me.load(Ordering::Relaxed) != 0 {
            self.write_once();
        }
    }

    #[cold]
    fn write_once(&self) {
        // Ordering: Relaxed; the fence of `notify` releases the work to the accept that clears the flag, and a
        // read-modify-write carries on the release of earlier wakers. [pair: aio.notified]
        if !self.notified.swap(true, Ordering::Relaxed) && !is_on(Mutant::NotifyNeverWrites) {
            self.eventfd.signal();
        }
    }

    /// Called by the home thread before its last look for work; drop the result when the sleep is over.
    pub(crate) fn announce(&self) -> Announced<'_> {
        if is_on(Mutant::AnnounceByReadModifyWrite) {
            // Ordering: SeqCst, and it does not order what it must: the relaxed look that follows may be satisfied before
            // the store of this read-modify-write is visible. That is the defect that this mutant puts back.
            self.notify_me.fetch_add(POLLING, Ordering::SeqCst);
            return Announced { notifier: self };
        }
        // Ordering: Relaxed; the home thread is the only writer, and the fence below orders the store.
        let notify_me = self.notify_me.load(Ordering::Relaxed);
        let outer = if is_on(Mutant::AnnounceDoesNotCount) { 0 } else { notify_me };
        self.notify_me.store(outer + POLLING, Ordering::Relaxed);
        // Ordering: SeqCst fence; `notify_me` before the caller's look for work. [pair: aio.notify-sleep]
        fence_unless(Mutant::AnnounceWithoutFence);
        Announced { notifier: self }
    }

    /// Called by the home thread after a blocking poll; `readable` says that the eventfd was reported as readable.
    pub(crate) fn accept(&self, readable: bool) {
        if is_on(Mutant::AcceptClearsBeforeDraining) {
            self.clear();
        }
        if readable {
            self.eventfd.drain();
        }
        if !is_on(Mutant::AcceptClearsBeforeDraining) {
            self.clear();
        }
    }

    fn clear(&self) {
        // Ordering: Relaxed; a `true` that is missed here belongs to a write of the eventfd that was not drained
        // before, so that the next sleep ends at once and the flag is cleared then.
        if self.notified.load(Ordering::Relaxed) {
            // Ordering: Acquire; the dispatch that follows sees the work of wakers that relied on an earlier writer.
            // No wake-up depends on it: the fence of such a waker precedes the swap here, and so the fence of the next
            // announcement, after which the work is seen at the latest. [pair: aio.notified]
            self.notified.swap(false, Ordering::Acquire);
        }
    }
}

impl Notifier {
    /// `notify_me`, `notified`, and whether the eventfd is readable: for information, from any thread.
    pub(super) fn look(&self) -> (u32, bool, bool) {
        // Ordering: Relaxed, both; for information only.
        let notify_me = self.notify_me.load(Ordering::Relaxed);
        (notify_me, self.notified.load(Ordering::Relaxed), self.eventfd.is_readable())
    }
}

/// The loop sleeps, or is about to.
#[must_use]
pub(crate) struct Announced<'a> {
    notifier: &'a Notifier,
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        // Ordering: Relaxed; one writer.
        let notify_me = self.notifier.notify_me.load(Ordering::Relaxed);
        // Ordering: Release; the sleep and the looks before it are over before wakers may skip the eventfd. No wake-up
        // depends on it: this store happens only after the sleep has ended, whatever its ordering. A waker that still
        // sees the old value writes needlessly; one that sees the new value has its fence between its push and that
        // look, and so before the fence of the next announcement, after which the loop sees the push.
        // [pair: aio.notify-sleep]
        self.notifier.notify_me.store(notify_me - POLLING, Ordering::Release);
    }
}
