//! What the check found: totals, and messages that are bounded however damaged an image is.

use qemu_block::types::CheckReport;

use crate::limits::CHECK_MESSAGES_PER_CLASS_MAX;

/// The classes of messages; each has its own bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Regions outside the file.
    Region,
    /// Malformed entries of L1 and L2 tables.
    Mapping,
    /// Snapshots and bitmaps.
    Directory,
    /// Refcount table and blocks.
    RefcountTable,
    /// Clusters with a refcount that is too small.
    Refcount,
    /// Clusters with a refcount that is too large.
    Leak,
    /// "Refcount is exactly one" flags.
    Copied,
    /// What could not be read.
    Unreadable,
}

const CLASSES: usize = 8;

/// What a message says about the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// Data is damaged or will be.
    Corruption,
    /// Space is lost.
    Leak,
    /// Something could not be checked.
    CheckError,
}

/// The report in the making.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) report: CheckReport,
    per_class: [u64; CLASSES],
}

impl Findings {
    /// Counts a finding that holds `times` times, and keeps its message if its class has room.
    pub(super) fn add(&mut self, class: Class, severity: Severity, times: u64, message: impl FnOnce() -> String) {
        let report = &mut self.report;
        let counter = match severity {
            Severity::Corruption => &mut report.corruptions,
            Severity::Leak => &mut report.leaks,
            Severity::CheckError => &mut report.check_errors,
        };
        *counter = counter.saturating_add(times);
        let seen = &mut self.per_class[class as usize];
        if *seen < CHECK_MESSAGES_PER_CLASS_MAX {
            report.messages.push(message());
        }
        *seen += 1;
    }

    /// A corruption that was found once.
    pub(super) fn corruption(&mut self, class: Class, message: impl FnOnce() -> String) {
        self.add(class, Severity::Corruption, 1, message);
    }

    /// Something that could not be read.
    pub(super) fn unreadable(&mut self, what: &str, error: &qemu_block::error::BlockError) {
        self.add(Class::Unreadable, Severity::CheckError, 1, || {
            format!("ERROR: could not read {what}: {}", error.chain())
        });
    }

    /// The finished report: says how many messages were left out.
    pub(super) fn finish(mut self) -> CheckReport {
        for seen in self.per_class {
            if seen > CHECK_MESSAGES_PER_CLASS_MAX {
                let more = seen - CHECK_MESSAGES_PER_CLASS_MAX;
                self.report.messages.push(format!("... and {more} more"));
            }
        }
        self.report
    }
}

/// A name from the image, short and without anything that could disturb a terminal.
pub(super) fn printable(name: &[u8]) -> String {
    let shown = String::from_utf8_lossy(name);
    let mut text = String::new();
    for character in shown.chars().take(64) {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}
