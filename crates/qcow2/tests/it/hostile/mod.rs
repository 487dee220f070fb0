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
pub(crate) mod case;
mod differences;
mod expected;
mod extensions;
pub(crate) mod image;
mod l1;
mod l2;
mod main_header;
mod names;
pub(crate) mod observe;
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
pub(crate) fn judge(structure: &str) {
    let cases = structures().into_iter().find(|(name, _)| *name == structure).expect("one of the structures").1;
    let cases = &cases;
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
        // Nothing is learnt from a program that does not end.
        if differences::reason(structure, &case.name, "") != Some(differences::NEVER_ENDS) {
            let (ours, theirs) = (Verdict::ours(&seen), Verdict::theirs(case));
            for aspect in ours.differences(&theirs) {
                if differences::reason(structure, &case.name, aspect).is_none() {
                    unexplained.push(format!("{structure} | {} | {aspect} | {ours} | {theirs}", case.name));
                }
                let _infallible = writeln!(paragraph, "    {aspect} of the reference: {}", theirs.of(aspect));
            }
        }
        paragraphs.push(paragraph);
    }
    assert!(failed.is_empty(), "{structure}: these failed, see above: {failed:?}");
    expected::compare(structure, &paragraphs);
    assert!(unexplained.is_empty(), "differences without a reason:\n{}", unexplained.join("\n"));
}

/// The structures, and their cases.
pub(crate) fn structures() -> [(&'static str, Vec<Case>); 9] {
    [
        ("main_header", main_header::cases()),
        ("extensions", extensions::cases()),
        ("l1", l1::cases()),
        ("l2", l2::cases()),
        ("refcounts", refcounts::cases()),
        ("snapshots", snapshots::cases()),
        ("bitmaps", bitmaps::cases()),
        ("names", names::cases()),
        ("truncation", truncation::cases()),
    ]
}
