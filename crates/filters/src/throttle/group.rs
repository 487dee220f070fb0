//! Groups: limits that several nodes share. QEMU: `ThrottleGroup` (block/throttle-groups.c).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qemu_block::aio::WorkerPool;
use qemu_util::primitive::Mutex;
use qemu_util::sync::CoMutex;

use super::bucket::{Bucket, float};
use super::limits::Limits;

/// How long the thread that waits for a group is kept when nobody waits.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// Which way the data of a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

/// Limits, and what has been used of them.
#[derive(Debug)]
pub(super) struct Group {
    limits: Limits,
    used: Mutex<Used>,
    /// Those that wait stand in line, one for each direction.
    lines: [CoMutex<()>; 2],
    /// Sleeps for the first ones in line. Not the pool of all nodes, which has other things to do meanwhile.
    sleepers: WorkerPool,
}

#[derive(Debug)]
struct Used {
    /// In the order of the limits' names: bytes and operations; all, read, written.
    buckets: [Bucket; 6],
    since: Instant,
}

impl Group {
    fn new(limits: Limits) -> Self {
        let buckets = limits.rates().map(Bucket::new);
        Self {
            limits,
            used: Mutex::new(Used { buckets, since: Instant::now() }),
            lines: [CoMutex::new(()), CoMutex::new(())],
            sleepers: WorkerPool::new("throttle", 2, IDLE_TIMEOUT),
        }
    }

    /// Waits until a request may be made, and counts it.
    pub(super) async fn pass(&self, direction: Direction, bytes: u64) {
        let [reads, writes] = &self.lines;
        let line = match direction {
            Direction::Read => reads,
            Direction::Write => writes,
        };
        let _first = line.lock().await;
        loop {
            let wait = self.take(direction, bytes, Instant::now());
            if wait.is_zero() {
                return;
            }
            self.sleepers.run(move || std::thread::sleep(wait)).await;
        }
    }

    /// Counts a request if it may be made at `now`; otherwise returns how long to wait.
    fn take(&self, direction: Direction, bytes: u64, now: Instant) -> Duration {
        let mut used = self.used.lock();
        let passed = now.saturating_duration_since(used.since);
        used.since = now;
        used.buckets.iter_mut().for_each(|bucket| bucket.leak(passed));
        let relevant: [usize; 4] = match direction {
            Direction::Read => [0, 1, 3, 4],
            Direction::Write => [0, 2, 3, 5],
        };
        let wait = relevant.iter().map(|at| used.buckets[*at].wait()).max().unwrap_or_default();
        if wait.is_zero() {
            for at in relevant {
                let units = if at < 3 { float(bytes) } else { self.limits.operations(bytes) };
                used.buckets[at].fill(units);
            }
        }
        wait
    }
}

/// Groups by name. Clones are the same table.
#[derive(Clone, Debug, Default)]
pub struct ThrottleGroups {
    groups: Arc<Mutex<HashMap<String, Arc<Group>>>>,
}

impl ThrottleGroups {
    /// Adds a group; one of the same name is replaced.
    pub fn define(&self, name: &str, limits: Limits) {
        self.groups.lock().insert(name.to_owned(), Arc::new(Group::new(limits)));
    }

    /// The group of that name.
    pub(super) fn get(&self, name: &str) -> Option<Arc<Group>> {
        self.groups.lock().get(name).map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_have_their_own_limits_and_a_common_one() {
        let mut limits = Limits::default();
        limits.set("bps-read", 1000).expect("known");
        limits.set("iops-total", 10).expect("known");
        let group = Group::new(limits);
        let now = Instant::now();
        assert_eq!(group.take(Direction::Read, 1100, now), Duration::ZERO);
        assert_eq!(group.take(Direction::Read, 1, now), Duration::from_secs(1));
        // One more operation is free: a tenth of a second's worth.
        assert_eq!(group.take(Direction::Write, 1 << 20, now), Duration::ZERO);
        assert_eq!(group.take(Direction::Write, 1, now), Duration::from_millis(100));
        let later = now + Duration::from_secs(1);
        assert_eq!(group.take(Direction::Read, 1, later), Duration::ZERO);
    }
}
