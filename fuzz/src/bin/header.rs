//! The header, its extensions and the entries of tables, parsed from arbitrary bytes.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use qcow2::format::header::Header;
use qcow2::format::snapshot::SnapshotEntry;
use qcow2_fuzz::{bounded, mutate, write_seeds};

fuzz_target!(init: write_seeds(), |data: &[u8]| bounded(|| parse(data)));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate(data, size, seed, |data, len| fuzzer_mutate(data, len, max_size))
});

fn parse(data: &[u8]) {
    // The entries of a snapshot table come from anywhere in the file.
    let mut rest = data;
    for index in 0..1000 {
        let Ok(Some((_, len))) = SnapshotEntry::parse(rest, index) else { break };
        rest = &rest[len..];
    }
    let Ok(wanted) = Header::wanted_len(data) else { return };
    let first_cluster = &data[..data.len().min(usize::try_from(wanted).expect("a cluster"))];
    let Ok(header) = Header::parse(first_cluster, data.len() as u64) else { return };
    drop(header.check_file_len(data.len() as u64));
    drop(header.backing_name_text());
    drop(header.backing_format());
    // What we write, we can read: an assertion in there says so.
    drop(header.serialize());
}
