//! What has been done, and how long wake-ups took.

use std::time::Duration;

use qemu_util::primitive::atomic::{AtomicU64, Ordering};
use serde_json::{Map, Value, json};

/// A number that any thread may change. It orders nothing: whoever compares numbers of several threads has joined them.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds `n`; says what it was before.
    pub(crate) fn add(&self, n: u64) -> u64 {
        // Ordering: Relaxed, here and below; see the type.
        self.0.fetch_add(n, Ordering::Relaxed)
    }

    /// Subtracts `n`; says what it was before.
    pub(crate) fn subtract(&self, n: u64) -> u64 {
        self.0.fetch_sub(n, Ordering::Relaxed)
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Makes it `n` if it is less.
    fn raise(&self, n: u64) {
        self.0.fetch_max(n, Ordering::Relaxed);
    }
}

/// Declares the operations and their names.
macro_rules! operations {
    ($($variant:ident = $name:literal,)*) => {
        /// What actors do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Op {
            $($variant,)*
        }

        impl Op {
            /// All of them.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// What the report calls it.
            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

operations! {
    OneshotBh = "bh oneshot",
    OwnBh = "bh schedule, cancel, idle, delete",
    SharedBh = "bh shared by all",
    Notify = "notify",
    Timer = "timer",
    Fd = "fd handler",
    Polling = "adaptive polling changed",
    Retire = "context retired",
    Foreign = "poll outside the home thread",
    Join = "task joined",
    Abort = "task aborted",
    Detach = "task detached",
    Queue = "co-queue exchange",
    EventOnce = "event set once",
    EventStream = "event reset, looked at, waited for",
    EventTimeout = "event waited for with time-out",
    RcuRead = "rcu read",
    RcuReplace = "rcu replace",
    RcuWait = "rcu grace period",
    RcuCall = "rcu call",
    RcuDrain = "rcu drain",
    Pool = "pool job",
    PoolShutdown = "pool shut down",
    Disk = "disk request",
    Buffer = "buffer",
    // Steps of tasks.
    Yield = "task: yield",
    Sleep = "task: sleep",
    Mutex = "task: mutex",
    Read = "task: shared lock",
    Write = "task: exclusive lock",
    Permits = "task: semaphore",
    Hop = "task: hop to another context",
    Nested = "task: nested poll",
    NestedBlock = "task: nested block_on",
    // Rounds that do one thing only.
    DuelKick = "duel: notify",
    DuelBh = "duel: bottom half",
    DuelTask = "duel: task wake-up",
    DuelEvent = "duel: event",
    DuelPool = "duel: pool",
    DuelRcu = "duel: call_rcu",
    MeetKick = "meeting: notify",
    MeetBh = "meeting: bottom half",
    MeetTask = "meeting: task wake-up",
    MeetEvent = "meeting: event",
}

static DONE: [Counter; Op::ALL.len()] = [const { Counter::new() }; Op::ALL.len()];

impl Op {
    /// Notes that it was done.
    pub(crate) fn count(self) {
        DONE[self as usize].add(1);
    }

    fn done(self) -> u64 {
        DONE[self as usize].get()
    }
}

/// Wake-ups that were answered, by the binary logarithm of the nanoseconds from asking to answering.
static LATENCIES: [Counter; 64] = [const { Counter::new() }; 64];
static SLOWEST_NS: Counter = Counter::new();

/// Notes that a wake-up was answered after `latency`.
pub(crate) fn answered(latency: Duration) {
    let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
    LATENCIES[ns.max(1).ilog2() as usize].add(1);
    SLOWEST_NS.raise(ns);
}

/// How many wake-ups were answered.
pub(crate) fn wake_ups() -> u64 {
    LATENCIES.iter().map(Counter::get).sum()
}

/// The slowest one, in microseconds.
pub(crate) fn slowest_us() -> u64 {
    SLOWEST_NS.get() / 1000
}

/// The upper end, in nanoseconds, of the power of two in which this share of the latencies ends.
fn quantile_ns(share: f64) -> u64 {
    let counts: Vec<u64> = LATENCIES.iter().map(Counter::get).collect();
    let mut left = counts.iter().sum::<u64>() as f64 * share;
    let at = counts.iter().position(|&n| {
        left -= n as f64;
        left <= 0.0
    });
    at.map_or(u64::MAX, |log| 2_u64.checked_pow(u32::try_from(log).map_or(64, |log| log + 1)).unwrap_or(u64::MAX))
}

/// All of it, for the report.
pub(crate) fn as_json() -> Map<String, Value> {
    let operations: Map<String, Value> = Op::ALL.iter().map(|op| (op.name().to_owned(), op.done().into())).collect();
    let mut map = Map::new();
    map.insert("wake_ups".to_owned(), wake_ups().into());
    map.insert("slowest_wake_up_us".to_owned(), slowest_us().into());
    let quantiles = json!({ "0.5": quantile_ns(0.5), "0.99": quantile_ns(0.99), "0.9999": quantile_ns(0.9999) });
    map.insert("wake_up_ns_below".to_owned(), quantiles);
    map.insert("operations_total".to_owned(), Op::ALL.iter().map(|op| op.done()).sum::<u64>().into());
    map.insert("operations".to_owned(), operations.into());
    map
}
