//! One limit: a bucket that requests fill and time empties. QEMU: `LeakyBucket` (include/qemu/throttle.h).

use std::time::Duration;

/// What a limit allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Units a second in the long run; 0 means no limit.
    pub average: u64,
    /// Units a second in a burst; 0 means none but what fits into a tenth of a second.
    pub burst: u64,
    /// Seconds that a burst may last.
    pub burst_seconds: u64,
}

/// What has been used of a limit, and not yet been made up for.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    rate: Rate,
    level: f64,
    /// The same for the rate of bursts, which is a limit of its own if bursts may last.
    burst_level: f64,
}

impl Bucket {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, level: 0.0, burst_level: 0.0 }
    }

    /// Lets time pass.
    pub(super) fn leak(&mut self, passed: Duration) {
        let leak = |level: f64, rate: u64| (level - float(rate) * passed.as_secs_f64()).max(0.0);
        self.level = leak(self.level, self.rate.average);
        self.burst_level = leak(self.burst_level, self.rate.burst);
    }

    /// Takes in a request.
    pub(super) fn fill(&mut self, units: f64) {
        self.level += units;
        if self.rate.burst_seconds > 1 {
            self.burst_level += units;
        }
    }

    /// How long the next request has to wait. Only what was used before counts, so that a request larger than the bucket
    /// gets through, too.
    pub(super) fn wait(&self) -> Duration {
        let Rate { average, burst, burst_seconds } = self.rate;
        if average == 0 {
            return Duration::ZERO;
        }
        let (size, burst_size) = match burst {
            0 => (float(average) / 10.0, f64::INFINITY),
            _ => (float(burst) * float(burst_seconds), float(burst) / 10.0),
        };
        if self.level > size {
            return seconds((self.level - size) / float(average));
        }
        if burst_seconds > 1 && self.burst_level > burst_size {
            return seconds((self.burst_level - burst_size) / float(burst));
        }
        Duration::ZERO
    }
}

/// Rates are at most 10^15, which floating point numbers hold exactly.
#[expect(clippy::cast_precision_loss, reason = "far below the limit of exactness")]
pub(super) fn float(number: u64) -> f64 {
    number as f64
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_tenth_of_a_second_is_free() {
        let mut bucket = Bucket::new(Rate { average: 1000, burst: 0, burst_seconds: 1 });
        bucket.fill(100.0);
        assert_eq!(bucket.wait(), Duration::ZERO);
        bucket.fill(1000.0);
        assert_eq!(bucket.wait(), SECOND);
        bucket.leak(SECOND / 2);
        assert_eq!(bucket.wait(), SECOND / 2);
        bucket.leak(10 * SECOND);
        assert_eq!(bucket.wait(), Duration::ZERO);
        assert!(bucket.level.abs() < 1e-9, "time does not add up");
    }

    #[test]
    fn bursts_have_a_rate_and_a_length() {
        let mut bucket = Bucket::new(Rate { average: 100, burst: 1000, burst_seconds: 2 });
        // More than the average, but within the burst.
        bucket.fill(100.0);
        assert_eq!(bucket.wait(), Duration::ZERO);
        // The burst's own rate: a tenth of a second of it is free.
        bucket.fill(500.0);
        assert_eq!(bucket.wait(), SECOND / 2);
        bucket.leak(SECOND / 2);
        // Its length.
        bucket.fill(1550.0);
        assert_eq!(bucket.wait(), SECOND);
    }

    #[test]
    fn no_limit_is_no_wait() {
        let mut bucket = Bucket::new(Rate::default());
        bucket.fill(1e18);
        assert_eq!(bucket.wait(), Duration::ZERO);
    }
}
