//! Running the loop until a future is ready.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};

use crate::aio::core::Core;
use crate::mutant::{Mutant, is_on, unless};
use crate::primitive::Arc;
use crate::primitive::atomic::{AtomicBool, Ordering};

/// The waker of the future: not a task, since the future stays on the caller's stack.
struct Caller {
    core: Arc<Core>,
    woken: AtomicBool,
}

impl Caller {
    fn is_woken(&self) -> bool {
        // Ordering: Relaxed; the look that counts is `take_woken`.
        self.woken.load(Ordering::Relaxed)
    }

    fn take_woken(&self) -> bool {
        // Ordering: Relaxed; only spares the swap. A wake-up that is missed here has kicked the loop, so that the poll
        // which follows does not sleep.
        // Ordering: Acquire; what the waker wrote is visible to the future. [pair: block_on.woken]
        let acquire = unless(Mutant::TakeWokenWithoutAcquire, Ordering::Acquire, Ordering::Relaxed);
        self.woken.load(Ordering::Relaxed) && self.woken.swap(false, acquire)
    }
}

impl Wake for Caller {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if is_on(Mutant::KickBeforeWoken) {
            self.core.kick();
        }
        // Ordering: Release; what the waker wrote is visible to the future. A read-modify-write, so that it carries on
        // the release of earlier wakers, whose wake-up is taken with this one. [pair: block_on.woken]
        let release = unless(Mutant::WokenWithoutRelease, Ordering::Release, Ordering::Relaxed);
        if is_on(Mutant::WokenByStore) {
            self.woken.store(true, release);
        } else {
            self.woken.swap(true, release);
        }
        // Also when the flag was set: whoever set it may not have come to kick the loop yet.
        if !is_on(Mutant::KickBeforeWoken) {
            self.core.kick();
        }
    }
}

/// Polls `future` whenever it was woken, and `poll_loop` after that and until it is woken again, until it is ready.
///
/// The loop has its turn also when the future was woken while it was polled: else one that yields until a task has done
/// something would never let that task run. It does not sleep then, since the waker has kicked it.
pub(crate) fn block_on<F: Future>(core: &Arc<Core>, future: F, mut poll_loop: impl FnMut(&Core)) -> F::Output {
    let caller = Arc::new(Caller { core: Arc::clone(core), woken: AtomicBool::new(true) });
    let waker = Waker::from(Arc::clone(&caller));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if caller.take_woken()
            && let Poll::Ready(output) = future.as_mut().poll(&mut cx)
        {
            return output;
        }
        assert!(!core.is_closed() || caller.is_woken(), "the context was shut down while block_on waited in it");
        poll_loop(core);
    }
}
