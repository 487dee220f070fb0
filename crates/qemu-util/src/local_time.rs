//! Points in time as the clock on the wall shows them.
//!
//! ```
//! let text = qemu_util::local_time::format(1_795_262_400); // Noon, somewhere in London.
//! assert!(text.starts_with("2026-11-2"));
//! assert_eq!(text.len(), "2026-11-21 12:00:00".len());
//! ```
//!
//! QEMU: `g_date_time_format` as `info` uses it (block/qapi.c)

/// Formats `seconds` since the epoch as `2026-11-21 23:17:55` in the zone of this process (`TZ`, `/etc/localtime`).
///
/// A point in time whose year does not fit the C library's calendar comes out as its number of seconds.
#[must_use]
pub fn format(seconds: i64) -> String {
    broken_down(seconds).unwrap_or_else(|| seconds.to_string())
}

fn broken_down(seconds: i64) -> Option<String> {
    let time = libc::time_t::from(seconds);
    let mut parts = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY:
    // - `time` and `parts` are valid for the duration of the call;
    // - the function may read the environment, which no code of this workspace changes.
    let filled = unsafe { libc::localtime_r(&raw const time, parts.as_mut_ptr()) };
    if filled.is_null() {
        return None;
    }
    // SAFETY: `tm` is plain old data for which zeros are valid, and the call above filled it in.
    let parts = unsafe { parts.assume_init() };
    let year = i64::from(parts.tm_year) + 1900;
    let month = parts.tm_mon + 1;
    let (day, hour, minute, second) = (parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
    Some(format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_day() {
        // Whatever the zone, noon UTC is within a day of this date.
        let text = format(1_795_262_400);
        assert!(["2026-11-21", "2026-11-22"].contains(&&text[..10]), "{text}");
        assert_eq!(text.len(), "2026-11-21 12:00:00".len());
    }

    #[test]
    fn the_end_of_the_calendar_is_no_panic() {
        assert_eq!(format(i64::MAX), i64::MAX.to_string());
    }
}
