//! Signals as values: a thread waits for them, so that no code runs in signal context.
//!
//! Only a command that has something to clean up asks for [`Signals::catch`]; all others die by SIGINT and SIGTERM at
//! once, as they should. The signals are blocked in every thread that starts afterwards, and the waiting thread sets a
//! flag and wakes whoever awaits it.
//!
//! That is the orderly end, and it may not come: the loop may be busy, or a request hang. So the process ends where it
//! stands when a second signal comes, or some time after the first one. It then does what cannot wait, the last resort
//! that the command left here: removing a target that looks finished and is not.

use std::fmt;
use std::fs;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, raise};
use qemu_util::primitive::{Arc, Mutex, thread};

use crate::failure::Failure;

/// The signals that ask for an orderly end.
const STOPPING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGXCPU];

/// How long an orderly end may take. What it would have saved is lost anyway, so nobody should wait for long.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is done before the process ends where it stands.
type LastResort = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    stopped_by: Option<Signal>,
    /// SIGUSR1 came and nobody has shown the progress yet.
    progress_wanted: bool,
    wakers: Vec<Waker>,
    last_resort: Option<LastResort>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("stopped_by", &self.stopped_by)
            .field("progress_wanted", &self.progress_wanted)
            .finish_non_exhaustive()
    }
}

/// What the signals asked for so far. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signals {
    state: Arc<Mutex<State>>,
}

impl Signals {
    /// A source that never reports anything, for commands that leave signals alone.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// Catches SIGINT, SIGTERM, SIGHUP, SIGXCPU and SIGUSR1 from now on, except those that are ignored: `nohup` and shells that
    /// start something in the background ignore signals for the sake of the process, and it stays that way.
    ///
    /// Threads that exist already keep receiving the signals, so this comes before the session is set up.
    ///
    /// # Errors
    /// The waiting thread cannot be started.
    pub(crate) fn catch() -> Result<Self, Failure> {
        Self::catch_these(STOPPING.into_iter().chain([Signal::SIGUSR1]))
    }

    /// Catches SIGUSR1 only; otherwise as [`Signals::catch`].
    ///
    /// # Errors
    /// As [`Signals::catch`].
    pub(crate) fn catch_progress() -> Result<Self, Failure> {
        Self::catch_these([Signal::SIGUSR1].into_iter())
    }

