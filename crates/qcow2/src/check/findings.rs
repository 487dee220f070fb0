//! What the check found: totals, and messages that are bounded however damaged an image is.

use qemu_block::types::CheckReport;

use crate::limits::CHECK_MESSAGES_PER_CLASS_MAX;

/// The classes of messages; each has its own bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
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
    /// Refcounts that are repaired.
    RefcountRepair,
    /// What the repair does as a whole.
    Repair,
}

const CLASSES: usize = 10;

/// What a message says about the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// Data is damaged or will be.
    Corruption,
    /// Space is lost.
    Leak,
    /// Something could not be checked.
    CheckError,
    /// Data was at risk, and is not any more once the repair has been written.
    RepairedCorruption,
    /// Space was lost, and is not any more once the repair has been written.
    RepairedLeak,
}

/// Totals at some moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    pub(crate) corruptions: u64,
    pub(crate) leaks: u64,
    pub(crate) check_errors: u64,
    corruptions_fixed: u64,
    leaks_fixed: u64,
}

/// The report in the making.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) report: CheckReport,
    per_class: [u64; CLASSES],
}

impl Findings {
    /// Counts a finding that holds `times` times, and keeps its message if its class has room.
    pub(crate) fn add(&mut self, class: Class, severity: Severity, times: u64, message: impl FnOnce() -> String) {
        let report = &mut self.report;
        let counter = match severity {
            Severity::Corruption => &mut report.corruptions,
            Severity::Leak => &mut report.leaks,
            Severity::CheckError => &mut report.check_errors,
            Severity::RepairedCorruption => &mut report.corruptions_fixed,
            Severity::RepairedLeak => &mut report.leaks_fixed,
        };
        *counter = counter.saturating_add(times);
        self.say(class, message);
    }

    /// Keeps a message that counts nothing, if its class has room.
    pub(crate) fn say(&mut self, class: Class, message: impl FnOnce() -> String) {
        let seen = &mut self.per_class[class as usize];
        if *seen < CHECK_MESSAGES_PER_CLASS_MAX {
            self.report.messages.push(message());
        }
        *seen += 1;
    }

    /// A corruption that was found once.
    pub(crate) fn corruption(&mut self, class: Class, message: impl FnOnce() -> String) {
        self.add(class, Severity::Corruption, 1, message);
    }

    /// Something that could not be read.
    pub(crate) fn unreadable(&mut self, what: &str, error: &qemu_block::error::BlockError) {
        self.add(Class::Unreadable, Severity::CheckError, 1, || {
            format!("ERROR: could not read {what}: {}", error.chain())
        });
    }

    /// The totals up to now.
    pub(crate) fn tally(&self) -> Tally {
        let CheckReport { corruptions, leaks, check_errors, corruptions_fixed, leaks_fixed, .. } = self.report;
        Tally { corruptions, leaks, check_errors, corruptions_fixed, leaks_fixed }
    }

    /// Whether there is anything that is not repaired.
    pub(crate) fn found_anything(&self) -> bool {
        let CheckReport { corruptions, leaks, check_errors, .. } = self.report;
        corruptions > 0 || leaks > 0 || check_errors > 0
    }

    /// Goes back to earlier totals; messages stay.
    pub(crate) fn reset(&mut self, earlier: Tally) {
        let Tally { corruptions, leaks, check_errors, corruptions_fixed, leaks_fixed } = earlier;
        let messages = std::mem::take(&mut self.report.messages);
        let counted = std::mem::take(&mut self.report);
        self.report =
            CheckReport { corruptions, leaks, check_errors, corruptions_fixed, leaks_fixed, messages, ..counted };
    }

    /// What was found after `left` had been is repaired; `found` are the totals with it.
    pub(crate) fn repaired_down_to(&mut self, left: Tally, found: Tally) {
        self.reset(Tally {
            corruptions_fixed: found.corruptions_fixed.saturating_add(found.corruptions - left.corruptions),
            leaks_fixed: found.leaks_fixed.saturating_add(found.leaks - left.leaks),
            ..left
        });
    }

    /// The finished report: says how many messages were left out.
    pub(crate) fn finish(mut self) -> CheckReport {
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
