//! What is damaged is repaired as the reference repairs it, and both find the result sound.

use qemu_block::types::{CheckFixes, CheckReport, OpenFlags};

use crate::support::{Bench, block_on, oracle, qemu_io};

const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;

/// Where things are in an image with 64 KiB clusters that the reference has made.
const REFTABLE: u64 = 0x1_0000;
const REFBLOCK: u64 = 0x2_0000;
const L1: u64 = 0x3_0000;
const L2: u64 = 0x4_0000;
const DATA: u64 = 0x5_0000;

/// A change of a sound image.
type Patch = &'static [(u64, u64)];

/// An image with all sorts of clusters: the first 1 MiB, then zeros, then compressed ones.
fn sample(bench: &Bench, options: &str) -> String {
    let path = bench.path("image");
    oracle(&["create", "-q", "-f", "qcow2", "-o", options, &path, "64M"]);
    qemu_io(
        &path,
        &[
            "write -P 1 0 1M",
            "write -z 10M 300k",
            "write -c -P 4 20M 64k",
            "write -c -P 5 20544k 64k",
            "write -P 9 1M 5k",
        ],
    );
    path
}

fn patch(path: &str, patches: &[(u64, u64)]) {
    let mut bytes = std::fs::read(path).expect("readable");
    for (offset, value) in patches {
        let at = usize::try_from(*offset).expect("small");
        bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
    }
    std::fs::write(path, bytes).expect("writable");
}

