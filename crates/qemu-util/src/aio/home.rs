//! Which thread a context belongs to, and whether that thread is inside its loop.
//!
//! One word: the thread's token, shifted left by one, and the `ENTERED` bit.
//!
//! | from | to | by | ordering |
//! |---|---|---|---|
//! | `me` | `me + ENTERED` | the home thread, [`Home::enter`] | none needed: it is its own word |
//! | `me + ENTERED` | `me` | the home thread, dropping the outermost [`Entered`] | release |
//! | `other` | `me` | any thread, [`Home::bind`] | acquire |
//!
//! While `ENTERED` is set nobody else can become the home thread; what only the home thread may do (write `notify_me`,
//! take bottom halves, run tasks) is done while it holds an [`Entered`].

use crate::mutant::{Mutant, either, is_on, unless};
use crate::primitive::atomic::{AtomicU64, Ordering};
use crate::primitive::thread;

const ENTERED: u64 = 1;

/// The word; see the module head.
#[derive(Debug)]
pub(crate) struct Home {
    word: AtomicU64,
}

fn mine() -> u64 {
    thread::token() << 1
}

impl Home {
    /// Bound to the calling thread.
    pub(crate) fn here() -> Self {
        Self { word: AtomicU64::new(mine()) }
    }

    /// Binds the context to the calling thread; false when another thread is inside the loop.
    pub(crate) fn bind(&self) -> bool {
        // Ordering: Relaxed; the exchange below decides.
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & !ENTERED == mine() {
                return true;
            }
            if word & ENTERED != 0 && !is_on(Mutant::HomeBindsWhileEntered) {
                return false;
            }
            // Ordering: Acquire; what the previous home thread did in its loop happened before. [pair: aio.home]
            let acquire = unless(Mutant::HomeBindWithoutAcquire, Ordering::Acquire, Ordering::Relaxed);
            match self.word.compare_exchange_weak(word, mine(), acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
    }

    /// Whether the calling thread is the home thread.
    pub(crate) fn is_here(&self) -> bool {
        // Ordering: Relaxed; only this thread writes this thread's token, so that no other thread's write can make the
        // answer true, and this thread sees its own.
        self.word.load(Ordering::Relaxed) & !ENTERED == mine()
    }

    /// Whether the calling thread is inside the loop.
    #[inline]
    pub(crate) fn is_entered_here(&self) -> bool {
        // Ordering: Relaxed; as in `is_here`.
        self.word.load(Ordering::Relaxed) == mine() | ENTERED
    }

    /// Whether any thread is inside the loop; for information.
    pub(crate) fn is_entered(&self) -> bool {
        // Ordering: Relaxed; for information only.
        self.word.load(Ordering::Relaxed) & ENTERED != 0
    }

    /// Enters the loop, at any level of nesting; none when the calling thread is not the home thread.
    pub(crate) fn enter(&self) -> Option<Entered<'_>> {
        if self.is_entered_here() {
            return Some(Entered { home: self, outermost: false });
        }
        let me = mine();
        // Ordering: Relaxed; the word holds this thread's token because this thread wrote it. If another was the home
        // thread before, it was `bind` that acquired what that one did.
        let exchange = || self.word.compare_exchange(me, me | ENTERED, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        let entered = either(Mutant::HomeEntersInTwoSteps, exchange, || self.enter_in_two_steps(me));
        // Lazily: dropping an `Entered` leaves the loop.
        entered.then(|| Entered { home: self, outermost: true })
    }

    /// What a mutant does.
    fn enter_in_two_steps(&self, me: u64) -> bool {
        // Ordering: Relaxed; as what it stands for.
        let is_home = self.word.load(Ordering::Relaxed) == me;
        if is_home {
            self.word.store(me | ENTERED, Ordering::Relaxed);
        }
        is_home
    }
}

/// Proof that the calling thread is inside the loop of its context.
#[must_use]
pub(crate) struct Entered<'a> {
    home: &'a Home,
    outermost: bool,
}

impl Entered<'_> {
    pub(crate) fn is_outermost(&self) -> bool {
        self.outermost
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if self.outermost {
            // Ordering: Release; the next home thread sees what was done here. [pair: aio.home]
            let release = unless(Mutant::HomeLeaveWithoutRelease, Ordering::Release, Ordering::Relaxed);
            self.home.word.store(mine(), release);
        }
    }
}

#[cfg(all(test, qemu_loom))]
pub(crate) mod loom_tests;
