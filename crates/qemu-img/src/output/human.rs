//! Text for people: nothing that comes from an image reaches the terminal unfiltered.

use std::fmt::Write;

/// Characters of one image-derived text that are shown. The longest names that the formats allow are shorter, save for
/// the 64 KiB of snapshot names that nobody uses.
const TEXT_CHARS_MAX: usize = 4096;

/// `text` with control characters and bad encodings made visible, and cut when it is absurdly long (rule R5).
pub(crate) fn escape(text: &str) -> String {
    escape_where(text, is_dangerous)
}

/// As [`escape`], but newlines stay: for messages of several lines.
pub(crate) fn escape_lines(text: &str) -> String {
    escape_where(text, |c| c != '\n' && is_dangerous(c))
}

/// Whether a terminal could do something else than to show `c`: control characters, and the invisible ones that
/// reorder or hide the text around them.
fn is_dangerous(c: char) -> bool {
    let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || reorders
}

fn escape_where(text: &str, dangerous: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.chars().enumerate() {
        if at == TEXT_CHARS_MAX {
            out.push_str("...");
            break;
        }
        if !dangerous(c) {
            out.push(c);
        } else if c.is_ascii() {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\x{:02x}", u32::from(c));
        } else {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
    }
    out
}

/// `part` of `whole` in percent, with two decimals; 0 when there is no whole.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "the reference computes with doubles, and two decimals are shown")]
    let percent = if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 };
    format!("{percent:.2}%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_safe() {
        assert_eq!(escape("plain ü 😀"), "plain ü 😀");
        assert_eq!(escape("a\u{1b}[31m\n\u{9b}b\u{7f}\u{202e}"), "a\\x1b[31m\\x0a\\u{9b}b\\x7f\\u{202e}");
        assert_eq!(escape_lines("a\nb\r"), "a\nb\\x0d");
    }

    #[test]
    fn long_texts_are_cut() {
        let shown = escape(&"x".repeat(1 << 20));
        assert_eq!(shown.len(), TEXT_CHARS_MAX + 3);
        assert!(shown.ends_with("..."));
    }

    #[test]
    fn percentages() {
        assert_eq!(percent(155, 384), "40.36%");
        assert_eq!(percent(0, 0), "0.00%");
    }
}
