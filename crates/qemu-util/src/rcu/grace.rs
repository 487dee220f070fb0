//! Grace periods: waiting until every section that had begun is over.

use super::reader::SlotRef;
use super::{domain, fence, reader};
use crate::event::{EventState, QemuEvent};
use crate::mutant::{Mutant, either, is_on};
use crate::primitive::Mutex;
use crate::primitive::atomic::{AtomicU64, Ordering};

/// The step from one grace period to the next. Bit 0 of the counter is always set: 0 in a slot means "outside".
///
/// With 64 bits the counter never comes round, so that one phase is enough.
const STEP: u64 = 2;

/// The counter, and what the waiting writer sleeps on.
pub(super) struct Grace {
    counter: AtomicU64,
    /// One writer waits at a time.
    writer: Mutex<()>,
    /// Set by a reader that leaves while the writer waits for it.
    left: QemuEvent,
}

impl Grace {
    #[cfg(not(qemu_loom))]
    pub(super) const fn new() -> Self {
        Self { counter: AtomicU64::new(1), writer: Mutex::new(()), left: QemuEvent::new(false) }
    }

    #[cfg(qemu_loom)]
    pub(super) fn new() -> Self {
        Self { counter: AtomicU64::new(1), writer: Mutex::new(()), left: QemuEvent::new(false) }
    }

    /// The counter, for a reader that enters.
    #[inline]
    pub(super) fn current(&self) -> u64 {
        // Ordering: Relaxed; the reader's fence follows. [pair: rcu.light-heavy]
        self.counter.load(Ordering::Relaxed)
    }

    /// Called by a reader that has left and saw that a writer waits for it.
    pub(super) fn reader_left(&self) {
        self.left.set();
    }

    fn wait_for_readers(&self) {
        let _one_at_a_time = self.writer.lock();
        // What the caller wrote, the new pointer, before the readers' slots are read and before the counter is written:
        // a reader that has the new counter sees the new pointer. [pair: rcu.light-heavy]
        either(Mutant::RcuCountsWithoutFence, fence::heavy, || ());
        // Ordering: Relaxed; the lock makes this thread the only writer, and the heavy fences order the store.
        let step = if is_on(Mutant::RcuCountsNothing) { 0 } else { STEP };
        let counter = self.counter.load(Ordering::Relaxed) + step;
        self.counter.store(counter, Ordering::Relaxed);

        let mut readers = domain().registry.snapshot();
        loop {
            // The event is reset before the slots are looked at: a reader that leaves after that look sets it again.
            either(Mutant::RcuResetsAfterScan, || self.left.reset(), || ());
            either(Mutant::RcuWaitsAfterScan, || announce(&readers), || ());
            // `waiting` before the look at the slots, and the slots before anything that the caller frees.
            // [pair: rcu.light-heavy]
            either(Mutant::RcuScanWithoutFence, fence::heavy, || ());
            readers.retain(|slot| {
                let holds_up = slot.holds_up(counter);
                if !holds_up {
                    slot.set_waiting(false);
                }
                holds_up
            });
            if readers.is_empty() {
                return;
            }
            either(Mutant::RcuWaitsAfterScan, || (), || announce(&readers));
            either(Mutant::RcuResetsAfterScan, || (), || self.left.reset());
            self.left.wait();
        }
    }
}

/// Says to the readers that a writer waits for them.
fn announce(readers: &[SlotRef]) {
    readers.iter().for_each(|slot| slot.set_waiting(true));
}

/// Waits until every read-side section that had begun when this was called is over.
///
/// Memory ordering: what the caller wrote before is visible to sections that go on or begin afterwards; everything that
/// the sections read was read before this returns.
///
/// # Panics
/// Inside a section of the calling thread: it would wait for itself.
///
/// QEMU: `synchronize_rcu` (util/rcu.c)
pub fn synchronize() {
    assert!(!reader::is_inside_section(), "rcu::synchronize is called inside a read-side section of the same thread");
    domain().grace.wait_for_readers();
}

/// For information, from any thread.
impl Grace {
    /// Whether a writer waits for readers.
    pub(super) fn is_locked(&self) -> bool {
        self.writer.try_lock().is_none()
    }

    /// What it sleeps on.
    pub(super) fn left_state(&self) -> EventState {
        self.left.state()
    }
}
