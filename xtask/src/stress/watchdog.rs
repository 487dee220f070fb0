//! When a run counts as hanging.
//!
//! A run makes progress when its output grows, when a thread of it has used processor time, and while one wants to or
//! waits for a disk: on a busy machine it may have to wait for long. How long all of them may sleep follows from how long
//! the earlier runs took; and nothing takes many times as long as they did.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

/// Limits of the time without progress. The first one is about what a busy machine may do to a process.
const STALL: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(60));

/// The time without progress, in medians of the earlier runs.
const STALL_MEDIANS: u32 = 4;

/// A run that goes on for that many medians, and for so long, is stuck in a loop.
const TOTAL_MEDIANS: u32 = 100;
const TOTAL_MIN: Duration = Duration::from_secs(120);

/// While there is nothing to compare with.
const FIRST: Duration = Duration::from_secs(30);

/// How long the runs took so far.
#[derive(Debug, Default)]
pub(super) struct Times(Mutex<Vec<Duration>>);

impl Times {
    pub(super) fn add(&self, time: Duration) {
        let mut times = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let at = times.partition_point(|other| *other < time);
        times.insert(at, time);
    }

    /// The time that `per_mille` of the runs stayed below or at; zero without runs.
    pub(super) fn quantile(&self, per_mille: usize) -> Duration {
        let times = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let last = times.len().saturating_sub(1);
        times.get((times.len() * per_mille).div_ceil(1000).saturating_sub(1).min(last)).copied().unwrap_or_default()
    }

    fn median(&self) -> Option<Duration> {
        Some(self.quantile(500)).filter(|median| !median.is_zero())
    }

    /// How long a run may go without progress.
    pub(super) fn stall_limit(&self) -> Duration {
        self.median().map_or(FIRST, |median| (median * STALL_MEDIANS).clamp(STALL.0, STALL.1))
    }

    /// How long a run may take at all.
    pub(super) fn total_limit(&self) -> Duration {
        self.median().map_or(FIRST * 10, |median| (median * TOTAL_MEDIANS).max(TOTAL_MIN))
    }
}

/// Watches one run.
#[derive(Debug)]
pub(super) struct Watchdog<'a> {
    times: &'a Times,
    pid: Pid,
    output: &'a Path,
    started: Instant,
    seen: Footprint,
    progress: Instant,
}

/// What changes while a process works: bytes and blocks of the output, processor time and number of the threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Footprint {
    output: (u64, u64),
    nanos: u64,
    threads: usize,
    /// A thread runs, would run if there were a free processor, or waits for a disk.
    awake: bool,
}

impl Footprint {
    fn of(pid: Pid, output: &Path) -> Self {
        let mut footprint = Self::default();
        if let Ok(metadata) = fs::metadata(output) {
            footprint.output = (metadata.len(), metadata.blocks());
        }
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            footprint.threads += 1;
            // Nanoseconds on the processor, nanoseconds waiting for it, turns.
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            footprint.awake |= is_awake(&fs::read_to_string(task.path().join("stat")).unwrap_or_default());
            footprint.nanos += text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0);
        }
        footprint
    }
}

/// Whether a thread with this line in `stat` does not sleep: `7 (name) R 1 …`, in which the name may hold anything.
fn is_awake(stat: &str) -> bool {
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    matches!(state, Some('R' | 'D'))
}

impl<'a> Watchdog<'a> {
    pub(super) fn new(times: &'a Times, pid: Pid, output: &'a Path) -> Self {
        let now = Instant::now();
        Self { times, pid, output, started: now, seen: Footprint::default(), progress: now }
    }

    /// Looks at the run; says why it counts as hanging, if it does.
    pub(super) fn look(&mut self) -> Option<String> {
        let footprint = Footprint::of(self.pid, self.output);
        if footprint.awake || footprint != self.seen {
            self.seen = footprint;
            self.progress = Instant::now();
        }
        let (idle, total) = (self.progress.elapsed(), self.started.elapsed());
        let median = self.times.quantile(500).as_secs_f64();
        if idle >= self.times.stall_limit() {
            return Some(format!(
                "no progress for {:.1} s after {:.1} s; the median of the earlier runs is {median:.2} s",
                idle.as_secs_f64(),
                total.saturating_sub(idle).as_secs_f64()
            ));
        }
        let is_endless = total >= self.times.total_limit();
        is_endless
            .then(|| format!("busy for {:.1} s; the median of the earlier runs is {median:.2} s", total.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_follow_from_the_median() {
        let times = Times::default();
        assert_eq!(times.stall_limit(), FIRST);
        (1..=3).for_each(|seconds| times.add(Duration::from_secs(seconds)));
        assert_eq!((times.stall_limit(), times.total_limit()), (Duration::from_secs(8), Duration::from_secs(200)));
        (0..10).for_each(|_| times.add(Duration::from_millis(1)));
        assert_eq!((times.stall_limit(), times.total_limit()), (STALL.0, TOTAL_MIN));
        assert_eq!(times.quantile(1000), Duration::from_secs(3));
        assert_eq!(times.quantile(990), Duration::from_secs(3));
        assert_eq!(times.quantile(0), Duration::from_millis(1));
    }

    #[test]
    fn a_process_that_sleeps_is_noticed_and_one_that_works_is_not() {
        let times = Times::default();
        let nowhere = Path::new("no such output");
        let mut dog = Watchdog::new(&times, Pid::this(), nowhere);
        // This thread is awake.
        dog.progress -= FIRST;
        assert_eq!(dog.look(), None);
        let mut child = std::process::Command::new("sleep").arg("600").spawn().expect("sleep can be run");
        let pid = Pid::from_raw(child.id().cast_signed());
        let mut dog = Watchdog::new(&times, pid, nowhere);
        while dog.look().is_none() {
            dog.progress = Instant::now() - FIRST;
            std::thread::yield_now();
        }
        child.kill().expect("it runs");
        child.wait().expect("it is ours");
    }

    #[test]
    fn who_waits_for_a_processor_or_a_disk_is_awake() {
        assert!(is_awake("7 (a) b) R 1 2") && is_awake("7 (x) D 1"));
        assert!(!is_awake("7 (R) S 1 2") && !is_awake(""));
    }
}
