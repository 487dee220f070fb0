//! Adaptive busy polling: spinning for a moment before sleeping, when experience says that it pays.
//!
//! Going to sleep and being woken costs several microseconds of latency and a system call on either side. When work
//! usually arrives within that time, spinning is cheaper. The time to spin grows while sleeps turn out short, and
//! shrinks when they turn out long.
//!
//! All fields are used by the home thread alone, except that any thread may set the parameters.
//!
//! QEMU: `poll-max-ns`, `poll-grow`, `poll-shrink`; `adjust_polling_time` (util/aio-posix.c)

use std::time::Duration;

use crate::primitive::atomic::{AtomicU64, Ordering};

/// The first time to spin, in nanoseconds.
const START_NS: u64 = 4_000;
/// The default limit, in nanoseconds, as QEMU's for its IOThreads.
const MAX_NS_DEFAULT: u64 = 32_768;

/// How long a context may spin before it sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollParams {
    /// The longest time to spin; zero turns busy polling off.
    pub max: Duration,
    /// What the time is multiplied by when spinning a little longer would have been enough; 0 stands for 2.
    pub grow: u32,
    /// What the time is divided by when spinning was in vain; 0 means to stop spinning.
    pub shrink: u32,
}

impl PollParams {
    /// 32 µs at most, doubled and reset; off when the process may use one processor only, where a spinning loop keeps
    /// its wakers from running.
    pub fn for_this_machine() -> Self {
        let single = std::thread::available_parallelism().is_ok_and(|n| n.get() == 1);
        let max = if single { Duration::ZERO } else { Duration::from_nanos(MAX_NS_DEFAULT) };
        Self { max, grow: 0, shrink: 0 }
    }
}

/// The state of the adaptation.
pub(super) struct AdaptivePolling {
    max_ns: AtomicU64,
    grow: AtomicU64,
    shrink: AtomicU64,
    now_ns: AtomicU64,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl AdaptivePolling {
    pub(super) fn new() -> Self {
        let polling = Self {
            max_ns: AtomicU64::new(0),
            grow: AtomicU64::new(0),
            shrink: AtomicU64::new(0),
            now_ns: AtomicU64::new(0),
        };
        polling.set(PollParams::for_this_machine());
        polling
    }

    /// Replaces the parameters and starts to adapt afresh.
    pub(super) fn set(&self, params: PollParams) {
        // Ordering: Relaxed, here and below; these are numbers without consequences for correctness, and it does no
        // harm when the loop uses an old one once.
        self.now_ns.store(0, Ordering::Relaxed);
        self.max_ns.store(nanos(params.max), Ordering::Relaxed);
        self.grow.store(u64::from(params.grow), Ordering::Relaxed);
        self.shrink.store(u64::from(params.shrink), Ordering::Relaxed);
    }

    /// Whether blocking times need to be measured at all.
    pub(super) fn is_on(&self) -> bool {
        // Ordering: Relaxed; see `set`.
        self.max_ns.load(Ordering::Relaxed) != 0
    }

    /// How long to spin now.
    pub(super) fn time(&self) -> Duration {
        // Ordering: Relaxed; see `set`.
        Duration::from_nanos(self.now_ns.load(Ordering::Relaxed))
    }

    /// Learns from a blocking poll that waited, spinning and asleep, for `blocked` until there was work.
    pub(super) fn adjust(&self, blocked: Duration) {
        // Ordering: Relaxed, all of them; see `set`.
        let max = self.max_ns.load(Ordering::Relaxed);
        let now = self.now_ns.load(Ordering::Relaxed);
        let grow = self.grow.load(Ordering::Relaxed);
        let shrink = self.shrink.load(Ordering::Relaxed);
        let next = adjusted(now, nanos(blocked), max, grow, shrink);
        if next != now {
            self.now_ns.store(next, Ordering::Relaxed);
        }
    }
}

/// The time to spin after a wait of `blocked`, all in nanoseconds.
fn adjusted(now: u64, blocked: u64, max: u64, grow: u64, shrink: u64) -> u64 {
    if blocked <= now {
        now
    } else if blocked > max {
        now.checked_div(shrink).unwrap_or(0)
    } else if now == 0 {
        START_NS.min(max)
    } else {
        now.saturating_mul(if grow == 0 { 2 } else { grow }).min(max)
    }
}

#[cfg(all(test, not(qemu_loom)))]
mod tests {
    use super::adjusted;

    #[test]
    fn grows_to_the_limit_and_falls_back() {
        assert_eq!(adjusted(0, 3_000, 32_768, 0, 0), 4_000);
        assert_eq!(adjusted(4_000, 3_000, 32_768, 0, 0), 4_000);
        assert_eq!(adjusted(4_000, 5_000, 32_768, 0, 0), 8_000);
        assert_eq!(adjusted(20_000, 30_000, 32_768, 0, 0), 32_768);
        assert_eq!(adjusted(32_768, 50_000, 32_768, 0, 0), 0);
        assert_eq!(adjusted(32_768, 50_000, 32_768, 3, 4), 8_192);
        assert_eq!(adjusted(8_192, 9_000, 32_768, 3, 4), 24_576);
        assert_eq!(adjusted(0, 1, 1_000, 0, 0), 1_000);
    }
}
