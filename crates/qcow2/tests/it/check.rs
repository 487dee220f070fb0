//! Our check finds what the reference's check finds.

use crate::support::{Bench, oracle, qemu_io};

/// Images with everything that a check has to count.
fn sample(bench: &Bench, options: &str) -> String {
    let path = bench.path("image");
    oracle(&["create", "-q", "-f", "qcow2", "-o", options, &path, "64M"]);
    qemu_io(&path, &["write -P 1 0 1M", "write -P 2 10M 300k", "write -c -P 4 40M 64k", "write -P 9 1M 5k"]);
    path
}

/// The counters that the reference prints as JSON.
fn reference_counters(path: &str) -> Vec<(String, u64)> {
    let (_, text) = oracle(&["check", "-f", "qcow2", "--output=json", path]);
    let pairs = text.lines().filter_map(|line| line.trim().trim_end_matches(',').split_once("\": "));
    let known = ["image-end-offset", "total-clusters", "corruptions", "check-errors", "leaks", "allocated-clusters"];
    let pairs = pairs.filter_map(|(key, value)| Some((key.trim_matches('"').to_owned(), value.parse().ok()?)));
    pairs.filter(|(key, value)| known.contains(&key.as_str()) && *value != 0).collect()
}

/// Both programs count the same.
pub(crate) fn compare(bench: &Bench, name: &str) {
    let path = bench.path(name);
    let mut theirs = reference_counters(&path);
    let mut ours = bench.check(name);
    theirs.sort();
    ours.sort();
    assert_eq!(ours, theirs);
}

#[test]
fn good_images_are_good() {
    for options in ["cluster_size=64k", "cluster_size=4k,refcount_bits=1", "compat=0.10", "refcount_bits=64"] {
        let bench = Bench::new();
        let path = sample(&bench, options);
        oracle(&["snapshot", "-c", "s1", &path]);
        qemu_io(&path, &["write -P 8 0 200k"]);
        if options.contains("bits=64") {
            oracle(&["bitmap", "--add", &path, "b0"]);
        }
        compare(&bench, "image");
    }
}

#[test]
fn damage_is_counted_as_the_reference_does() {
    let patches: &[(usize, u64)] = &[
        (0x2_0000, 0),                     // four refcounts
        (0x2_0040, 0x0001_0001_0001_0001), // leaks
        (0x3_0000, 0),                     // an L1 entry
        (0x3_0000, 0x4_0000),              // its "copied" flag
        (0x4_0000, 0x8000_0000_0005_0200), // an unaligned data cluster
        (0x4_0008, 0x8000_0100_0000_0000), // one outside the file
        (0x4_0010, 0x8000_0000_0005_0000), // one used twice
    ];
    for (offset, value) in patches {
        let bench = Bench::new();
        let path = sample(&bench, "cluster_size=64k");
        let mut bytes = std::fs::read(&path).expect("readable");
        bytes[*offset..offset + 8].copy_from_slice(&value.to_be_bytes());
        std::fs::write(&path, bytes).expect("writable");
        compare(&bench, "image");
    }
}
