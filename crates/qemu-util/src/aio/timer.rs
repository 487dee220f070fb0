//! Timers: functions to call and wakers to wake at a point in time, ordered by deadline.
//!
//! QEMU: `QEMUTimer` (util/qemu-timer.c)

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::core::Core;
use crate::primitive::atomic::{AtomicUsize, Ordering};
use crate::primitive::{Arc, Mutex};

/// What happens at a deadline.
enum Action {
    Call(Arc<dyn Fn() + Send + Sync>),
    Wake(Waker),
}

impl Action {
    fn perform(self) {
        match self {
            Self::Call(function) => function(),
            Self::Wake(waker) => waker.wake(),
        }
    }
}

/// The deadline, and a number that tells equal deadlines apart and keeps them in the order of arming.
type Key = (Instant, u64);

struct Armed {
    by_deadline: BTreeMap<Key, Action>,
    next_id: u64,
}

/// The armed timers of one context.
pub(super) struct Timers {
    armed: Mutex<Armed>,
    /// The number of armed timers, so that a loop without timers takes no lock. Written under the lock.
    len: AtomicUsize,
}

impl Timers {
    pub(super) fn new() -> Self {
        let armed = Armed { by_deadline: BTreeMap::new(), next_id: 0 };
        Self { armed: Mutex::new(armed), len: AtomicUsize::new(0) }
    }

    fn publish_len(&self, armed: &Armed) {
        // Ordering: Relaxed; whoever arms notifies afterwards, with the fence that orders this store before its look at
        // `notify_me`. [pair: aio.notify-sleep]
        self.len.store(armed.by_deadline.len(), Ordering::Relaxed);
    }

    fn is_empty(&self) -> bool {
        // Ordering: Relaxed; before a sleep the look follows the fence of `announce`. [pair: aio.notify-sleep]
        self.len.load(Ordering::Relaxed) == 0
    }

    /// Arms a timer. The caller notifies the loop when the flag, "this one is the next", is set.
    fn arm(&self, deadline: Instant, action: Action) -> (Key, bool) {
        let mut armed = self.armed.lock();
        let key = (deadline, armed.next_id);
        armed.next_id += 1;
        armed.by_deadline.insert(key, action);
        self.publish_len(&armed);
        let is_next = armed.by_deadline.first_key_value().is_some_and(|(first, _)| *first == key);
        (key, is_next)
    }

    fn disarm(&self, key: Key) {
        let mut armed = self.armed.lock();
        let action = armed.by_deadline.remove(&key);
        self.publish_len(&armed);
        drop(armed);
        // Outside the lock: what an action owns may come back here.
        drop(action);
    }

    /// Replaces the waker of an armed timer; false when it has gone off.
    fn rewake(&self, key: Key, waker: &Waker) -> bool {
        let mut armed = self.armed.lock();
        let Some(action) = armed.by_deadline.get_mut(&key) else { return false };
        let old = std::mem::replace(action, Action::Wake(waker.clone()));
        drop(armed);
        drop(old);
        true
    }

    /// How long the loop may sleep as far as timers are concerned; none means for ever.
    pub(super) fn timeout(&self) -> Option<Duration> {
        if self.is_empty() {
            return None;
        }
        let armed = self.armed.lock();
        let (deadline, _) = armed.by_deadline.keys().next()?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// Lets all timers go off whose deadline has passed; says whether there were any.
    pub(super) fn run(&self) -> bool {
        if self.is_empty() {
            return false;
        }
        // One point in time for the round: a timer that arms itself anew does not keep the loop here.
        let now = Instant::now();
        let mut progress = false;
        loop {
            let mut armed = self.armed.lock();
            let due = armed.by_deadline.first_entry().filter(|first| first.key().0 <= now);
            let Some(action) = due.map(|first| first.remove()) else { return progress };
            self.publish_len(&armed);
            drop(armed);
            action.perform();
            progress = true;
        }
    }

    pub(super) fn clear(&self) {
        let mut armed = self.armed.lock();
        let dropped = std::mem::take(&mut armed.by_deadline);
        self.publish_len(&armed);
        drop(armed);
        drop(dropped);
    }
}

/// A function that the home thread of a context calls at a deadline, again each time it is armed.
///
/// Dropping the timer disarms it.
///
/// QEMU: `QEMUTimer`, `timer_mod` (include/qemu/timer.h)
pub struct Timer {
    core: Arc<Core>,
    function: Arc<dyn Fn() + Send + Sync>,
    armed: Mutex<Option<Key>>,
}

impl Timer {
    pub(super) fn new(core: Arc<Core>, function: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self { core, function, armed: Mutex::new(None) }
    }

    /// Has the function called at `deadline` instead of the deadline set before.
    ///
    /// QEMU: `timer_mod` (util/qemu-timer.c)
    pub fn arm(&self, deadline: Instant) {
        let mut key = self.armed.lock();
        if let Some(old) = key.take() {
            self.core.timers.disarm(old);
        }
        let (new, is_next) = self.core.timers.arm(deadline, Action::Call(Arc::clone(&self.function)));
        *key = Some(new);
        drop(key);
        if is_next {
            self.core.kick();
        }
    }

    /// Has the function called after `delay`, at the earliest. A delay that the clock cannot express never ends.
    pub fn arm_after(&self, delay: Duration) {
        match Instant::now().checked_add(delay) {
            Some(deadline) => self.arm(deadline),
            None => self.disarm(),
        }
    }

    /// Takes the deadline back. A call that has begun in another thread is not waited for.
    ///
    /// QEMU: `timer_del` (util/qemu-timer.c)
    pub fn disarm(&self) {
        let old = self.armed.lock().take();
        if let Some(old) = old {
            self.core.timers.disarm(old);
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.disarm();
    }
}

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timer").field("armed", &*self.armed.lock()).finish_non_exhaustive()
    }
}

/// The future of [`AioContext::sleep`](super::AioContext::sleep).
#[must_use = "futures do nothing unless they are awaited"]
pub struct Sleep {
    core: Arc<Core>,
    /// None: beyond what the clock can express, that is never.
    deadline: Option<Instant>,
    key: Option<Key>,
}

impl Sleep {
    pub(super) fn new(core: Arc<Core>, duration: Duration) -> Self {
        Self { core, deadline: Instant::now().checked_add(duration), key: None }
    }

    fn disarm(&mut self) {
        if let Some(key) = self.key.take() {
            self.core.timers.disarm(key);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        if deadline <= Instant::now() {
            self.disarm();
            return Poll::Ready(());
        }
        let still_armed = self.key.is_some_and(|key| self.core.timers.rewake(key, cx.waker()));
        if !still_armed {
            let (key, is_next) = self.core.timers.arm(deadline, Action::Wake(cx.waker().clone()));
            self.key = Some(key);
            if is_next {
                self.core.kick();
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.disarm();
    }
}

impl std::fmt::Debug for Sleep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sleep").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
