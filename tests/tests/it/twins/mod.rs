//! Both programs, given the same command lines in twin folders, say and return the same.
//!
//! A case is one line, as [`side_by_side`](crate::side_by_side) reads it. The names in the folder must be equal, too, when
//! every command succeeded.

mod amend;
mod bitmap;
mod check;
mod commit;
mod compare;
mod convert;
mod create;
mod dd;
mod encryption;
mod errors;
mod filters;
mod info;
mod luks;
mod map;
mod measure;
mod nbd;
mod rebase;
mod resize;
mod snapshot;

use test_support::programs::{ours, reference, reference_speaks_our_version};

use crate::fixture::scratch_with_small_images;
use crate::side_by_side::{Rigour, names, run_case};

/// Runs every case of `table` and demands that there is no difference.
#[track_caller]
pub(crate) fn check(table: &str) {
    let cases: Vec<&str> = table.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert!(!cases.is_empty());
    let differences: Vec<String> = cases.iter().filter_map(|case| difference(case)).collect();
    assert!(differences.is_empty(), "{} of {} differ\n{}", differences.len(), cases.len(), differences.join("\n"));
}

/// How the programs differ in `case`.
fn difference(case: &str) -> Option<String> {
    let is_changed = ["bitmap --", "rebase "].iter().any(|command| case.contains(command));
    let twins = run_case(case, if is_changed { Rigour::Changed } else { Rigour::Exact });
    let (names_a, names_b) = (names(twins.ours()), names(twins.reference()));
    let names = format!("files: {names_a:?}, reference: {names_b:?}");
    let difference = twins.said.or_else(|| (twins.all_succeeded && names_a != names_b).then_some(names));
    difference.map(|text| format!("=== {case}\n{text}"))
}

#[test]
fn the_disk_size_is_what_the_file_system_says() {
    let dir = scratch_with_small_images();
    for image in ["plain.qcow2", "raw.img", "zlib.qcow2"] {
        test_support::files::allocated_bytes(&dir.path().join(image)).expect("the image can be synchronised");
        for format in ["human", "json"] {
            let line = format!("info --output={format} {image}");
            let (a, b) = (ours().run(dir.path(), &line).ok(), reference().run(dir.path(), &line).ok());
            if reference_speaks_our_version() {
                assert_eq!(a.stdout, b.stdout, "{line}");
            }
        }
    }
}
