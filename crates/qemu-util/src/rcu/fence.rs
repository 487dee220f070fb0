//! A pair of full fences of which one side is executed often and the other seldom.
//!
//! Where the kernel offers `membarrier`, the light side only keeps the compiler from reordering, and the heavy side has
//! the kernel execute a full barrier on every processor that runs a thread of this process. Elsewhere, and under loom,
//! both are `fence(SeqCst)`. Either way a light and a heavy fence are ordered as two SeqCst fences are.
//!
//! QEMU: `smp_mb_placeholder`, `smp_mb_global` (include/qemu/sys_membarrier.h)

use crate::primitive::atomic::{Ordering, fence};

#[cfg(not(any(qemu_loom, miri)))]
mod imp {
    use super::{Ordering, fence};
    use crate::primitive::OnceLock;
    use crate::primitive::atomic::{AtomicU8, compiler_fence};

    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1 << 0;
    const MEMBARRIER_CMD_PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
    const MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;

    const UNKNOWN: u8 = 0;
    const FULL: u8 = 1;
    const ASYMMETRIC: u8 = 2;

    /// A copy of what `is_asymmetric` has found, that costs one load to look at.
    static KIND: AtomicU8 = AtomicU8::new(UNKNOWN);

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: the call takes no pointers and changes no memory.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }

    /// Whether the kernel does the work; decided once, so that both sides agree for ever.
    fn is_asymmetric() -> bool {
        static REGISTERED: OnceLock<bool> = OnceLock::new();
        *REGISTERED.get_or_init(|| membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED))
    }

    /// The reader's side.
    #[inline(always)]
    pub(crate) fn light() {
        // Ordering: Relaxed; a copy of a decision that never changes. A thread that does not see it yet asks for it.
        if KIND.load(Ordering::Relaxed) == ASYMMETRIC {
            compiler_fence(Ordering::SeqCst);
        } else {
            light_slow();
        }
    }

    #[cold]
    fn light_slow() {
        // Ordering: Relaxed; as in `light`.
        if KIND.load(Ordering::Relaxed) == UNKNOWN {
            KIND.store(if is_asymmetric() { ASYMMETRIC } else { FULL }, Ordering::Relaxed);
        }
        // Ordering: SeqCst fence; the reader's half of the pair. [pair: rcu.light-heavy]
        fence(Ordering::SeqCst);
    }

    /// The writer's side. Never unwinds: its callers are about to free what readers may be using.
    pub(crate) fn heavy() {
        // Ordering: SeqCst fence; the writer's half of the pair, and its half of a `membarrier`. [pair: rcu.light-heavy]
        fence(Ordering::SeqCst);
        if is_asymmetric() {
            // The readers rely on it: there is no going back to fences of their own. The registration can be lost
            // all the same, in the child of a fork for instance, and a system call filter may come later.
            if !membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) && !membarrier(MEMBARRIER_CMD_GLOBAL) {
                crate::panics::abort("the kernel has stopped to offer membarrier, which RCU relies on");
            }
            // Ordering: SeqCst fence; what follows stays behind the barrier on all processors.
            fence(Ordering::SeqCst);
        }
    }
}

#[cfg(any(qemu_loom, miri))]
mod imp {
    use super::{Ordering, fence};

    pub(crate) fn light() {
        // Ordering: SeqCst fence; the reader's half of the pair. [pair: rcu.light-heavy]
        fence(Ordering::SeqCst);
    }

    pub(crate) fn heavy() {
        // Ordering: SeqCst fence; the writer's half of the pair. [pair: rcu.light-heavy]
        fence(Ordering::SeqCst);
    }
}

pub(super) use imp::{heavy, light};
