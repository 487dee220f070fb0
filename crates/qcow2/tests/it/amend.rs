//! Changing properties of images, in both directions with the reference.

use qemu_block::manage::AmendRequest;
use qemu_block::node::Node;
use qemu_block::options::{Options, check_create_options};
use qemu_block::types::{OpenFlags, ZeroFlags};

use crate::mem::{MemBench, fill, is_filled};
use crate::support::{Bench, block_on, oracle, qemu_io};

const WRITE: OpenFlags = OpenFlags::WRITE.union(OpenFlags::RESIZE);

fn amend(node: &Node, options: &str) -> Result<(), String> {
    let amended = (|| {
        let options = Options::parse_keyval(options, None)?;
        let options = check_create_options(node.driver().amend_options(), &options)?;
        let amending = node.amending().expect("possible");
        block_on(amending.amend(AmendRequest { options, ..AmendRequest::default() }))
    })();
    amended.map_err(|error| error.chain())
}

/// Amends the image `a` and closes it.
fn amend_image(bench: &Bench, options: &str) -> Result<(), String> {
    let node = bench.open("a", WRITE).expect("writable");
    let amended = amend(&node, options);
    block_on(node.close()).expect("closed");
    amended
}

fn info(bench: &Bench, name: &str) -> String {
    let (code, text) = oracle(&["info", "-f", "qcow2", &bench.path(name)]);
    assert_eq!(code, 0, "{text}");
    let lines = text.lines().skip_while(|line| !line.starts_with("Format specific"));
    lines.take_while(|line| !line.starts_with("Child node")).collect::<Vec<_>>().join("\n")
}

fn assert_clean(bench: &Bench, name: &str) {
    let (code, text) = oracle(&["check", "-f", "qcow2", &bench.path(name)]);
    assert_eq!(code, 0, "{text}");
    let found = bench.check(name);
    assert!(
        !found.iter().any(|(key, _)| ["corruptions", "leaks", "check-errors"].contains(&key.as_str())),
        "{found:?}"
    );
}

/// An image of the reference with data, zeros, compressed clusters and holes.
fn sample(bench: &Bench, options: &str) {
    let path = bench.path("a");
    let (code, text) = oracle(&["create", "-q", "-f", "qcow2", "-o", options, &path, "8M"]);
    assert_eq!(code, 0, "{text}");
    qemu_io(&path, &["write -P 1 0 300k", "write -P 2 4M 1M", "discard 4200k 100k", "write -c -P 3 2M 64k"]);
    if !options.contains("0.10") {
        qemu_io(&path, &["write -z 64k 64k", "write -z -u 4608k 64k", "write -z 6M 200k"]);
    }
}

/// What the disk shows, by the reference.
fn content(bench: &Bench) -> Vec<u8> {
    let flat = bench.path("flat");
    let (code, text) = oracle(&["convert", "-f", "qcow2", "-O", "raw", &bench.path("a"), &flat]);
    assert_eq!(code, 0, "{text}");
    std::fs::read(flat).expect("readable")
}

#[test]
fn every_width_becomes_every_other() {
    for cluster in ["512", "4k", "64k"] {
        let bench = Bench::new();
        sample(&bench, &format!("refcount_bits=16,cluster_size={cluster}"));
        let expected = content(&bench);
        for bits in [64, 1, 32, 2, 8, 4, 16] {
            match amend_image(&bench, &format!("refcount_bits={bits}")) {
                Ok(()) => assert!(info(&bench, "a").contains(&format!("refcount bits: {bits}\n"))),
                // Compressed clusters share host clusters, which makes counts larger.
                Err(text) => assert!(text.contains("has a refcount of"), "{text}"),
            }
            assert_clean(&bench, "a");
            assert!(content(&bench) == expected, "{cluster} {bits}");
        }
    }
}

#[test]
fn an_image_goes_on_after_its_counts_changed() {
    let bench = MemBench::with_image("cluster_size=4k", 64 << 20);
    let node = bench.writable();
    block_on(fill(&node, 0, 1 << 20, 1)).expect("written");
    amend(&node, "refcount_bits=64").expect("possible");
    block_on(fill(&node, 1 << 20, 5 << 20, 2)).expect("written");
    block_on(node.discard(4096, 1 << 19)).expect("discarded");
    amend(&node, "refcount_bits=1").expect("possible");
    block_on(fill(&node, 32 << 20, 1 << 20, 3)).expect("written");
    block_on(node.close()).expect("closed");
    bench.assert_clean();
    let node = bench.open("a", OpenFlags::empty()).expect("readable");
    assert!(is_filled(&node, 1 << 20, 5 << 20, 2) && is_filled(&node, 32 << 20, 1 << 20, 3));
}

#[test]
fn a_count_that_does_not_fit_is_named() {
    let bench = Bench::new();
    sample(&bench, "cluster_size=64k");
    let (code, text) = oracle(&["snapshot", "-c", "s", &bench.path("a")]);
    assert_eq!(code, 0, "{text}");
    let before = std::fs::read(bench.path("a")).expect("readable");
    let theirs = oracle(&["amend", "-o", "refcount_bits=1", &bench.path("a")]).1;
    std::fs::write(bench.path("a"), before).expect("written");
    let ours = amend_image(&bench, "refcount_bits=1").expect_err("two references");
    assert!(ours.starts_with("Cannot decrease refcount entry width to 1 bits: Cluster at offset 0x"), "{ours}");
    assert!(theirs.contains(&ours), "{ours} / {theirs}");
    assert_clean(&bench, "a");
}

