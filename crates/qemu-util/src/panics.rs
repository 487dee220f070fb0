//! What to do about panics that may not go on: end them, or end the process.

#[cfg(not(any(qemu_loom, qemu_shuttle)))]
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls `function` and ends its panic here; the panic hook has reported it.
///
/// For foreign code among other people's: one waker, one function, one task that panics is not to take the others with
/// it. The payload is leaked, because its own destructor may panic, outside of what is caught.
#[cfg(not(any(qemu_loom, qemu_shuttle)))]
pub(crate) fn contain(function: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(function)) {
        std::mem::forget(payload);
    }
}

/// Calls `function`. In a model a panic is a defect that was found: nothing may contain it.
#[cfg(any(qemu_loom, qemu_shuttle))]
pub(crate) fn contain(function: impl FnOnce()) {
    function();
}

/// Reports `reason` through the panic hook and aborts the process.
///
/// For states in which going on, or unwinding through code that trusts them, would be undefined behaviour.
#[cold]
pub(crate) fn abort(reason: &str) -> ! {
    contain(|| panic!("{reason}; the process is aborted"));
    std::process::abort()
}

#[cfg(all(test, not(qemu_loom)))]
pub(crate) mod tests {
    use std::process::Command;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the payload of a panic panics in turn");
        }
    }

    /// Panics with a payload that panics when it is dropped.
    pub(crate) fn panic_with_bomb() {
        std::panic::panic_any(Bomb);
    }

    /// Runs `deed` in a process of its own, again from the start of the test `name`, and expects it to abort.
    pub(crate) fn assert_aborts(name: &str, deed: impl FnOnce()) {
        const MARK: &str = "QEMU_UTIL_TEST_ABORT";
        if std::env::var(MARK).is_ok_and(|chosen| chosen == name) {
            return deed();
        }
        let this = std::env::current_exe().unwrap();
        let output = Command::new(this).args(["--exact", name]).env(MARK, name).output().unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
        assert_eq!(signal, Some(libc::SIGABRT), "{}", String::from_utf8_lossy(&output.stdout));
    }

    #[test]
    fn payloads_that_panic_are_contained() {
        super::contain(panic_with_bomb);
    }
}
