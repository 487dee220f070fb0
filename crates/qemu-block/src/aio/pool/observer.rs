//! What a pool looks like from outside, for whoever looks into a program that hangs.

use std::fmt;

use qemu_util::primitive::Weak;

use super::Shared;

/// Looks at a pool without keeping it open.
#[derive(Clone)]
pub struct PoolObserver {
    pub(super) shared: Weak<Shared>,
}

impl PoolObserver {
    /// The state now, from any thread, without waiting; none when the pool is gone, and when it is locked.
    pub fn state(&self) -> Option<PoolState> {
        let shared = self.shared.upgrade()?;
        let queue = shared.queue.try_lock()?;
        Some(PoolState {
            name: shared.config.name,
            threads: queue.threads,
            threads_max: shared.config.threads_max,
            idle: queue.idle,
            queued: queue.jobs.len(),
            inline: queue.inline,
            closed: queue.closed,
        })
    }
}

impl fmt::Debug for PoolObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolObserver").finish_non_exhaustive()
    }
}

/// A look at a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolState {
    /// Its name.
    pub name: &'static str,
    /// Threads that run or are being started.
    pub threads: usize,
    /// Most threads that there may be.
    pub threads_max: usize,
    /// Threads that wait for a job.
    pub idle: usize,
    /// Jobs that no thread has taken.
    pub queued: usize,
    /// Submitters that run a job themselves.
    pub inline: usize,
    /// Nothing is taken any more.
    pub closed: bool,
}

impl PoolState {
    /// Threads that run a job, or are about to look for one.
    pub fn running(&self) -> usize {
        self.threads - self.idle + self.inline
    }
}

impl fmt::Display for PoolState {
    /// A line of `key=value`, for people and programs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, threads, threads_max, idle, queued, inline, closed } = self;
        write!(f, "pool: name={name} threads={threads} max={threads_max} idle={idle} queued={queued} ")?;
        write!(f, "running={} inline={inline} closed={closed}", self.running())
    }
}
