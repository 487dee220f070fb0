//! The lines about finished requests: how much, how long, how fast.
//!
//! QEMU: `print_report`, `cvtstr`, `timestr` (qemu-io-cmds.c)

use std::time::Duration;

/// What a finished request has to tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    /// `read`, `wrote` or `discard`.
    pub(super) verb: &'static str,
    /// Where it began, in bytes.
    pub(super) offset: u64,
    /// How many bytes it moved.
    pub(super) len: u64,
    /// Whether to print numbers with commas, for programs.
    pub(super) for_programs: bool,
}

impl Report {
    /// The lines, each with its newline.
    pub(super) fn text(&self, elapsed: Duration) -> String {
        let Self { verb, offset, len, for_programs } = *self;
        let seconds = elapsed.as_secs_f64();
        let (bytes_per_second, ops_per_second) = (to_double(len) / seconds, 1.0 / seconds);
        if for_programs {
            return format!("{len},1,{},{bytes_per_second:.3},{ops_per_second:.3}\n", clock(elapsed));
        }
        let time = if elapsed.as_secs() > 0 { clock(elapsed) } else { format!("{seconds:05.2} sec") };
        format!(
            "{verb} {len}/{len} bytes at offset {offset}\n{}, 1 ops; {time} ({}/sec and {ops_per_second:.4} ops/sec)\n",
            bytes(len),
            scaled(bytes_per_second),
        )
    }
}

/// A number of bytes with three decimals and a unit: `1.500 KiB`, `512 bytes`.
pub(super) fn bytes(count: u64) -> String {
    scaled(to_double(count))
}

fn scaled(value: f64) -> String {
    const UNITS: [(&str, u64); 6] =
        [("EiB", 1 << 60), ("PiB", 1 << 50), ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = UNITS.iter().find(|(_, size)| value >= to_double(*size));
    let (number, unit) = match unit {
        Some((name, size)) => (format!("{:.3}", value / to_double(*size)), *name),
        None => (format!("{value:.6}"), "bytes"),
    };
    // Three zeros behind the point end the number, even where more digits follow.
    let end = number.find(".000").unwrap_or(number.len());
    format!("{} {unit}", &number[..end])
}

/// Hours, minutes and seconds.
fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    let rest = Duration::new(seconds % 60, elapsed.subsec_nanos()).as_secs_f64();
    format!("{}:{:02}:{rest:05.2}", seconds / 3600, seconds / 60 % 60)
}

#[expect(clippy::cast_precision_loss, reason = "the reference computes with doubles, and few digits are shown")]
fn to_double(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_the_references() {
        let known = [(0, "0 bytes"), (17, "17 bytes"), (1536, "1.500 KiB"), (1 << 20, "1 MiB"), (960 << 10, "960 KiB")];
        for (count, text) in known {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(scaled(1.867_091), "1.867091 bytes");
        assert_eq!(scaled(0.000_4), "0 bytes");
        assert_eq!(bytes((1 << 20) + 1), "1 MiB");
    }

    #[test]
    fn times_have_hours_only_when_they_take_that_long() {
        let report = Report { verb: "read", offset: 512, len: 1024, for_programs: false };
        let text = "read 1024/1024 bytes at offset 512\n1 KiB, 1 ops; 00.50 sec (2 KiB/sec and 2.0000 ops/sec)\n";
        assert_eq!(report.text(Duration::from_millis(500)), text);
        let slow = report.text(Duration::from_secs(4000));
        assert!(slow.ends_with("1 KiB, 1 ops; 1:06:40.00 (0.256000 bytes/sec and 0.0003 ops/sec)\n"), "{slow}");
        let programs = Report { for_programs: true, ..report };
        assert_eq!(programs.text(Duration::from_millis(500)), "1024,1,0:00:00.50,2048.000,2.000\n");
    }
}
