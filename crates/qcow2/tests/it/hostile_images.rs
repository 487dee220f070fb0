//! Every hostile image has the outcome that is expected of it, and the reference's verdict or a reason for another one.

use crate::hostile::{judge, structures};

#[test]
fn headers() {
    judge("main_header");
}

#[test]
fn header_extensions() {
    judge("extensions");
}

#[test]
fn l1_tables() {
    judge("l1");
}

#[test]
fn l2_tables() {
    judge("l2");
}

#[test]
fn refcount_structures() {
    judge("refcounts");
}

#[test]
fn snapshot_tables() {
    judge("snapshots");
}

#[test]
fn bitmap_directories() {
    judge("bitmaps");
}

#[test]
fn names_of_other_files() {
    judge("names");
}

#[test]
fn truncated_files() {
    judge("truncation");
}

#[test]
fn there_are_at_least_two_hundred() {
    let n: usize = structures().iter().map(|(_, cases)| cases.len()).sum();
    assert!(n >= 200, "{n}");
}
