//! What progress looks like, line by line.

use qemu_util::units::format_size;
use serde_json::json;

/// Characters between the brackets of a bar.
const BAR_COLUMNS: u32 = 30;

/// The line of `-p` that consumers parse.
pub(super) fn show_line(percent: f32) -> String {
    format!("    ({percent:.2}/100%)\r")
}

/// A line of `--progress=json`.
pub(super) fn json_line(phase: &str, bytes: u64, total: Option<u64>, rate: u64) -> String {
    format!("{}\n", json!({ "phase": phase, "bytes": bytes, "total": total, "rate": rate }))
}

/// A bar, written over the one before.
pub(super) fn bar(percent: f32, done: u64, total: Option<u64>, rate: u64) -> String {
    let filled = (0..BAR_COLUMNS).filter(|&at| percent >= f32_of(at + 1) * 100.0 / f32_of(BAR_COLUMNS)).count();
    let full = "#".repeat(filled);
    let left = match total.map(|total| total.saturating_sub(done)) {
        Some(left) if rate > 0 => format!("  {} left", clock(left / rate)),
        _ => String::new(),
    };
    let columns = usize::try_from(BAR_COLUMNS).expect("a small number");
    // The end of the line is cleared, for the one before may have been longer.
    format!("\r[{full:<columns$}] {percent:6.2}%  {}/s{left}\x1b[K", format_size(rate))
}

fn f32_of(number: u32) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "columns are few")]
    let number = number as f32;
    number
}

/// Seconds as `1:02:03` or `2:03`.
fn clock(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_what_consumers_parse() {
        assert_eq!(show_line(0.0), "    (0.00/100%)\r");
        assert_eq!(show_line(12.345), "    (12.35/100%)\r");
        assert_eq!(show_line(100.0), "    (100.00/100%)\r");
    }

    #[test]
    fn objects_have_their_members_in_order() {
        assert_eq!(json_line("copy", 1, Some(2), 3), "{\"phase\":\"copy\",\"bytes\":1,\"total\":2,\"rate\":3}\n");
        assert_eq!(json_line("copy", 1, None, 3), "{\"phase\":\"copy\",\"bytes\":1,\"total\":null,\"rate\":3}\n");
    }

    #[test]
    fn bars_grow_and_tell_the_time_left() {
        let half = bar(50.0, 1 << 30, Some(2 << 30), 1 << 24);
        assert_eq!(half, format!("\r[{}{}]  50.00%  16 MiB/s  1:04 left\x1b[K", "#".repeat(15), " ".repeat(15)));
        assert!(bar(0.0, 0, None, 0).starts_with(&format!("\r[{}]   0.00%", " ".repeat(30))));
        assert!(bar(100.0, 5, Some(5), 1).starts_with(&format!("\r[{}] 100.00%", "#".repeat(30))));
        assert_eq!(clock(3723), "1:02:03");
    }
}
