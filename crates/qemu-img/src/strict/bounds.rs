//! How much memory and processor time a command may take.

use confine::Limits;
use qemu_util::units::GIB;

use super::Strict;

/// Memory for any command. Its own bounds (caches, tables, requests under way) are far below; this one is for what
/// they overlook.
const MEMORY: u64 = GIB;

/// Processor time of commands that read some metadata, in seconds.
const BRIEF: u64 = 60;

/// Of those that read all metadata.
const THOROUGH: u64 = 600;

/// Of those whose work grows with the data.
const DATA: u64 = 24 * 60 * 60;

/// The limits of `command`. Where the user gives one himself, it is that; nothing is limited by zero.
pub(super) fn limits(command: &str, strict: &Strict) -> Limits {
    let seconds = match command {
        "info" | "map" | "measure" | "snapshot" | "bitmap" => BRIEF,
        "check" | "amend" => THOROUGH,
        _ => DATA,
    };
    let limit = |given: Option<u64>, usual| Some(given.unwrap_or(usual)).filter(|limit| *limit != 0);
    Limits { memory: limit(strict.memory, MEMORY), cpu_seconds: limit(strict.cpu_seconds, seconds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_says_counts() {
        let usual = limits("info", &Strict::OFF);
        assert_eq!(usual, Limits { memory: Some(GIB), cpu_seconds: Some(60) });
        let given = Strict { cpu_seconds: Some(0), memory: Some(5), ..Strict::OFF };
        assert_eq!(limits("info", &given), Limits { memory: Some(5), cpu_seconds: None });
        assert!(limits("convert", &Strict::OFF).cpu_seconds > usual.cpu_seconds);
    }
}
