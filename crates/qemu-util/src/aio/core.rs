//! What the handles of a context, its tasks and its bottom halves share.
//!
//! Tasks, wakers and bottom halves hold the core strongly, so that a stray waker finds it alive long after the context
//! was shut down: its lists are closed then, and refuse and free whatever is pushed.

use std::io;

use super::bh::{BhQueue, Node, Urgency};
use super::fd::Handlers;
use super::home::Home;
use super::monitor::Monitor;
use super::notify::Notifier;
use super::polling::AdaptivePolling;
use super::timer::Timers;
use crate::primitive::Arc;
use crate::task::TaskQueue;

pub(crate) struct Core {
    pub(crate) home: Home,
    pub(super) notifier: Notifier,
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
            bhs: BhQueue::new(),
            timers: Timers::new(),
            handlers: Handlers::new(),
            monitor: Monitor::new(),
            polling: AdaptivePolling::new(),
            tasks: TaskQueue::new(),
        })
    }

    /// Tells the loop to look again, after something has been published for it.
    pub(super) fn notify(&self) {
        if self.home.is_entered_here() {
            self.notifier.notify_from_home();
        } else {
            self.notifier.notify();
        }
    }

    /// Schedules a bottom half and wakes the loop if it sleeps.
    pub(crate) fn schedule(&self, node: &Arc<Node>, urgency: Urgency) {
        self.bhs.schedule(node, urgency);
        self.notify();
    }

    /// Makes the loop go round once, and a blocking poll return.
    pub(crate) fn kick(&self) {
        self.bhs.kick();
        self.notify();
    }

    /// Runs the tasks that were woken; called from their bottom half. Says whether there were any.
    pub(super) fn run_tasks(&self) -> bool {
        self.tasks.run_woken()
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
        self.timers.clear();
        self.handlers.clear();
        self.monitor.clear();
    }
}
