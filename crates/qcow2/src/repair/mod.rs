//! Repairing what the check finds.
//!
//! Everything is found and decided before anything is written: whether the repair is possible at all, what it writes,
//! and how much larger the file becomes (rule R10). Then it is written in an order that leaves, wherever it
//! is interrupted, an image that is damaged no worse than before:
//!
//! | step | written | why it may be written now |
//! |---|---|---|
//! | 1 | impossible L2 entries become zeros | nothing else depends on them |
//! | 2 | barrier, refcounts | nothing durable refers to clusters whose count goes down |
//! | 3 | barrier, "refcount is exactly one" flags | the counts that they tell of are durable |
//! | 4 | barrier, snapshot table | the refcounts are right, so that clusters can be allocated |
//! | 5 | barrier, the header's dirty and corrupt bits | everything above is durable |
//!
//! Where the refcount structures themselves are destroyed, step 2 makes new ones in space that neither the old ones nor
//! anything else uses, and then, after a barrier of its own, lets the header point there.
//!
//! | file | concept |
//! |---|---|
//! | here | the decision and the steps |
//! | `image` | checks and repairs of open images |
//! | `layout` | where new refcount structures go |
//! | `rebuild` | writing them |
//! | `fixer` | writing into existing tables |
//! | `snapshots` | writing the snapshot table anew |
//!
//! QEMU: `qcow2_co_check_locked` (block/qcow2.c), `qcow2_check_refcounts` (block/qcow2-refcount.c).

mod fixer;
mod image;
mod layout;
mod rebuild;
mod snapshots;

use qemu_block::error::Result;
use qemu_block::types::{CheckFixes, CheckReport};

use crate::cache::file::MetaFile;
use crate::check::Checker;
use crate::check::findings::{Class, Severity};
use crate::format::features::{Autoclear, Incompatible};
use crate::format::header::{FEATURES_OFFSET, Header};
pub(crate) use fixer::Fixer;
pub(crate) use image::repair_dirty;
use layout::Layout;

/// Repairs that follow one another at most.
const ROUNDS_MAX: usize = 3;
/// The autoclear features follow the incompatible and the compatible ones, eight bytes each.
const AUTOCLEAR_OFFSET: u64 = FEATURES_OFFSET + 16;

/// Checks the image in `file`, of which nothing is in memory, and repairs what `fixes` says. `header` is changed as the
/// one on disk is.
///
/// The report counts what was repaired, and what could not be. Damage that forbids any repair, because not
/// everything that uses clusters is known, is reported without one.
///
/// # Errors
/// When checking was impossible, and those of writing.
pub(crate) async fn repair(file: &MetaFile, header: &mut Header, fixes: CheckFixes) -> Result<CheckReport> {
    let mut total = CheckReport::default();
    for _ in 0..ROUNDS_MAX {
        let len = file.len();
        let mut round = repair_once(file, header, fixes).await?;
        total.messages.append(&mut round.messages);
        total = CheckReport {
            corruptions_fixed: total.corruptions_fixed.saturating_add(round.corruptions_fixed),
            leaks_fixed: total.leaks_fixed.saturating_add(round.leaks_fixed),
            messages: total.messages,
            ..round
        };
        // In a file that had to grow, something may be inside now that was found outside before.
        if total.corruptions == 0 || file.len() == len {
            break;
        }
    }
    Ok(total)
}

