//! Disks of exbibytes, and tables of tebibytes, cost what is allocated in them.

use std::time::Duration;

use test_support::programs::{ours, qemu_io, reference};

use crate::fixture::{l2_table, patch, read_u64, scratch};

/// Far more than is needed and far less than it would take to look at everything.
const LIMIT: Duration = Duration::from_secs(20);

/// Memory for a process, address space included, in KiB.
const ADDRESS_SPACE: &str = "ulimit -v 2097152";

#[test]
fn an_empty_exbibyte_is_mapped_measured_and_checked_at_once() {
    let dir = scratch();
    ours().run(dir.path(), "create -q -f qcow2 -o cluster_size=2M empty.qcow2 1E").ok();
    let run = |line: &str| ours().invoke(dir.path()).after(ADDRESS_SPACE).words(line).limit(LIMIT).run().ok();
    let map = run("map --output=json empty.qcow2");
    assert_eq!(
        map.stdout,
        "[{ \"start\": 0, \"length\": 1152921504606846976, \"depth\": 0, \"present\": false, \"zero\": true, \
         \"data\": false, \"compressed\": false}]\n"
    );
    run("measure empty.qcow2");
    run("measure -O qcow2 -o cluster_size=2M empty.qcow2");
    run("check empty.qcow2");
    run("check -r all empty.qcow2");
}

/// One cluster in every L2 table: as many tables as there are 512 MiB in 2 TiB.
#[test]
fn a_fragmented_table_of_tebibytes_is_scanned_in_bounded_memory() {
    let dir = scratch();
    ours().run(dir.path(), "create -q -f qcow2 -o cluster_size=64k big.qcow2 2T").ok();
    let writes: String = (0..4096).map(|i| format!("write -q -P 1 {}M 64k\n", i * 512 + 3)).collect();
    qemu_io().invoke(dir.path()).words("-f qcow2 big.qcow2").input(writes).run().ok();
    let run = |line: &str| ours().invoke(dir.path()).after(ADDRESS_SPACE).words(line).limit(LIMIT).run().ok();
    let map = run("map --output=json big.qcow2");
    assert_eq!(map.stdout.lines().filter(|line| line.contains("\"data\": true")).count(), 4096);
    let measured = run("measure -O qcow2 big.qcow2").stdout;
    assert_eq!(measured, reference().run(dir.path(), "measure -O qcow2 big.qcow2").ok().stdout);
    let checked = run("check big.qcow2").stdout;
    assert_eq!(checked, reference().run(dir.path(), "check big.qcow2").ok().stdout);
}

/// A repair follows no entry to where it says, so that the file hardly grows.
#[test]
fn a_repair_does_not_grow_the_file_to_what_entries_say() {
    let dir = scratch();
    ours().run(dir.path(), "create -q -f qcow2 image.qcow2 1G").ok();
    qemu_io().invoke(dir.path()).words("-f qcow2 image.qcow2").input("write -q 0 1M\n").run().ok();
    let path = dir.path().join("image.qcow2");
    let reftable = read_u64(&path, 48);
    patch(&path, reftable + 8, &(1_u64 << 44).to_be_bytes());
    patch(&path, l2_table(&path) + 64, &(1_u64 << 63 | 1 << 43).to_be_bytes());
    let before = std::fs::metadata(&path).expect("it is there").len();
    // The data that is said to be far outside cannot be repaired.
    let run = ours().invoke(dir.path()).words("check -r all image.qcow2").limit(LIMIT).run();
    assert_eq!(run.code(), Some(2), "{run}");
    let after = std::fs::metadata(&path).expect("it is there").len();
    assert!(after < before + (1 << 20), "{before} became {after}");
}
