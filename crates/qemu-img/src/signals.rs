//! Signals as values: a thread waits for them, so that no code runs in signal context.
//!
//! Only a command that has something to clean up asks for [`Signals::catch`]; all others die by SIGINT and SIGTERM at
//! once, as they should. The signals are blocked in every thread that starts afterwards, and the waiting thread sets a
//! flag and wakes whoever awaits it. A second SIGINT or SIGTERM ends the process where it stands: the clean-up of the
//! first one may be what hangs.

use std::future::poll_fn;
use std::task::{Poll, Waker};

use nix::sys::signal::{SigSet, Signal, raise};
use qemu_util::primitive::{Arc, Mutex, thread};

use crate::failure::Failure;

/// The signals that ask for an orderly end.
const STOPPING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

#[derive(Debug, Default)]
struct State {
    stopped_by: Option<Signal>,
    /// SIGUSR1 came and nobody has shown the progress yet.
    progress_wanted: bool,
    wakers: Vec<Waker>,
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

    /// Catches SIGINT, SIGTERM, SIGHUP (unless ignored, as under `nohup`) and SIGUSR1 from now on.
    ///
    /// Threads that exist already keep receiving the signals, so this comes before the session is set up.
    ///
    /// # Errors
    /// The waiting thread cannot be started.
    pub(crate) fn catch() -> Result<Self, Failure> {
        let mut waited = SigSet::empty();
        STOPPING.into_iter().chain([Signal::SIGUSR1]).for_each(|signal| waited.add(signal));
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
                    die_by(signal);
                    continue;
                }
                state.stopped_by = Some(signal);
                std::mem::take(&mut state.wakers)
            };
            wakers.into_iter().for_each(Waker::wake);
        }
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
    fn a_wish_for_progress_is_granted_once() {
        let signals = Signals::none();
        signals.state.lock().progress_wanted = true;
        assert!(signals.take_progress_wanted());
        assert!(!signals.take_progress_wanted());
    }
}
