//! Limits on how fast is written: the option `-r`.
//!
//! Time is cut into slices, each of which may move so many bytes. Whoever oversteps that waits for as many slices as it
//! has used up, so that the long-term rate is right whatever the size of the requests is.
//!
//! QEMU: include/qemu/ratelimit.h

use std::time::{Duration, Instant};

use qemu_util::aio::AioContext;
use qemu_util::primitive::Mutex;

/// The length of a slice. QEMU: `BLOCK_JOB_SLICE_TIME`
const SLICE: Duration = Duration::from_millis(100);

/// A limit that tasks may share.
#[derive(Debug)]
pub(crate) struct RateLimit {
    slices: Mutex<Slices>,
    aio: AioContext,
}

impl RateLimit {
    /// At most `bytes_per_second`; zero: no limit.
    pub(crate) fn new(bytes_per_second: u64, aio: AioContext) -> Self {
        Self { slices: Mutex::new(Slices::new(bytes_per_second, Instant::now())), aio }
    }

    /// Waits, if need be, after `bytes` were moved, or before.
    pub(crate) async fn pass(&self, bytes: u64) {
        let delay = self.slices.lock().delay(bytes, Instant::now());
        if !delay.is_zero() {
            self.aio.sleep(delay).await;
        }
    }
}

/// The accounts.
#[derive(Debug)]
struct Slices {
    /// Bytes that a slice may move; none: as many as there are.
    quota: Option<u64>,
    start: Instant,
    end: Instant,
    moved: u64,
}

impl Slices {
    fn new(bytes_per_second: u64, now: Instant) -> Self {
        let per_slice = u128::from(bytes_per_second) * SLICE.as_millis() / 1000;
        let quota = (bytes_per_second > 0).then(|| u64::try_from(per_slice).unwrap_or(u64::MAX).max(1));
        Self { quota, start: now, end: now, moved: 0 }
    }

    /// How long whoever moves `bytes` at `now` has to wait.
    fn delay(&mut self, bytes: u64, now: Instant) -> Duration {
        let Some(quota) = self.quota else { return Duration::ZERO };
        if self.end <= now {
            (self.start, self.end, self.moved) = (now, now + SLICE, 0);
        }
        self.moved = self.moved.saturating_add(bytes);
        if self.moved < quota {
            return Duration::ZERO;
        }
        let nanoseconds = u128::from(self.moved) * SLICE.as_nanos() / u128::from(quota);
        let used = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        // A time that no clock reaches is as good as any other one.
        self.end = self.start.checked_add(used).unwrap_or(self.end);
        self.end.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What it takes to move `n` requests of `bytes` one after the other, each of which takes `each`.
    fn time_for(bytes_per_second: u64, bytes: u64, n: u32, each: Duration) -> Duration {
        let start = Instant::now();
        let mut slices = Slices::new(bytes_per_second, start);
        let end = (0..n).fold(start, |now, _| {
            let delay = slices.delay(bytes, now);
            now + delay + each
        });
        end - start
    }

    #[test]
    fn the_rate_is_kept_whatever_the_requests_are() {
        for bytes in [512, 64 << 10, 1 << 20, 10 << 20] {
            let n = u32::try_from((100_u64 << 20) / bytes).expect("few");
            let time = time_for(10 << 20, bytes, n, Duration::ZERO);
            let (least, most) = (Duration::from_millis(9800), Duration::from_millis(10_100));
            assert!(least <= time && time <= most, "{bytes}: {time:?}");
        }
    }

    #[test]
    fn what_is_slow_by_itself_does_not_wait() {
        let each = Duration::from_millis(10);
        assert_eq!(time_for(1 << 30, 4096, 100, each), each * 100);
        assert_eq!(time_for(0, u64::MAX, 100, each), each * 100);
    }

    #[test]
    fn extremes_are_no_problem() {
        let start = Instant::now();
        let mut slices = Slices::new(1, start);
        assert!(slices.delay(u64::MAX, start) > Duration::from_secs(3600));
        assert_eq!(Slices::new(u64::MAX, start).delay(1 << 40, start), Duration::ZERO);
        assert!(Slices::new(3, start).delay(1, start) >= SLICE);
    }
}
