//! What a context looks like from outside, for whoever looks into a program that hangs.
//!
//! Everything here is for information: it may be asked for by any thread, at any time, also while the loop is stuck, and
//! never waits. So it reads atomics, tries locks, and does without what it does not get. It follows no links: a list
//! that other threads push to can be walked by the home thread only, and its head says whether there is anything on it.

use std::fmt;
use std::time::{Duration, Instant};

use super::AioContext;
use super::core::Core;
use crate::primitive::{Arc, Weak};

pub use crate::push_list::ListState;
pub use crate::task::TaskCounts;

/// Looks at a context without keeping it alive.
#[derive(Clone)]
pub struct AioObserver {
    core: Weak<Core>,
}

impl AioObserver {
    /// The state now; none when the context is gone.
    pub fn state(&self) -> Option<AioState> {
        self.core.upgrade().map(|core| AioState::of(&core))
    }
}

impl fmt::Debug for AioObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AioObserver").finish_non_exhaustive()
    }
}

impl AioContext {
    /// Something that can look at this context from any thread, for as long as it exists.
    pub fn observer(&self) -> AioObserver {
        AioObserver { core: Arc::downgrade(self.core()) }
    }

    /// What the context looks like now, from any thread. Never waits; see [`AioState`].
    pub fn state(&self) -> AioState {
        AioState::of(self.core())
    }
}

/// A look at a context. The fields were read one after another, while other threads went on; of a loop that hangs they
/// are all true. None stands for what another thread held locked.
///
/// Memory ordering: none is implied.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AioState {
    /// Not 0: the loop sleeps, or is about to; 2 for each level of nested polling.
    pub notify_me: u32,
    /// A waker has written the eventfd, or is just writing it, since the last accept.
    pub notified: bool,
    /// The eventfd would end a sleep.
    pub eventfd_readable: bool,
    /// The loop shall go round once.
    pub kicked: bool,
    /// The home thread is inside the loop.
    pub entered: bool,
    /// Bottom halves that were scheduled and not taken by the loop yet.
    pub bottom_halves: ListState,
    /// The state words of bottom halves that were taken and not called yet.
    pub taken_bottom_halves: Option<Vec<u32>>,
    /// Tasks that were woken and not taken by the loop yet.
    pub woken_tasks: ListState,
    /// Tasks that were taken and have not run yet.
    pub ready_tasks: Option<usize>,
    /// All tasks that are not complete.
    pub tasks: Option<TaskCounts>,
    /// Armed timers.
    pub timers: usize,
    /// Until the next timer goes off; zero if it is due. None also if there is no timer.
    pub next_timer: Option<Duration>,
    /// Handlers of file descriptors.
    pub handlers: usize,
}

impl AioState {
    fn of(core: &Core) -> Self {
        let (notify_me, notified, eventfd_readable) = core.notifier.look();
        let deadline = core.timers.try_next_deadline();
        Self {
            notify_me,
            notified,
            eventfd_readable,
            kicked: core.is_kicked(),
            entered: core.home.is_entered(),
            bottom_halves: core.bhs.pushed_state(),
            taken_bottom_halves: core.bhs.try_taken_flags(),
            woken_tasks: core.tasks.woken_state(),
            ready_tasks: core.tasks.try_ready_len(),
            tasks: core.tasks.try_counts(),
            timers: core.timers.armed_len(),
            next_timer: deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())),
            handlers: core.handlers.len(),
        }
    }

    /// Whether something waits for the loop that no sleep may outlast.
    pub fn has_work(&self) -> bool {
        self.kicked
            || self.bottom_halves == ListState::Some
            || self.woken_tasks == ListState::Some
            || self.taken_bottom_halves.as_ref().is_some_and(|flags| !flags.is_empty())
            || self.ready_tasks.is_some_and(|ready| ready > 0)
            || self.next_timer == Some(Duration::ZERO)
    }
}

/// What was locked by somebody else.
const LOCKED: &str = "locked";

fn or_locked<T: fmt::Display>(value: Option<&T>) -> String {
    value.map_or_else(|| LOCKED.to_owned(), T::to_string)
}

impl fmt::Display for AioState {
    /// Lines of `key=value`, for people and programs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { notify_me, notified, eventfd_readable, kicked, entered, .. } = self;
        writeln!(
            f,
            "aio: notify_me={notify_me} notified={notified} eventfd_readable={eventfd_readable} kicked={kicked} \
             entered={entered}"
        )?;
        let taken = self.taken_bottom_halves.as_ref().map(Vec::len);
        write!(f, "bh: scheduled={} taken={}", self.bottom_halves, or_locked(taken.as_ref()))?;
        for flags in self.taken_bottom_halves.iter().flatten() {
            write!(f, " flags={flags:#x}")?;
        }
        writeln!(f)?;
        let ready = or_locked(self.ready_tasks.as_ref());
        writeln!(f, "tasks: woken={} ready={ready} {}", self.woken_tasks, or_locked(self.tasks.as_ref()))?;
        write!(f, "timers: armed={}", self.timers)?;
        if let Some(next) = self.next_timer {
            write!(f, " next_ms={}", next.as_millis())?;
        }
        write!(f, "\nhandlers: fds={}", self.handlers)
    }
}

#[cfg(all(test, not(qemu_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_pending_can_be_seen_from_another_thread() {
        let ctx = AioContext::new().unwrap();
        let observer = ctx.observer();
        assert!(!ctx.state().has_work());
        ctx.schedule_oneshot(|| ());
        let waiting = ctx.spawn(std::future::pending::<()>());
        let seen = std::thread::spawn(move || observer.state().unwrap()).join().unwrap();
        assert!(seen.has_work());
        assert_eq!((seen.bottom_halves, seen.woken_tasks), (ListState::Some, ListState::Some));
        assert_eq!((seen.notify_me, seen.eventfd_readable), (0, false));
        let text = seen.to_string();
        assert!(text.contains("bh: scheduled=some taken=0"), "{text}");
        assert!(text.contains("live=1 scheduled=1"), "{text}");
        ctx.poll(false);
        assert!(!ctx.state().has_work());
        assert_eq!(ctx.state().tasks.unwrap().idle(), 1);
        drop(waiting);
    }

    #[test]
    fn a_sleeping_loop_is_seen_asleep_and_the_observer_outlives_it() {
        let ctx = AioContext::new().unwrap();
        let observer = ctx.observer();
        std::thread::scope(|scope| {
            let waker = ctx.clone();
            let watched = observer.clone();
            scope.spawn(move || {
                while watched.state().unwrap().notify_me == 0 {
                    std::thread::yield_now();
                }
                waker.notify();
            });
            ctx.poll(true);
        });
        assert_eq!(ctx.state().notify_me, 0);
        drop(ctx);
        assert!(observer.state().is_none());
    }

    #[test]
    fn a_lock_that_is_held_is_not_waited_for() {
        let ctx = AioContext::new().unwrap();
        let state = ctx.core().timers.while_locked(|| ctx.state());
        assert_eq!(state.next_timer, None);
    }
}