/// What a repair by the reference found: its exit status, and what it had repaired: leaks and corruptions.
fn reference_repair(path: &str, what: &str) -> (i32, u64, u64) {
    let (code, text) = oracle(&["check", "-f", "qcow2", "-r", what, path]);
    let number = |label: &str| {
        let line = text.lines().find(|line| line.starts_with("    ") && line.ends_with(label));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    (code, number("leaked clusters"), number("corruptions"))
}

/// The exit status that the command has for a report.
fn verdict(report: &CheckReport) -> i32 {
    match report {
        report if report.check_errors > 0 => 1,
        report if report.corruptions > 0 => 2,
        report if report.leaks > 0 => 3,
        _ => 0,
    }
}

/// The guest's data, where it can be read.
fn guest(path: &str) -> Vec<u8> {
    let raw = format!("{path}.raw");
    let (code, text) = oracle(&["convert", "-f", "qcow2", "-O", "raw", path, &raw]);
    assert_eq!(code, 0, "{text}");
    std::fs::read(raw).expect("readable")
}

/// Damages images, lets both repair copies, and compares verdicts and counters; tells of all differences.
#[track_caller]
fn check_all(options: &str, cases: &[Patch]) {
    let mut differences = Vec::new();
    for case in cases {
        for fixes in [CheckFixes::Leaks, CheckFixes::All] {
            let bench = Bench::new();
            let path = sample(&bench, options);
            patch(&path, case);
            if let Err(difference) = compare(&bench, &path, fixes) {
                differences.push(format!("{options} {case:x?} {fixes:?}: {difference}"));
            }
        }
    }
    assert!(differences.is_empty(), "{} cases differ\n{}", differences.len(), differences.join("\n"));
}

#[track_caller]
fn check_damaged(bench: &Bench, path: &str, fixes: CheckFixes) -> CheckReport {
    compare(bench, path, fixes).unwrap_or_else(|difference| panic!("{difference}"))
}

/// Lets both repair the image `image`, which is at `path`; the difference, if there is one.
fn compare(bench: &Bench, path: &str, fixes: CheckFixes) -> Result<CheckReport, String> {
    let theirs = bench.path("theirs");
    std::fs::copy(path, &theirs).expect("copied");
    let what = if fixes == CheckFixes::All { "all" } else { "leaks" };
    let reference = reference_repair(&theirs, what);
    let report = bench.repair("image", fixes).expect("repaired");
    let left = bench.repair("image", CheckFixes::Nothing).expect("checked");
    let status = if report.stopped_by.is_some() { 1 } else { verdict(&left) };
    let ours = (status, report.leaks_fixed, report.corruptions_fixed);
    if ours != reference {
        return Err(format!("{ours:?}, the reference {reference:?}; {report:?}; afterwards {left:?}"));
    }
    if status == 0 {
        is_sound(bench, path, fixes)?;
        if guest(path) != guest(&theirs) {
            return Err("the disks differ".to_owned());
        }
    }
    Ok(report)
}

/// Whether the reference finds nothing wrong, and another repair has nothing to do.
fn is_sound(bench: &Bench, path: &str, fixes: CheckFixes) -> Result<(), String> {
    let (code, text) = oracle(&["check", "-f", "qcow2", path]);
    if code != 0 {
        return Err(format!("the reference finds {text}"));
    }
    let before = std::fs::read(path).expect("readable");
    let report = bench.repair("image", fixes).expect("repaired");
    if (report.leaks_fixed, report.corruptions_fixed) != (0, 0) || before != std::fs::read(path).expect("readable") {
        return Err(format!("the second repair has something to do: {report:?}"));
    }
    Ok(())
}

#[test]
fn leaks_are_repaired_as_the_reference_does() {
    let cases: &[Patch] = &[
        &[],
        // Clusters that nothing uses have counts.
        &[(REFBLOCK + 0x40, 0x0001_0001_0001_0001)],
        &[(REFBLOCK + 0x40, 0x0001_0001_0001_0001), (REFBLOCK + 0x48, 0x0007_0000_ffff_0000)],
        // Used ones are counted too often; their flags are right only once that is repaired.
        &[(REFBLOCK + 8, 0x0001_0002_0001_0003)],
        // The L2 table, and all it names, is lost.
        &[(L1, 0)],
    ];
    check_all("cluster_size=64k", cases);
}

#[test]
fn corruptions_are_repaired_as_the_reference_does() {
    let cases: &[Patch] = &[
        // The flag of the L2 table, and of data, is wrong.
        &[(L1, L2)],
        &[(L2, DATA), (L2 + 8, DATA + 0x1_0000)],
        // Two mappings of one cluster.
        &[(L2 + 0x10, COPIED | DATA)],
        // Data where the L2 table is, where the L1 table is, and where the refcount structures are.
        &[(L2 + 0x10, COPIED | L2)],
        &[(L2 + 0x10, COPIED | L1)],
        &[(L2 + 0x10, COPIED | REFBLOCK)],
        &[(L2 + 0x10, COPIED | REFTABLE)],
        // A zero cluster with an impossible reserved cluster.
        &[(L2 + 0x18, COPIED | (DATA + 0x200) | 1)],
        // Data that is not aligned, or outside the file.
        &[(L2 + 0x18, COPIED | (DATA + 0x200))],
        &[(L2 + 0x18, COPIED | 1 << 40)],
        // Reserved bits.
        &[(L2 + 0x18, COPIED | DATA | 2)],
        &[(L1, COPIED | L2 | 4)],
    ];
    check_all("cluster_size=64k", cases);
}

#[test]
fn destroyed_refcount_structures_are_rebuilt() {
    let cases: &[Patch] = &[
        // Counts of zero for what is used.
        &[(REFBLOCK, 0)],
        &[(REFBLOCK + 8, 0), (REFBLOCK + 0x40, 0x0001_0001_0001_0001)],
        // No block, and one that is something else.
        &[(REFTABLE, 0)],
        &[(REFTABLE, DATA)],
        &[(REFTABLE, L2)],
        &[(REFTABLE, REFTABLE)],
        &[(REFTABLE + 8, REFBLOCK)],
        // The header names another refcount table: one in the data, and one past the end of the file.
        &[(48, DATA)],
        &[(48, 1 << 30)],
    ];
    check_all("cluster_size=64k", cases);
    for bits in ["1", "4", "64"] {
        check_all(&format!("cluster_size=64k,refcount_bits={bits}"), &[&[(REFTABLE, 0)]]);
    }
}

#[test]
fn what_the_reference_cannot_rebuild_is_rebuilt() {
    // It gives up at blocks that are not aligned or have reserved bits, and follows those far outside.
    let cases: &[Patch] = &[&[(REFTABLE, REFBLOCK + 0x200)], &[(REFTABLE, REFBLOCK | 8)], &[(REFTABLE + 8, 1 << 44)]];
    for case in cases {
        let bench = Bench::new();
        let path = sample(&bench, "cluster_size=64k");
        let (whole, before) = (guest(&path), std::fs::metadata(&path).expect("there").len());
        patch(&path, case);
        let report = bench.repair("image", CheckFixes::All).expect("repaired");
        assert!(report.corruptions_fixed > 0 && report.corruptions == 0, "{report:?}");
        is_sound(&bench, &path, CheckFixes::All).expect("sound");
        assert!(std::fs::metadata(&path).expect("there").len() <= before + (4 << 16), "the file hardly grows");
        assert!(guest(&path) == whole);
    }
}

#[test]
fn the_copied_flag_of_compressed_clusters_is_repaired_although_the_reference_does_not() {
    let bench = Bench::new();
    let path = sample(&bench, "cluster_size=64k");
    let bytes = std::fs::read(&path).expect("readable");
    let at = usize::try_from(L2 + 8 * 320).expect("small");
    let entry = u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    assert_ne!(entry & COMPRESSED, 0);
    let whole = guest(&path);
    patch(&path, &[(L2 + 8 * 320, entry | COPIED)]);
    let report = bench.repair("image", CheckFixes::All).expect("repaired");
    assert_eq!((report.corruptions, report.corruptions_fixed), (0, 1), "{report:?}");
    let (code, text) = oracle(&["check", "-f", "qcow2", &path]);
    assert_eq!(code, 0, "{text}");
    assert!(guest(&path) == whole);
}

/// The disk at a snapshot.
fn at_snapshot(path: &str, snapshot: &str) -> Vec<u8> {
    let raw = format!("{path}.{snapshot}");
    let (code, text) = oracle(&["convert", "-l", snapshot, "-O", "raw", path, &raw]);
    assert_eq!(code, 0, "{text}");
    std::fs::read(raw).expect("readable")
}

/// An image with two snapshots and, if asked for, a bitmap.
fn with_snapshots(bench: &Bench, has_bitmap: bool) -> String {
    let path = sample(bench, "cluster_size=64k");
    oracle(&["snapshot", "-c", "one", &path]);
    qemu_io(&path, &["write -P 7 64k 200k", "write -z -u 512k 64k"]);
    oracle(&["snapshot", "-c", "two", &path]);
    qemu_io(&path, &["write -P 8 100k 400k"]);
    if has_bitmap {
        oracle(&["bitmap", "--add", &path, "b0"]);
    }
    path
}

#[test]
fn images_with_snapshots_are_repaired() {
    let cases: &[Patch] = &[&[], &[(REFTABLE, 0)], &[(REFBLOCK + 8, 0x0001_0001_0001_0001)], &[(L1, L2)]];
    for case in cases {
        let bench = Bench::new();
        let path = with_snapshots(&bench, false);
        patch(&path, case);
        check_damaged(&bench, &path, CheckFixes::All);
        for snapshot in ["one", "two"] {
            assert!(at_snapshot(&path, snapshot) == at_snapshot(&bench.path("theirs"), snapshot), "{snapshot}");
        }
    }
}

/// The reference forgets the snapshots of an image that has bitmaps, too, when it is told to repair it.
#[test]
fn images_with_snapshots_and_bitmaps_keep_both() {
    let cases: &[Patch] = &[&[], &[(REFTABLE, 0)], &[(REFBLOCK + 8, 0x0001_0001_0001_0001)]];
    for case in cases {
        let bench = Bench::new();
        let path = with_snapshots(&bench, true);
        let whole = [guest(&path), at_snapshot(&path, "one"), at_snapshot(&path, "two")];
        patch(&path, case);
        bench.repair("image", CheckFixes::All).expect("repaired");
        is_sound(&bench, &path, CheckFixes::All).expect("sound");
        assert!(whole == [guest(&path), at_snapshot(&path, "one"), at_snapshot(&path, "two")]);
        let (_, text) = oracle(&["info", "--output=json", &path]);
        assert!(text.contains("\"name\": \"b0\"") && !text.contains("in-use"), "{text}");
    }
}

#[test]
fn snapshot_entries_without_a_size_are_completed() {
    let bench = Bench::new();
    let path = sample(&bench, "compat=0.10,cluster_size=64k");
    oracle(&["snapshot", "-c", "one", &path]);
    oracle(&["amend", "-o", "compat=1.1", &path]);
    // The entry's extra data is cut to the size of the machine state, and its strings moved up.
    let mut bytes = std::fs::read(&path).expect("readable");
    let table = u64::from_be_bytes(bytes[64..72].try_into().expect("eight bytes"));
    let table = usize::try_from(table).expect("small");
    let extra = usize::try_from(u32::from_be_bytes(bytes[table + 36..table + 40].try_into().expect("four bytes")));
    let extra = extra.expect("small");
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes[table + 36..table + 40].copy_from_slice(&8_u32.to_be_bytes());
    bytes.copy_within(table + 40 + extra..table + 40 + extra + 16, table + 48);
    std::fs::write(&path, bytes).expect("writable");
    let report = check_damaged(&bench, &path, CheckFixes::All);
    assert_eq!(report.corruptions_fixed, 1, "{report:?}");
    let (_, text) = oracle(&["snapshot", "-l", &path]);
    assert!(text.contains("one"), "{text}");
}

#[test]
fn extended_entries_are_repaired_as_the_reference_does() {
    const ZEROS: u64 = 0xffff_ffff << 32;
    let cases: &[Patch] = &[
        &[(L1, L2)],
        &[(L2, DATA), (L2 + 0x10, DATA + 0x1_0000)],
        &[(L2 + 0x20, COPIED | DATA)],
        // An impossible reserved cluster; with data in it, it cannot be repaired.
        &[(L2 + 0x30, COPIED | (DATA + 0x200)), (L2 + 0x38, ZEROS)],
        &[(L2 + 0x30, COPIED | (DATA + 0x200)), (L2 + 0x38, 1)],
        // A bitmap that says two things at once, and one without a cluster.
        &[(L2 + 0x38, ZEROS | 1)],
        &[(L2 + 0x30, 0)],
        &[(REFTABLE, 0)],
    ];
    check_all("cluster_size=64k,extended_l2=on", cases);
}

#[test]
fn marks_of_damage_are_cleared() {
    let bench = Bench::new();
    let path = sample(&bench, "cluster_size=64k");
    // Dirty and corrupt.
    patch(&path, &[(72, 3)]);
    let refused = bench.open("image", OpenFlags::WRITE).expect_err("corrupt");
    assert_eq!(refused, "qcow2: Image is corrupt; cannot be opened read/write");
    let report = check_damaged(&bench, &path, CheckFixes::Leaks);
    assert_eq!((report.corruptions_fixed, report.leaks_fixed), (0, 0));
    let node = bench.open("image", OpenFlags::WRITE).expect("sound again");
    block_on(node.close()).expect("closed");
    // As long as there is corruption, the marks stay.
    patch(&path, &[(72, 3), (L2 + 0x18, COPIED | (DATA + 0x200))]);
    check_damaged(&bench, &path, CheckFixes::All);
    let word = std::fs::read(&path).expect("readable")[79];
    assert_eq!(word, 3);
}
