//! The reader's side: a slot for each thread, written by that thread alone.
//!
//! | field of a slot | writer | meaning |
//! |---|---|---|
//! | `counter` | the owner | 0 outside sections, else the domain's counter when the outermost one began |
//! | `waiting` | the writers; the owner clears it | a writer wants to be woken when the owner leaves |
//! | `depth` | the owner; nobody else reads it | how many guards live; and [`ORPHANED`] |
//!
//! Slots are never freed but used again by later threads, so that guards and writers may keep plain references. There
//! are as many as threads have been inside the registry at the same time.

use std::marker::PhantomData;

use super::{domain, fence};
use crate::mutant::{Mutant, either, unless};
use crate::primitive::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::primitive::{CachePadded, Mutex, thread_local};

/// What one thread tells the writers; on cache lines of its own.
pub(super) struct Slot {
    counter: AtomicU64,
    waiting: AtomicBool,
    depth: AtomicU32,
}

/// In `depth`: the thread's locals are gone, so that the slot is to be given back with the last guard. Kept there and
/// not in a field of its own, so that a section which is entered and left in the usual way does not look at it.
const ORPHANED: u32 = 1 << 31;

impl Slot {
    /// Whether the owner may be inside a section that began before the counter became `counter`.
    pub(super) fn holds_up(&self, counter: u64) -> bool {
        // Ordering: Acquire; when the owner has left, its reads are over before the writer frees what they read.
        // A relaxed load would be a data race by the language, which arm64 happens to hide. [pair: rcu.leave-free]
        let acquire = unless(Mutant::RcuScanWithoutAcquire, Ordering::Acquire, Ordering::Relaxed);
        let seen = self.counter.load(acquire);
        seen != 0 && seen != counter
    }

    pub(super) fn set_waiting(&self, waiting: bool) {
        // Ordering: Relaxed; setting it is ordered by the writer's heavy fence, clearing it too late costs a wake-up.
        // [pair: rcu.light-heavy]
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    #[inline]
    fn enter(&self) {
        // Ordering: Relaxed, both; only the owner uses `depth`.
        let depth = self.depth.load(Ordering::Relaxed);
        if depth == 0 {
            self.depth.store(1, Ordering::Relaxed);
            self.begin();
        } else {
            self.enter_deeper(depth);
        }
    }

    #[inline(never)]
    fn enter_deeper(&self, depth: u32) {
        // Leaking guards is safe, and 2^31 of them would make the section look as if it were over.
        if depth & !ORPHANED == !ORPHANED {
            crate::panics::abort("an RCU read-side section is nested 2^31 times");
        }
        // Ordering: Relaxed; only the owner uses `depth`.
        self.depth.store(depth + 1, Ordering::Relaxed);
        if depth == ORPHANED {
            self.begin();
        }
    }

    /// The outermost section begins.
    #[inline(always)]
    fn begin(&self) {
        // Ordering: Relaxed, in `current` and here; ordered by the fence below. An old counter is as good as a new
        // one: the writers wait for it.
        self.counter.store(domain().grace.current(), Ordering::Relaxed);
        // The slot before every read of the section. [pair: rcu.light-heavy]
        either(Mutant::RcuEnterWithoutFence, fence::light, || ());
    }

    #[inline]
    fn leave(&'static self) {
        // Ordering: Relaxed, both; only the owner uses `depth`.
        let depth = self.depth.load(Ordering::Relaxed) - 1;
        self.depth.store(depth, Ordering::Relaxed);
        if depth == 0 {
            self.end();
        } else if depth == ORPHANED {
            self.leave_for_good();
        }
    }

    #[cold]
    fn leave_for_good(&'static self) {
        self.end();
        domain().registry.give_back(self);
    }

    /// The outermost section ends.
    #[inline(always)]
    fn end(&self) {
        // Ordering: Release; the reads of the section are over before a writer sees the 0. [pair: rcu.leave-free]
        self.counter.store(0, unless(Mutant::RcuLeaveWithoutRelease, Ordering::Release, Ordering::Relaxed));
        // The 0 before the look at `waiting`. [pair: rcu.light-heavy]
        either(Mutant::RcuLeaveWithoutFence, fence::light, || ());
        // Ordering: Relaxed; ordered by the fence.
        if self.waiting.load(Ordering::Relaxed) {
            self.wake_writer();
        }
    }

    #[cold]
    fn wake_writer(&self) {
        // In this order: were the flag taken back later, that could undo what the writer, woken, says for its next look.
        // Ordering: Relaxed; the event's fence orders it before whatever the woken writer does.
        let clear = || self.waiting.store(false, Ordering::Relaxed);
        let wake = || domain().grace.reader_left();
        either(Mutant::RcuWakesBeforeClearing, || (clear(), wake()), || (wake(), clear()));
    }

    fn is_inside(&self) -> bool {
        // Ordering: Relaxed; only the owner asks.
        self.depth.load(Ordering::Relaxed) & !ORPHANED != 0
    }

    #[cfg(not(qemu_loom))]
    fn orphan(&'static self) {
        if self.is_inside() {
            // Ordering: Relaxed; only the owner uses it.
            self.depth.fetch_or(ORPHANED, Ordering::Relaxed);
        } else {
            domain().registry.give_back(self);
        }
    }
}

pub(super) type SlotRef = &'static CachePadded<Slot>;

/// All slots of the domain.
pub(super) struct Registry(Mutex<Slots>);

struct Slots {
    used: Vec<SlotRef>,
    free: Vec<SlotRef>,
}

impl Registry {
    #[cfg(not(qemu_loom))]
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Slots { used: Vec::new(), free: Vec::new() }))
    }

    #[cfg(qemu_loom)]
    pub(super) fn new() -> Self {
        Self(Mutex::new(Slots { used: Vec::new(), free: Vec::new() }))
    }

    /// A slot for the calling thread.
    fn hand_out(&self, orphaned: bool) -> SlotRef {
        let mut slots = self.0.lock();
        let slot = slots.free.pop().unwrap_or_else(|| {
            Box::leak(Box::new(CachePadded(Slot {
                counter: AtomicU64::new(0),
                waiting: AtomicBool::new(false),
                depth: AtomicU32::new(0),
            })))
        });
        // Ordering: Relaxed; the lock hands the slot from its last owner to this one.
        slot.depth.store(if orphaned { ORPHANED } else { 0 }, Ordering::Relaxed);
        slots.used.push(slot);
        slot
    }

    fn give_back(&self, slot: &'static Slot) {
        let mut slots = self.0.lock();
        if let Some(index) = slots.used.iter().position(|used| std::ptr::eq(&raw const used.0, slot)) {
            let slot = slots.used.swap_remove(index);
            slots.free.push(slot);
        }
    }

    /// The slots that are handed out now. A thread that gets one later begins its sections after this call, and sees
    /// what the caller wrote before, by the lock.
    pub(super) fn snapshot(&self) -> Vec<SlotRef> {
        self.0.lock().used.clone()
    }
}

