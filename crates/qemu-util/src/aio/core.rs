//! What the handles of a context, its tasks and its bottom halves share.
//!
//! Tasks, wakers and bottom halves hold the core strongly, so that a stray waker finds it alive long after the context
//! was shut down: its lists are closed then, and refuse and free whatever is pushed.

use std::io;

use super::bh::{BhQueue, Enqueue, Node, Urgency};
use super::fd::Handlers;
use super::home::Home;
use super::monitor::Monitor;
use super::notify::Notifier;
use super::polling::AdaptivePolling;
use super::timer::Timers;
use crate::mutant::{Mutant, is_on, unless};
use crate::primitive::Arc;
use crate::primitive::atomic::{AtomicBool, Ordering};
use crate::task::TaskQueue;

pub(crate) struct Core {
    pub(crate) home: Home,
    pub(super) notifier: Notifier,
    /// The loop shall go round once, though there may be nothing to do.
    kicked: AtomicBool,
    pub(super) bhs: BhQueue,
    pub(super) timers: Timers,
    pub(super) handlers: Handlers,
    pub(super) monitor: Monitor,
    pub(super) polling: AdaptivePolling,
    pub(crate) tasks: TaskQueue,
}

impl Core {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            home: Home::here(),
            notifier: Notifier::new()?,
            kicked: AtomicBool::new(false),
            bhs: BhQueue::new(),
            timers: Timers::new(),
            handlers: Handlers::new(),
            monitor: Monitor::new(),
            polling: AdaptivePolling::new(),
            tasks: TaskQueue::new(),
        })
    }

    /// Tells the loop to look again, after something has been published for it.
    pub(crate) fn notify(&self) {
        if self.home.is_entered_here() {
            self.notifier.notify_from_home();
        } else {
            self.notifier.notify();
        }
    }

    /// Schedules a bottom half and wakes the loop if it sleeps.
    pub(crate) fn schedule(&self, node: &Arc<Node>, urgency: Urgency) {
        if is_on(Mutant::NotifyBeforePublish) {
            self.notify();
        }
        let enqueue = self.bhs.schedule(node, urgency);
        let is_told = is_on(Mutant::NotifyBeforePublish)
            || (is_on(Mutant::BhNotifiesOnlyAfterPush) && enqueue == Enqueue::OnTheList);
        if !is_told {
            self.notify();
        }
    }

    /// Makes the loop go round once, and a blocking poll return.
    ///
    /// A flag and not a bottom half: there is nothing that one thread could begin and another one had to wait for.
    pub(crate) fn kick(&self) {
        // Ordering: Release; what the caller wrote is visible after the poll that takes the kick. A read-modify-write,
        // so that it carries on the release of earlier kicks, which that poll takes as well. [pair: core.kick]
        let release = unless(Mutant::KickWithoutRelease, Ordering::Release, Ordering::Relaxed);
        if is_on(Mutant::KickByStore) {
            self.kicked.store(true, release);
        } else {
            self.kicked.swap(true, release);
        }
        self.notify();
    }

    /// Has the loop take note of a deadline that has come nearer.
    ///
    /// A loop that this very thread is inside of needs no kick: it looks at the deadlines before each sleep.
    pub(super) fn deadline_came_nearer(&self) {
        if !self.home.is_entered_here() {
            self.kick();
        }
    }

    /// Whether the loop was kicked, as far as the caller's fences let it see.
    pub(super) fn is_kicked(&self) -> bool {
        // Ordering: Relaxed; before a sleep the look follows the fence of `announce`. [pair: aio.notify-sleep]
        self.kicked.load(Ordering::Relaxed)
    }

    /// Takes the kicks so far; called by the home thread when it goes round.
    pub(super) fn take_kick(&self) {
        // The look only spares the swap: a kick that is missed here is found before the next sleep.
        if self.is_kicked() {
            // Ordering: Acquire; see `kick`. [pair: core.kick]
            self.kicked.swap(false, unless(Mutant::TakeKickWithoutAcquire, Ordering::Acquire, Ordering::Relaxed));
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.bhs.is_closed()
    }

    /// Drops everything that is pending and refuses what comes later.
    ///
    /// Called by the home thread, or by whoever drops the last handle.
    pub(super) fn shut_down(&self) {
        self.bhs.close();
        self.tasks.close();
        self.timers.close();
        self.handlers.close();
        self.monitor.clear();
    }
}
