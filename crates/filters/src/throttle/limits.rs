//! The limits of a group, and which of them make sense. QEMU: `ThrottleConfig`, `throttle_is_valid` (util/throttle.c).

use super::bucket::Rate;

/// No limit is larger.
const VALUE_MAX: u64 = 1_000_000_000_000_000;

/// The names of the limits, without what may follow: `-max`, `-max-length`.
const NAMES: [&str; 6] = ["bps-total", "bps-read", "bps-write", "iops-total", "iops-read", "iops-write"];

/// What a property of a group sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Average(usize),
    Burst(usize),
    BurstSeconds(usize),
    OpBytes,
}

/// All limits of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    rates: [Rate; NAMES.len()],
    /// Larger requests count as several; 0: all count as one.
    op_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rates: [Rate { average: 0, burst: 0, burst_seconds: 1 }; NAMES.len()], op_bytes: 0 }
    }
}

impl Limits {
    /// The names of all limits: those of the object's members in `limits`, and with `x-` before them, of the older
    /// properties.
    pub fn names() -> impl Iterator<Item = String> {
        let of_rate = |name: &str| [name.to_owned(), format!("{name}-max"), format!("{name}-max-length")];
        NAMES.into_iter().flat_map(of_rate).chain(["iops-size".to_owned()])
    }

    /// Sets the limit of that name, which must be one of [`Limits::names`].
    ///
    /// # Errors
    /// With the reference's text, when the value is too long for a length.
    pub fn set(&mut self, name: &str, value: u64) -> Result<(), String> {
        match Self::field(name) {
            Some(Field::Average(at)) => self.rates[at].average = value,
            Some(Field::Burst(at)) => self.rates[at].burst = value,
            Some(Field::BurstSeconds(_)) if value > u64::from(u32::MAX) => {
                return Err(format!("{name} value must be in the range [0, {}]", u32::MAX));
            }
            Some(Field::BurstSeconds(at)) => self.rates[at].burst_seconds = value,
            Some(Field::OpBytes) => self.op_bytes = value,
            None => return Err(format!("Parameter '{name}' is unexpected")),
        }
        Ok(())
    }

    fn field(name: &str) -> Option<Field> {
        if name == "iops-size" {
            return Some(Field::OpBytes);
        }
        let index = |name: &str| NAMES.iter().position(|known| *known == name);
        if let Some(rate) = name.strip_suffix("-max-length") {
            return index(rate).map(Field::BurstSeconds);
        }
        if let Some(rate) = name.strip_suffix("-max") {
            return index(rate).map(Field::Burst);
        }
        index(name).map(Field::Average)
    }

    /// Fails, with the reference's text, when the limits contradict one another.
    ///
    /// # Errors
    /// See above.
    pub fn check(&self) -> Result<(), String> {
        let [bps_total, bps_read, bps_write, iops_total, iops_read, iops_write] = self.rates;
        let both = |value: fn(&Rate) -> u64, total: &Rate, read: &Rate, write: &Rate| {
            value(total) != 0 && (value(read) != 0 || value(write) != 0)
        };
        for value in [|rate: &Rate| rate.average, |rate: &Rate| rate.burst] {
            if both(value, &bps_total, &bps_read, &bps_write) || both(value, &iops_total, &iops_read, &iops_write) {
                return Err("bps/iops/max total values and read/write values cannot be used at the same time".into());
            }
        }
        let has_iops = [iops_total, iops_read, iops_write].iter().any(|rate| rate.average != 0);
        if self.op_bytes != 0 && !has_iops {
            return Err("iops size requires an iops value to be set".into());
        }
        self.rates.iter().try_for_each(check_rate)
    }

    /// How many operations a request counts as.
    pub(super) fn operations(&self, bytes: u64) -> f64 {
        if self.op_bytes != 0 && bytes > self.op_bytes {
            return super::bucket::float(bytes) / super::bucket::float(self.op_bytes);
        }
        1.0
    }

    /// The rates, in the order in which [`Self::names`] has them.
    pub(super) fn rates(&self) -> &[Rate; NAMES.len()] {
        &self.rates
    }
}

fn check_rate(rate: &Rate) -> Result<(), String> {
    let Rate { average, burst, burst_seconds } = *rate;
    let complaint = if average > VALUE_MAX || burst > VALUE_MAX {
        return Err(format!("bps/iops/max values must be within [0, {VALUE_MAX}]"));
    } else if burst_seconds == 0 {
        "the burst length cannot be 0"
    } else if burst_seconds > 1 && burst == 0 {
        "burst length set without burst rate"
    } else if burst_seconds > 1 && burst > VALUE_MAX / burst_seconds {
        "burst length too high for this burst rate"
    } else if burst != 0 && average == 0 {
        "bps_max/iops_max require corresponding bps/iops values"
    } else if burst != 0 && burst < average {
        "bps_max/iops_max cannot be lower than bps/iops"
    } else {
        return Ok(());
    };
    Err(complaint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(values: &[(&str, u64)]) -> String {
        let mut limits = Limits::default();
        let set = values.iter().try_for_each(|(name, value)| limits.set(name, *value));
        set.and_then(|()| limits.check()).expect_err("contradictory")
    }

    #[test]
    fn contradictions_are_named() {
        let both = "bps/iops/max total values and read/write values cannot be used at the same time";
        for (values, text) in [
            (&[("bps-total", 1), ("bps-read", 1)][..], both),
            (&[("iops-total", 1), ("iops-write", 1)], both),
            (&[("iops-size", 512)], "iops size requires an iops value to be set"),
            (&[("bps-total", VALUE_MAX + 1)], "bps/iops/max values must be within [0, 1000000000000000]"),
            (&[("bps-total-max-length", 0)], "the burst length cannot be 0"),
            (&[("bps-total", 9), ("bps-total-max-length", 2)], "burst length set without burst rate"),
            (&[("bps-read-max", 1)], "bps_max/iops_max require corresponding bps/iops values"),
            (&[("bps-read", 2), ("bps-read-max", 1)], "bps_max/iops_max cannot be lower than bps/iops"),
            (&[("bps-read-max-length", 1 << 32)], "bps-read-max-length value must be in the range [0, 4294967295]"),
        ] {
            assert_eq!(complaint(values), text);
        }
    }

    #[test]
    fn every_name_sets_something_of_its_own() {
        let mut seen = Vec::new();
        for name in Limits::names() {
            let mut limits = Limits::default();
            limits.set(&name, 7).expect("known");
            assert!(!seen.contains(&limits) && limits != Limits::default(), "{name}");
            seen.push(limits);
        }
        assert_eq!(seen.len(), 19);
        assert!(Limits::default().set("bps", 1).is_err());
    }
}
