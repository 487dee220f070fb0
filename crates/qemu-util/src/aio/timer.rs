//! Timers: functions to call and wakers to wake at a point in time, ordered by deadline.
//!
//! QEMU: `QEMUTimer` (util/qemu-timer.c)

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Bound;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::core::Core;
use crate::mutant::{Mutant, is_on};
use crate::panics::contain;
use crate::primitive::atomic::{AtomicUsize, Ordering};
use crate::primitive::{Arc, Mutex};

/// A time that no process lives to see: a thousand years.
const NEVER: Duration = Duration::from_secs(1000 * 365 * 24 * 60 * 60);

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
    /// The context was shut down: no timer will ever go off.
    closed: bool,
}

/// The armed timers of one context.
pub(super) struct Timers {
    armed: Mutex<Armed>,
    /// The number of armed timers, so that a loop without timers takes no lock. Written under the lock.
    len: AtomicUsize,
}

impl Timers {
    pub(super) fn new() -> Self {
        let armed = Armed { by_deadline: BTreeMap::new(), next_id: 0, closed: false };
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

    /// Arms a timer; none when the context is shut down. The caller notifies the loop when the flag, "this one is the
    /// next", is set.
    fn arm(&self, deadline: Instant, action: Action) -> Option<(Key, bool)> {
        let mut armed = self.armed.lock();
        if armed.closed {
            // Outside the lock: what an action owns may come back here.
            drop(armed);
            drop(action);
            return None;
        }
        let key = (deadline, armed.next_id);
        armed.next_id += 1;
        armed.by_deadline.insert(key, action);
        self.publish_len(&armed);
        let is_next = armed.by_deadline.first_key_value().is_some_and(|(first, _)| *first == key);
        Some((key, is_next))
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
        // Cloned before the mutex is taken, and whatever is left over dropped after it is released: both may run
        // foreign code.
        let mut action = Action::Wake(waker.clone());
        let mut armed = self.armed.lock();
        let entry = armed.by_deadline.get_mut(&key);
        let is_armed = entry.map(|entry| std::mem::swap(entry, &mut action)).is_some();
        drop(armed);
        drop(action);
        is_armed
    }

    #[cfg(all(test, not(qemu_loom)))]
    pub(super) fn len(&self) -> usize {
        self.armed.lock().by_deadline.len()
    }

    /// How many timers are armed; for information, from any thread.
    pub(super) fn armed_len(&self) -> usize {
        // Ordering: Relaxed; for information only.
        self.len.load(Ordering::Relaxed)
    }

    /// The next deadline; none when there is none, or when the timers are locked.
    pub(super) fn try_next_deadline(&self) -> Option<Instant> {
        let armed = self.armed.try_lock()?;
        armed.by_deadline.keys().next().map(|(deadline, _)| *deadline)
    }

    #[cfg(all(test, not(qemu_loom)))]
    pub(super) fn while_locked<R>(&self, look: impl FnOnce() -> R) -> R {
        let _armed = self.armed.lock();
        look()
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
        // One point in time for the round, and only what was armed before it: a timer that arms itself anew, be it in the
        // past, does not keep the loop here.
        let now = Instant::now();
        let end = self.armed.lock().next_id;
        let mut after = Bound::Unbounded;
        let mut progress = false;
        loop {
            let mut armed = self.armed.lock();
            let due = armed.by_deadline.range((after, Bound::Included((now, u64::MAX))));
            let next = due.map(|(key, _)| *key).find(|(_, id)| *id < end);
            let Some(action) = next.and_then(|key| armed.by_deadline.remove(&key)) else { return progress };
            self.publish_len(&armed);
            drop(armed);
            after = next.map_or(after, Bound::Excluded);
            action.perform();
            progress = true;
        }
    }

    /// Drops all timers, wakes who sleeps, and takes no more.
    pub(super) fn close(&self) {
        let mut armed = self.armed.lock();
        armed.closed = true;
        let actions = std::mem::take(&mut armed.by_deadline);
        self.publish_len(&armed);
        drop(armed);
        for action in actions.into_values() {
            match action {
                // Dropped like everything else that is pending.
                Action::Call(function) => drop(function),
                // A future in another executor, say: it finds that the context is gone.
                Action::Wake(waker) => contain(|| waker.wake()),
            }
        }
    }
}

/// A function that the home thread of a context calls at a deadline, again each time it is armed.
///
/// Dropping the timer disarms it.
///
/// ```
/// use qemu_util::aio::AioContext;
/// use std::time::Duration;
///
/// let ctx = AioContext::new()?;
/// let (sender, receiver) = std::sync::mpsc::sync_channel(1);
/// let timer = ctx.timer(move || sender.send("late").expect("there is room"));
/// timer.arm_after(Duration::from_millis(1));
/// while !ctx.poll(true) {}
/// assert_eq!(receiver.recv(), Ok("late"));
/// # std::io::Result::Ok(())
/// ```
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
        if is_on(Mutant::TimerKicksBeforeArming) {
            self.core.kick();
        }
        let armed = self.core.timers.arm(deadline, Action::Call(Arc::clone(&self.function)));
        *key = armed.map(|(new, _)| new);
        drop(key);
        if armed.is_some_and(|(_, is_next)| is_next) && !is_on(Mutant::TimerKicksBeforeArming) {
            self.core.deadline_came_nearer();
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
    deadline: Instant,
    key: Option<Key>,
}

impl Sleep {
    pub(super) fn new(core: Arc<Core>, duration: Duration) -> Self {
        let now = Instant::now();
        // What the clock cannot express is as good as never, but still ends with the context.
        let deadline = now.checked_add(duration).or_else(|| now.checked_add(NEVER)).unwrap_or(now);
        Self { core, deadline, key: None }
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
        if self.deadline <= Instant::now() {
            self.disarm();
            return Poll::Ready(());
        }
        let still_armed = self.key.is_some_and(|key| self.core.timers.rewake(key, cx.waker()));
        if !still_armed {
            let armed = self.core.timers.arm(self.deadline, Action::Wake(cx.waker().clone()));
            // Nobody would wake us once the context is shut down.
            let Some((key, is_next)) = armed else { return Poll::Ready(()) };
            self.key = Some(key);
            if is_next {
                self.core.deadline_came_nearer();
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