/// Gives the slot back when the thread ends.
///
/// Not in a model: loom destroys statics, the domain among them, before the locals of the first thread.
struct Local(SlotRef);

#[cfg(not(qemu_loom))]
impl Drop for Local {
    fn drop(&mut self) {
        self.0.0.orphan();
    }
}

thread_local! {
    static LOCAL: Local = Local(domain().registry.hand_out(false));
}

/// A read-side section: while it lives, what the thread reads from an [`RcuCell`](super::RcuCell) stays.
///
/// Guards nest, in any order of dropping. A guard that is leaked keeps everything that is replaced later from being
/// freed, and everybody who waits for a grace period waiting.
///
/// It belongs to its thread, and so does whatever holds it; a task that holds one across an `await` is not `Send`:
///
/// ```compile_fail,E0277
/// fn send_elsewhere(_: impl Send) {}
/// send_elsewhere(qemu_util::rcu::read_lock());
/// ```
///
/// QEMU: `RCU_READ_LOCK_GUARD` (include/qemu/rcu.h)
#[must_use = "the section ends when the guard is dropped"]
pub struct RcuGuard {
    slot: SlotRef,
    /// Not `Send`: it belongs to the thread.
    _thread: PhantomData<*const ()>,
}

/// Begins a read-side section of the calling thread. Writes no memory that another thread writes.
///
/// A section should be short, and may not wait for a grace period.
///
/// QEMU: `rcu_read_lock` (include/qemu/rcu.h)
#[inline]
pub fn read_lock() -> RcuGuard {
    // While the thread's locals are destroyed there is none left; the section then has a slot to itself.
    let slot = LOCAL.try_with(|local| local.0).unwrap_or_else(|_| domain().registry.hand_out(true));
    slot.enter();
    RcuGuard { slot, _thread: PhantomData }
}

/// Whether the calling thread is inside a section, as far as its own slot knows.
pub(super) fn is_inside_section() -> bool {
    LOCAL.try_with(|local| local.0.is_inside()).unwrap_or(false)
}

/// Makes the calling thread's section look as deep as can be.
#[cfg(all(test, not(qemu_loom)))]
pub(super) fn nest_to_the_limit() {
    // Ordering: Relaxed; only the owner uses it.
    LOCAL.with(|local| local.0.depth.store(u32::MAX, Ordering::Relaxed));
}

impl Drop for RcuGuard {
    #[inline]
    fn drop(&mut self) {
        self.slot.0.leave();
    }
}

impl std::fmt::Debug for RcuGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RcuGuard").finish_non_exhaustive()
    }
}

/// What a slot says; for information.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotState {
    /// 0: outside. Else the domain's counter when the section began.
    pub(super) counter: u64,
    /// A writer wants to be woken when the owner leaves.
    pub(super) waited_for: bool,
}

/// For information, from any thread.
impl Registry {
    /// What the slots say that are handed out; none when the register is locked.
    pub(super) fn try_states(&self) -> Option<Vec<SlotState>> {
        // Ordering: Relaxed, both; for information only.
        let state = |slot: &SlotRef| SlotState {
            counter: slot.counter.load(Ordering::Relaxed),
            waited_for: slot.waiting.load(Ordering::Relaxed),
        };
        self.0.try_lock().map(|slots| slots.used.iter().map(state).collect())
    }
}
