//! Image locks: between two of our nodes, and between ours and the reference, both ways.

use std::path::PathBuf;

use tempfile::TempDir;

use super::oracle::{Holder, locked_ranges, make_qcow2, try_open};
use super::{RW, create, open, open_with};
use crate::aio::test_support::block_on;
use crate::error::ErrorKind;
use crate::types::{OpenFlags, Perm};

fn image() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("image.raw");
    create(&path, &[("size", "1M")]).expect("a new file");
    (dir, path)
}

/// What a writing format driver uses and shares.
const WRITER: (Perm, Perm) =
    (Perm::CONSISTENT_READ.union(Perm::WRITE).union(Perm::RESIZE), Perm::CONSISTENT_READ.union(Perm::WRITE_UNCHANGED));
/// What a reading format driver uses and shares.
const READER: (Perm, Perm) = (Perm::CONSISTENT_READ, Perm::CONSISTENT_READ.union(Perm::WRITE_UNCHANGED));

#[test]
fn the_bytes_are_those_of_the_reference() {
    let (_dir, path) = image();
    let node = open(&path, RW);
    let cases = [
        (WRITER, vec![(100, 101), (103, 103), (201, 201), (203, 203)]),
        (READER, vec![(100, 100), (201, 201), (203, 203)]),
        ((Perm::CONSISTENT_READ, Perm::all()), vec![(100, 100)]),
        ((Perm::empty(), Perm::all()), vec![]),
    ];
    for ((perm, shared), expected) in cases {
        block_on(node.set_perm(perm, shared)).expect("nobody else is there");
        assert_eq!(locked_ranges(&path), expected);
    }
    block_on(node.set_perm(WRITER.0, WRITER.1)).expect("nobody else is there");
    block_on(node.close()).expect("nothing fails");
    assert_eq!(locked_ranges(&path), []);
}

#[test]
fn the_references_bytes_are_as_documented() {
    let (_dir, path) = image();
    for (arguments, expected) in [
        (&["-f", "raw"][..], vec![(100, 101)]),
        (&["-r", "-f", "raw"], vec![(100, 100)]),
        (&["-r", "-U", "-f", "raw"], vec![(100, 100)]),
    ] {
        let _holder = Holder::start(&path, arguments);
        assert_eq!(locked_ranges(&path), expected, "{arguments:?}");
    }
    let qcow2 = path.with_extension("qcow2");
    make_qcow2(&qcow2);
    for (arguments, expected) in [
        (&["-f", "qcow2"][..], vec![(100, 101), (103, 103), (201, 201), (203, 203)]),
        (&["-r", "-f", "qcow2"], vec![(100, 100), (201, 201), (203, 203)]),
        (&["-r", "-U", "-f", "qcow2"], vec![(100, 100)]),
    ] {
        let _holder = Holder::start(&qcow2, arguments);
        assert_eq!(locked_ranges(&qcow2), expected, "{arguments:?}");
    }
}

#[test]
fn our_nodes_exclude_each_other() {
    let (_dir, path) = image();
    let (first, second) = (open(&path, OpenFlags::empty()), open(&path, OpenFlags::empty()));
    block_on(first.set_perm(WRITER.0, WRITER.1)).expect("nobody else writes");
    let error = block_on(second.set_perm(WRITER.0, WRITER.1)).expect_err("somebody writes");
    let hint = format!("Is another process using the image [{}]?", path.display());
    assert_eq!((error.kind(), error.chain()), (ErrorKind::Locked, format!("Failed to get \"write\" lock\n{hint}")));
    let error = block_on(second.set_perm(READER.0, READER.1)).expect_err("somebody writes");
    assert_eq!(error.chain(), format!("Failed to get shared \"write\" lock\n{hint}"));
    // Sharing everything, as -U does, is always possible.
    block_on(second.set_perm(Perm::CONSISTENT_READ, Perm::all())).expect("nothing is asked for");
    // What failed left no locks behind, and a node that uses less excludes less.
    block_on(first.set_perm(READER.0, READER.1)).expect("less than before");
    block_on(second.set_perm(READER.0, READER.1)).expect("two readers");
    block_on(first.close()).expect("nothing fails");
    block_on(second.set_perm(WRITER.0, WRITER.1)).expect("it is alone now");
}

#[test]
fn the_reference_excludes_us() {
    let (_dir, path) = image();
    let qcow2 = path.with_extension("qcow2");
    make_qcow2(&qcow2);
    let holder = Holder::start(&qcow2, &["-f", "qcow2"]);
    let error = open_with(&qcow2, &[], RW).expect_err("the reference writes");
    assert!(error.chain().contains("Failed to get \"write\" lock\nIs another process using the image ["), "{error:?}");
    let node = open(&qcow2, OpenFlags::empty());
    let error = block_on(node.set_perm(READER.0, READER.1)).expect_err("the reference writes");
    assert!(error.chain().starts_with("Failed to get shared \"write\" lock\n"), "{error:?}");
    let error = create(&qcow2, &[("size", "1M")]).expect_err("the reference uses it");
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(std::fs::metadata(&qcow2).expect("it exists").len() > 0, "nothing was destroyed");
    open_with(&qcow2, &[("locking", "off")], RW).expect("no locks, no conflict");
    drop(holder);
    block_on(node.set_perm(READER.0, READER.1)).expect("it is gone");
}

#[test]
fn we_exclude_the_reference() {
    let (_dir, path) = image();
    let node = open(&path, RW);
    block_on(node.set_perm(WRITER.0, WRITER.1)).expect("nobody else writes");
    let error = try_open(&path, &["-f", "raw"]).expect_err("we write");
    assert!(error.contains("Failed to get \"write\" lock\nIs another process using the image ["), "{error}");
    try_open(&path, &["-r", "-U", "-f", "raw"]).expect("it shares everything");
    block_on(node.set_perm(READER.0, READER.1)).expect("less than before");
    try_open(&path, &["-r", "-f", "raw"]).expect("two readers");
    assert!(try_open(&path, &["-f", "raw"]).is_err());
    block_on(node.close()).expect("nothing fails");
    try_open(&path, &["-f", "raw"]).expect("we are gone");
}