async fn repair_once(file: &MetaFile, header: &mut Header, fixes: CheckFixes) -> Result<CheckReport> {
    let old = header.clone();
    let mut checker = Checker::new(file.node(), &old, fixes);
    checker.count_references().await;
    let references = checker.findings.tally();
    checker.count_refcount_structures().await;
    let structures = checker.findings.tally();
    checker.compare_refcounts(None).await?;

    if references.check_errors > 0 || checker.is_incomplete {
        return report_only(file, header, "not everything that uses clusters could be read").await;
    }
    if checker.repairable_l2.iter().any(|table| checker.overlaps_metadata(*table)) {
        return report_only(file, header, "L2 tables overlap other metadata").await;
    }
    let layout = match (checker.needs_rebuild, fixes) {
        (true, CheckFixes::All) => match Layout::plan(file.node(), &checker) {
            Ok(layout) => Some(layout),
            Err(error) => return report_only(file, header, &error.chain()).await,
        },
        (true, _) => return Ok(needs_rebuild(checker)),
        (false, _) => None,
    };

    clear_unknown_autoclear(file, header).await?;
    let fixer = Fixer::new(file, fixes);
    for table in &checker.repairable_l2 {
        fixer.fix_l2_table(*table, checker.layout).await?;
    }
    file.flush().await?;
    if let Some(layout) = layout {
        let found = checker.findings.tally();
        rebuild::rebuild(file, header, &mut checker, layout).await?;
        checker.findings.repaired_down_to(references, found);
    } else if checker.findings.found_anything() {
        // As the reference does: what was found is found again, and repaired this time.
        checker.findings.reset(structures);
        checker.compare_refcounts(Some(&fixer)).await?;
        file.flush().await?;
    }
    let flags_too = fixes == CheckFixes::All || !checker.findings.found_anything();
    checker.check_copied_flags(flags_too.then_some(&fixer)).await?;
    file.flush().await?;
    if checker.snapshot_flaws > 0 && fixes == CheckFixes::All {
        rewrite_snapshots(file, header, &mut checker).await;
    }
    let report = checker.finish();
    if report.check_errors == 0 && report.corruptions == 0 {
        mark_sound(file, header).await?;
    }
    Ok(report)
}

/// What the check alone says, and that nothing was repaired.
async fn report_only(file: &MetaFile, header: &Header, why: &str) -> Result<CheckReport> {
    let mut report = crate::check::check(file.node(), header).await?;
    report.messages.push(format!("ERROR nothing was repaired: {why}"));
    if report.corruptions == 0 && report.check_errors == 0 {
        report.check_errors = 1;
    }
    Ok(report)
}

/// Leaks cannot be repaired in refcount structures that are destroyed themselves.
fn needs_rebuild(mut checker: Checker<'_>) -> CheckReport {
    checker
        .findings
        .add(Class::Repair, Severity::CheckError, 1, || "ERROR need to rebuild refcount structures".to_owned());
    let mut report = checker.finish();
    report.stopped_by = Some(libc::EIO);
    report
}

async fn rewrite_snapshots(file: &MetaFile, header: &mut Header, checker: &mut Checker<'_>) {
    let Err(error) = snapshots::rewrite(file, header).await else { return };
    let report = &mut checker.findings.report;
    report.corruptions_fixed = report.corruptions_fixed.saturating_sub(checker.snapshot_flaws);
    report.corruptions = report.corruptions.saturating_add(checker.snapshot_flaws);
    checker.findings.add(Class::Repair, Severity::CheckError, 1, || {
        format!("ERROR failed to update snapshot table: {}", error.chain())
    });
}

/// Clears the features that nobody here knows, before anything is changed that they may be about (rule R16).
/// What is known stays true: a repair changes neither guest data nor bitmaps.
async fn clear_unknown_autoclear(file: &MetaFile, header: &mut Header) -> Result<()> {
    let kept = header.autoclear & (Autoclear::BITMAPS | Autoclear::DATA_FILE_RAW);
    if kept == header.autoclear {
        return Ok(());
    }
    file.commit_header(AUTOCLEAR_OFFSET, &kept.bits().to_be_bytes()).await?;
    header.autoclear = kept;
    Ok(())
}

/// Clears the bits that say that the image is damaged. QEMU: `qcow2_mark_clean`, `qcow2_mark_consistent`.
async fn mark_sound(file: &MetaFile, header: &mut Header) -> Result<()> {
    let sound = header.incompatible.difference(Incompatible::DIRTY | Incompatible::CORRUPT);
    if sound == header.incompatible {
        return Ok(());
    }
    file.flush().await?;
    file.commit_header(FEATURES_OFFSET, &sound.bits().to_be_bytes()).await?;
    header.incompatible = sound;
    Ok(())
}
