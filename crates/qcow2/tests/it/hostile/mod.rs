//! Hostile images: every field of every structure at its limits and beyond, and structures that lie on one another.
//!
//! | file | what |
//! |---|---|
//! | `image` | a valid image, laid out field by field, to be spoilt |
//! | `case` | one of the collection |
//! | `observe` | what our driver makes of it, and what always has to hold |
//! | `expected` | the outcome of each case, in text files |
//! | `twin`, `differences` | the reference's verdict, and where ours is another one on purpose |
//! | the others | the cases, by the structure that is spoilt |

mod bitmaps;
mod case;
mod differences;
mod expected;
mod extensions;
mod image;
mod l1;
mod l2;
mod main_header;
mod names;
mod observe;
mod refcounts;
mod snapshots;
mod truncation;
mod twin;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;

use case::Case;
use twin::Verdict;

/// Observes every case, and compares with what is expected and with the reference.
fn judge(structure: &str, cases: &[Case]) {
    let mut names = BTreeSet::new();
    let doubled: Vec<&str> = cases.iter().map(|case| case.name.as_str()).filter(|name| !names.insert(*name)).collect();
    assert!(doubled.is_empty(), "the names are unique: {doubled:?}");
    let mut paragraphs = Vec::new();
    let mut failed = Vec::new();
    let mut unexplained = Vec::new();
    for case in cases {
        let Ok(seen) = std::panic::catch_unwind(AssertUnwindSafe(|| observe::observe(case))) else {
            failed.push(&case.name);
            continue;
        };
        let mut paragraph = expected::paragraph(&case.name, &seen);
        let (ours, theirs) = (Verdict::ours(&seen), Verdict::theirs(case));
        for aspect in ours.differences(&theirs) {
            let reason = differences::reason(structure, &case.name, aspect);
            if reason.is_none() {
                unexplained.push(format!("{structure} | {} | {aspect} | {ours} | {theirs}", case.name));
            }
            let _infallible = writeln!(paragraph, "    {aspect} of the reference: {}", theirs.of(aspect));
        }
        paragraphs.push(paragraph);
    }
    assert!(failed.is_empty(), "{structure}: these failed, see above: {failed:?}");
    expected::compare(structure, &paragraphs);
    assert!(unexplained.is_empty(), "differences without a reason:\n{}", unexplained.join("\n"));
}

#[test]
fn headers() {
    judge("main_header", &main_header::cases());
}

#[test]
fn header_extensions() {
    judge("extensions", &extensions::cases());
}

#[test]
fn l1_tables() {
    judge("l1", &l1::cases());
}

#[test]
fn l2_tables() {
    judge("l2", &l2::cases());
}

#[test]
fn refcount_structures() {
    judge("refcounts", &refcounts::cases());
}

#[test]
fn snapshot_tables() {
    judge("snapshots", &snapshots::cases());
}

#[test]
fn bitmap_directories() {
    judge("bitmaps", &bitmaps::cases());
}

#[test]
fn names_of_other_files() {
    judge("names", &names::cases());
}

#[test]
fn truncated_files() {
    judge("truncation", &truncation::cases());
}

#[test]
fn there_are_at_least_two_hundred() {
    assert!(all_cases().len() >= 200, "{}", all_cases().len());
}

/// The whole collection.
pub(crate) fn all_cases() -> Vec<Case> {
    [
        main_header::cases(),
        extensions::cases(),
        l1::cases(),
        l2::cases(),
        refcounts::cases(),
        snapshots::cases(),
        bitmaps::cases(),
        names::cases(),
        truncation::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