    fn catch_these(these: impl Iterator<Item = Signal>) -> Result<Self, Failure> {
        let mut waited = SigSet::empty();
        let ignored = ignored_signals();
        let caught = these.filter(|&signal| !is_in(ignored, signal));
        caught.for_each(|signal| waited.add(signal));
        waited.thread_block().map_err(|errno| Failure::new(format!("Could not block signals: {}", errno.desc())))?;
        let signals = Self::default();
        let waiter = signals.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || waiter.wait(&waited))
            .map_err(|error| Failure::new(format!("Could not start a thread: {error}")))?;
        Ok(signals)
    }

    fn wait(&self, waited: &SigSet) {
        while let Ok(signal) = waited.wait() {
            if signal == Signal::SIGUSR1 {
                self.state.lock().progress_wanted = true;
                continue;
            }
            let wakers = {
                let mut state = self.state.lock();
                if state.stopped_by.is_some() {
                    drop(state);
                    self.end_here(signal);
                    continue;
                }
                state.stopped_by = Some(signal);
                std::mem::take(&mut state.wakers)
            };
            wakers.into_iter().for_each(Waker::wake);
            self.limit_patience(signal);
        }
    }

    /// Ends the process some time from now, should it still be there.
    fn limit_patience(&self, signal: Signal) {
        let signals = self.clone();
        let waiting = thread::Builder::new().name("patience".to_owned()).spawn(move || {
            std::thread::sleep(PATIENCE);
            signals.end_here(signal);
        });
        // Without another thread a second signal still ends the process.
        drop(waiting);
    }

    /// Does what cannot wait and ends the process by `signal`.
    ///
    /// The state stays locked until the end, so that whoever comes to call the last resort off is too late and cannot
    /// report success any more.
    fn end_here(&self, signal: Signal) {
        let mut state = self.state.lock();
        if let Some(last_resort) = state.last_resort.take() {
            last_resort();
        }
        die_by(signal);
    }

    /// Sets what is done if the process has to end where it stands. It must not use these signals, nor wait.
    pub(crate) fn set_last_resort(&self, last_resort: impl FnOnce() + Send + 'static) {
        self.state.lock().last_resort = Some(Box::new(last_resort));
    }

    /// Calls the last resort off. Does not return when the process is ending already.
    pub(crate) fn clear_last_resort(&self) {
        self.state.lock().last_resort = None;
    }

    /// The signal that asked to stop, if one did.
    pub(crate) fn stopped_by(&self) -> Option<Signal> {
        self.state.lock().stopped_by
    }

    /// Fails with [`Failure::Interrupted`] once a signal asked to stop. Cheap enough to call for every chunk of work.
    ///
    /// # Errors
    /// See above.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.stopped_by().map_or(Ok(()), |signal| Err(Failure::Interrupted(signal)))
    }

    /// Completes when a signal asks to stop; never, if none does.
    pub(crate) async fn stopped(&self) -> Signal {
        poll_fn(|cx| {
            let mut state = self.state.lock();
            if let Some(signal) = state.stopped_by {
                return Poll::Ready(signal);
            }
            if !state.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.wakers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Whether SIGUSR1 came since the last call.
    pub(crate) fn take_progress_wanted(&self) -> bool {
        std::mem::take(&mut self.state.lock().progress_wanted)
    }
}

/// Ends the process by `signal`, which must not be caught by a handler.
///
/// It returns only if the signal is ignored, or cannot be raised.
pub(crate) fn die_by(signal: Signal) {
    let mut set = SigSet::empty();
    set.add(signal);
    // Blocked signals that are raised would only become pending. Failure is impossible for valid signals; if it
    // happened, the caller would end the process another way.
    if set.thread_unblock().is_ok() {
        let _ = raise(signal);
    }
}

/// The signals that this process was started to ignore, as a mask; none if the system does not tell.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored_in(&status)
}

/// The line `SigIgn` of a process's status: a hexadecimal mask whose lowest bit is signal 1.
fn ignored_in(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn is_in(mask: u64, signal: Signal) -> bool {
    let bit = u32::try_from(signal as i32 - 1).expect("signal numbers start at 1");
    mask.checked_shr(bit).is_some_and(|rest| rest & 1 != 0)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    #[test]
    fn a_stop_is_seen_by_those_who_wait_and_those_who_ask() {
        let signals = Signals::none();
        let mut stopped = pin!(signals.stopped());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(stopped.as_mut().poll(&mut cx).is_pending());
        assert!(stopped.as_mut().poll(&mut cx).is_pending());
        assert_eq!(signals.state.lock().wakers.len(), 1, "a task that asks again is woken once");
        signals.check().expect("nothing came yet");
        signals.state.lock().stopped_by = Some(Signal::SIGTERM);
        assert_eq!(stopped.as_mut().poll(&mut cx), Poll::Ready(Signal::SIGTERM));
        assert!(matches!(signals.check(), Err(Failure::Interrupted(Signal::SIGTERM))));
    }

    #[test]
    fn ignored_signals_are_read_from_the_status() {
        let status = "Name:\tx\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        let ignored = ignored_in(status);
        assert!(is_in(ignored, Signal::SIGHUP) && !is_in(ignored, Signal::SIGINT));
        assert_eq!((ignored_in(""), ignored_in("SigIgn:\tnonsense")), (0, 0));
    }

    #[test]
    fn a_wish_for_progress_is_granted_once() {
        let signals = Signals::none();
        signals.state.lock().progress_wanted = true;
        assert!(signals.take_progress_wanted());
        assert!(!signals.take_progress_wanted());
    }
}
