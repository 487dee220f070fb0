//! A thread that a library makes is nobody's signal handler.
//!
//! A new thread inherits the signal mask of whoever makes it, and for the thread of `call_rcu` or a worker that is whichever
//! thread is the first to need one. A program that has blocked its signals everywhere, in order to take them with
//! `sigwait` or a signalfd, would find them delivered to a thread that it does not know.
//!
//! ```
//! use qemu_util::signals::Blocked;
//!
//! let worker = {
//!     let _blocked = Blocked::here();
//!     std::thread::spawn(|| 42)
//! }; // The calling thread takes signals again; the worker never does.
//! assert_eq!(worker.join().expect("it does not panic"), 42);
//! ```
//!
//! QEMU: `qemu_thread_create` (util/qemu-thread-posix.c)

#[cfg(not(any(qemu_loom, miri)))]
mod imp {
    use std::marker::PhantomData;

    use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};

    /// Not blocked: the processor raises them for what the thread itself does.
    const SYNCHRONOUS: [Signal; 4] = [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL];

    /// While it lives, threads that the calling thread makes begin with their signals blocked, all but those that the
    /// processor raises for what a thread itself does.
    #[must_use = "the calling thread takes signals again when it is dropped"]
    #[derive(Debug)]
    pub struct Blocked {
        /// None: nothing was changed.
        previous: Option<SigSet>,
        /// Not `Send`: the mask is the thread's.
        _thread: PhantomData<*const ()>,
    }

    impl Blocked {
        /// Blocks the signals of the calling thread until the value is dropped. Where the system refuses, nothing changes.
        pub fn here() -> Self {
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

#[cfg(any(qemu_loom, miri))]
mod imp {
    /// In a model there are no signals, and miri does not know them.
    #[must_use = "the calling thread takes signals again when it is dropped"]
    #[derive(Debug)]
    pub struct Blocked;

    impl Blocked {
        /// Does nothing.
        pub fn here() -> Self {
            Self
        }
    }
}

pub use imp::Blocked;

#[cfg(all(test, not(any(qemu_loom, miri))))]
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