#[test]
fn versions_go_up_and_down_as_the_references() {
    for (create, change) in [
        ("compat=0.10", "compat=1.1"),
        ("compat=0.10", "compat=v3,lazy_refcounts=on"),
        ("compat=1.1", "compat=0.10"),
        ("compat=1.1,lazy_refcounts=on", "compat=v2,lazy_refcounts=off"),
        ("compat=1.1,refcount_bits=8", "compat=0.10,refcount_bits=16"),
        ("compat=1.1", "size=16M,compat=0.10"),
        ("compat=0.10", "refcount_bits=4,compat=1.1"),
    ] {
        let bench = Bench::new();
        sample(&bench, create);
        let expected = content(&bench);
        std::fs::copy(bench.path("a"), bench.path("theirs")).expect("copied");
        amend_image(&bench, change).unwrap_or_else(|error| panic!("{create} {change}: {error}"));
        let (code, text) = oracle(&["amend", "-f", "qcow2", "-o", change, &bench.path("theirs")]);
        assert_eq!(code, 0, "{text}");
        assert_eq!(info(&bench, "a"), info(&bench, "theirs"), "{create} {change}");
        assert_clean(&bench, "a");
        assert!(content(&bench).starts_with(&expected), "{create} {change}");
        // The other tool goes on with it.
        qemu_io(&bench.path("a"), &["write -P 9 0 1M", "write -z 1M 1M"]);
        assert_clean(&bench, "a");
    }
}

#[test]
fn zeros_stay_zeros_over_a_backing_file() {
    let bench = Bench::new();
    let base = bench.path("base");
    oracle(&["create", "-q", "-f", "qcow2", &base, "1M"]);
    qemu_io(&base, &["write -P 7 0 1M"]);
    let path = bench.path("a");
    let (code, text) = oracle(&["create", "-q", "-f", "qcow2", "-b", &base, "-F", "qcow2", &path]);
    assert_eq!(code, 0, "{text}");
    qemu_io(&path, &["write -z 64k 128k", "write -P 5 512k 64k", "write -z 512k 64k"]);
    let expected = content(&bench);
    amend_image(&bench, "compat=0.10").expect("possible");
    assert_clean(&bench, "a");
    assert!(content(&bench) == expected);
    assert!(info(&bench, "a").contains("compat: 0.10"));
}

#[test]
fn what_cannot_be_changed_has_the_references_text() {
    for (create, change) in [
        ("compat=0.10", "compat=9"),
        ("compat=0.10", "refcount_bits=3"),
        ("compat=0.10", "refcount_bits=0"),
        ("compat=0.10", "refcount_bits=64"),
        ("compat=0.10", "lazy_refcounts=on"),
        ("compat=1.1", "refcount_bits=64,compat=0.10"),
        ("compat=1.1", "compat=0.10,lazy_refcounts=on"),
        ("compat=1.1", "data_file=x"),
        ("compat=1.1", "data_file_raw=on"),
        ("compat=1.1", "backing_file=x"),
        ("compat=1.1", "backing_fmt=raw"),
        ("compat=1.1,refcount_bits=8", "compat=0.10"),
        ("compat=1.1,compression_type=zstd", "compat=0.10"),
        ("compat=1.1", "cluster_size=4k"),
    ] {
        let bench = Bench::new();
        sample(&bench, create);
        std::fs::copy(bench.path("a"), bench.path("theirs")).expect("copied");
        let ours = amend_image(&bench, change).expect_err("impossible");
        let (code, theirs) = oracle(&["amend", "-f", "qcow2", "-o", change, &bench.path("theirs")]);
        assert_eq!(code, 1, "{change}");
        let theirs = theirs.strip_prefix("qemu-img: ").expect("an error");
        let theirs = theirs.trim_end().trim_end_matches("\nThis option is only supported for image creation");
        assert_eq!(ours, theirs, "{create} {change}");
        assert_clean(&bench, "a");
    }
}

#[test]
fn a_data_file_is_renamed_and_stops_being_raw() {
    let bench = Bench::new();
    let data = bench.path("data");
    bench.create("a", &format!("data_file={data},data_file_raw=on"), "1M").expect("created");
    amend_image(&bench, "data_file_raw=off,data_file=elsewhere").expect("possible");
    let text = info(&bench, "a");
    assert!(text.contains("data file: elsewhere\n") && text.contains("data file raw: false"), "{text}");
    let mut options = Options::new();
    options.set("data-file.filename", data);
    let node = bench.open_options("a", WRITE, options).expect("writable");
    assert_eq!(amend(&node, "compat=0.10"), Err("Cannot downgrade an image with a data file".to_owned()));
    amend(&node, "data_file=").expect("possible");
    block_on(node.close()).expect("closed");
    assert!(!info(&bench, "a").contains("data file:"));
}

#[test]
fn zeros_after_an_upgrade_are_the_new_versions() {
    let bench = MemBench::with_image("compat=0.10", 4 << 20);
    let node = bench.writable();
    block_on(fill(&node, 0, 1 << 20, 1)).expect("written");
    amend(&node, "compat=1.1").expect("possible");
    block_on(node.write_zeroes(0, 65536, ZeroFlags::empty())).expect("zeroed");
    amend(&node, "compat=0.10").expect("possible");
    block_on(node.write_zeroes(65536, 65536, ZeroFlags::empty())).expect("zeroed");
    block_on(node.close()).expect("closed");
    bench.assert_clean();
    let node = bench.open("a", OpenFlags::empty()).expect("readable");
    assert!(is_filled(&node, 0, 2 * 65536, 0) && is_filled(&node, 2 * 65536, 65536, 1));
}
