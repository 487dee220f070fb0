//! Threads and descriptors of the process: no round may leave any behind.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// How long the kernel may take to forget a thread that has ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    threads: usize,
    fds: usize,
}

impl Held {
    fn now() -> Self {
        let count = |path| fs::read_dir(path).map_or(0, Iterator::count);
        Self { threads: count("/proc/self/task"), fds: count("/proc/self/fd") }
    }

    fn exceeds(self, other: Self) -> bool {
        self.threads > other.threads || self.fds > other.fds
    }
}

/// What is there after the first rounds, which start what lives as long as the process.
#[derive(Debug, Default)]
pub(crate) struct Leaks(Option<Held>);

impl Leaks {
    /// Called between rounds; panics when there is more than there was.
    pub(crate) fn check(&mut self) {
        let Some(before) = self.0 else {
            self.0 = settled();
            return;
        };
        let start = Instant::now();
        loop {
            let now = Held::now();
            if !now.exceeds(before) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "a round has left something behind: {before:?} before, {now:?} after");
            // The process cannot be told when the kernel is done with a thread that nobody joins.
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What is there when it has not changed for a while; none when it changes all the time.
fn settled() -> Option<Held> {
    let mut last = Held::now();
    for _ in 0..100 {
        thread::sleep(Duration::from_millis(10));
        let now = Held::now();
        if now == last {
            return Some(now);
        }
        last = now;
    }
    None
}
