//! The cases: groups of contenders that do the same job.

mod event;
mod lock;
mod rcu;
mod task;
mod wake;

use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

/// Runs that many iterations and says how long they took, without what had to be prepared for them.
pub(crate) type Run = Box<dyn FnMut(u64) -> Duration>;

/// What a contender is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// What this crate offers for the job; the first of the group.
    Ours,
    /// This crate, used in another way.
    Variant,
    /// What another crate offers.
    Rival,
    /// Not able to do the job, but a bound for it.
    Floor,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Variant => "variant",
            Self::Rival => "rival",
            Self::Floor => "floor",
        }
    }
}

/// Something that can do the job of its group.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) run: Run,
}

/// A job, and those who can do it.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    /// What one iteration is.
    pub(crate) what: &'static str,
    pub(crate) contenders: Vec<Contender>,
}

impl Group {
    fn new(name: &'static str, what: &'static str) -> Self {
        Self { name, what, contenders: Vec::new() }
    }

    fn add(mut self, role: Role, name: &'static str, run: impl FnMut(u64) -> Duration + 'static) -> Self {
        self.contenders.push(Contender { name, role, run: Box::new(run) });
        self
    }

    fn ours(self, name: &'static str, run: impl FnMut(u64) -> Duration + 'static) -> Self {
        self.add(Role::Ours, name, run)
    }

    fn variant(self, name: &'static str, run: impl FnMut(u64) -> Duration + 'static) -> Self {
        self.add(Role::Variant, name, run)
    }

    fn rival(self, name: &'static str, run: impl FnMut(u64) -> Duration + 'static) -> Self {
        self.add(Role::Rival, name, run)
    }

    fn floor(self, name: &'static str, run: impl FnMut(u64) -> Duration + 'static) -> Self {
        self.add(Role::Floor, name, run)
    }
}

/// All groups.
pub(crate) fn all() -> Vec<Group> {
    [event::groups(), rcu::groups(), task::groups(), wake::groups(), lock::groups()].into_iter().flatten().collect()
}

/// Measures the processor time of the thread, for what happens in one thread: what other programs do meanwhile does not
/// count. Between threads the clock on the wall counts.
struct Stopwatch(TimeSpec);

impl Stopwatch {
    fn start() -> Self {
        Self(Self::now())
    }

    fn elapsed(&self) -> Duration {
        Duration::from(Self::now() - self.0)
    }

    fn now() -> TimeSpec {
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("threads have a clock")
    }
}

/// Times `n` calls of `iteration`, which involve no other thread.
fn repeat<R>(n: u64, mut iteration: impl FnMut() -> R) -> Duration {
    let start = Stopwatch::start();
    for _ in 0..n {
        std::hint::black_box(iteration());
    }
    start.elapsed()
}
