//! A thread that a library makes is nobody's signal handler.
//!
//! A new thread inherits the signal mask of whoever makes it, and that is whichever thread calls `call_rcu` first. A
//! program that has blocked its signals everywhere, in order to take them with `sigwait` or a signalfd, would find them
//! delivered to a thread that it does not know.
//!
//! QEMU: `qemu_thread_create` (util/qemu-thread-posix.c)

#[cfg(not(qemu_loom))]
mod imp {
    use std::marker::PhantomData;

    use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};

    /// Not blocked: the processor raises them for what the thread itself does.
    const SYNCHRONOUS: [Signal; 4] = [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL];

    /// While it lives, threads that the calling thread makes begin with their signals blocked.
    #[must_use]
    pub(crate) struct Blocked {
        /// None: nothing was changed.
        previous: Option<SigSet>,
        /// Not `Send`: the mask is the thread's.
        _thread: PhantomData<*const ()>,
    }

    impl Blocked {
        pub(crate) fn here() -> Self {
            let mut signals = SigSet::all();
            SYNCHRONOUS.into_iter().for_each(|signal| signals.remove(signal));
            let mut previous = SigSet::empty();
            let changed = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&signals), Some(&mut previous));
            Self { previous: changed.is_ok().then_some(previous), _thread: PhantomData }
        }
    }

    impl Drop for Blocked {
        fn drop(&mut self) {
            if let Some(previous) = &self.previous {
                // The only possible failure is an invalid argument, and the mask comes from the kernel.
                let _never = previous.thread_set_mask();
            }
        }
    }
}

#[cfg(qemu_loom)]
mod imp {
    /// In a model there are no signals.
    #[must_use]
    pub(crate) struct Blocked;

    impl Blocked {
        pub(crate) fn here() -> Self {
            Self
        }
    }
}

pub(super) use imp::Blocked;

#[cfg(all(test, not(qemu_loom)))]
mod tests {
    use nix::sys::signal::{SigSet, Signal};

    #[test]
    fn the_thread_that_calls_takes_no_signals_and_its_maker_still_does() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let before = SigSet::thread_get_mask().unwrap();
        crate::rcu::call_rcu(move || sender.send((std::thread::current().id(), SigSet::thread_get_mask())).unwrap());
        let (id, mask) = receiver.recv().unwrap();
        let mask = mask.unwrap();
        // Unless a test that runs at the same time has this very function called on a thread of its own.
        let by_server = id != std::thread::current().id();
        assert!(!by_server || mask.contains(Signal::SIGTERM) && !mask.contains(Signal::SIGSEGV));
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }
}
