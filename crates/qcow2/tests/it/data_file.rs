//! Guest data in another file, in both directions with the reference.

use std::path::Path;

use qemu_block::error::ErrorKind;
use qemu_block::options::Options;
use qemu_block::types::{OpenFlags, PreallocMode, ZeroFlags};
use qemu_util::buf::IoBuf;

use crate::mem::{fill, is_filled};
use crate::support::{Bench, block_on, oracle, qemu_io};

const WRITE: OpenFlags = OpenFlags::WRITE.union(OpenFlags::RESIZE);

/// Option lists; `DATA` becomes the path of the data file.
const CASES: &[(&str, &str)] = &[
    ("data_file=DATA", "4M"),
    ("data_file=DATA,data_file_raw=on", "4M"),
    ("data_file=DATA,cluster_size=512", "100k"),
    ("data_file=DATA,extended_l2=on", "2M"),
    ("data_file=DATA,extended_l2=on,data_file_raw=on", "2M"),
    ("data_file=DATA,data_file_raw=on,cluster_size=4k", "1000448"),
    ("data_file=DATA,preallocation=metadata", "1M"),
    ("data_file=DATA,preallocation=falloc", "1M"),
    ("data_file=DATA,data_file_raw=on,preallocation=full,cluster_size=2M", "3M"),
    ("data_file=DATA,data_file_raw=on", "0"),
];

/// Creates the image `name` with the data file `name.raw`, by us or by the reference.
fn create(bench: &Bench, by_us: bool, name: &str, options: &str, size: &str) {
    let options = options.replace("DATA", &bench.path(&format!("{name}.raw")));
    if by_us {
        bench.create(name, &options, size).expect("valid options");
    } else {
        let (code, text) = oracle(&["create", "-q", "-f", "qcow2", "-o", &options, &bench.path(name), size]);
        assert_eq!(code, 0, "{text}");
    }
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

/// What the disk shows, by the reference.
fn content(bench: &Bench, name: &str) -> Vec<u8> {
    let flat = bench.path("flat");
    let (code, text) = oracle(&["convert", "-f", "qcow2", "-O", "raw", &bench.path(name), &flat]);
    assert_eq!(code, 0, "{text}");
    std::fs::read(flat).expect("readable")
}

fn raw_content(bench: &Bench, name: &str) -> Vec<u8> {
    std::fs::read(bench.path(&format!("{name}.raw"))).expect("readable")
}

#[test]
fn new_images_are_those_of_the_reference() {
    for (options, size) in CASES {
        let bench = Bench::new();
        create(&bench, true, "ours", options, size);
        create(&bench, false, "theirs", options, size);
        let tell = |args: &[&str], name: &str| {
            let (code, text) = oracle(&[args, &[&bench.path(name)]].concat());
            assert_eq!(code, 0, "{text}");
            let same = |line: &&str| !line.starts_with("image:") && !line.starts_with("disk size:");
            let lines = text.lines().filter(same).take_while(|line| !line.starts_with("Child node"));
            lines.collect::<Vec<_>>().join("\n").replace(name, "NAME")
        };
        for args in [&["info", "-f", "qcow2"][..], &["check", "-f", "qcow2"]] {
            assert_eq!(tell(args, "ours"), tell(args, "theirs"), "{options} {size}");
        }
        // The reference makes the file as long as the clusters; ours is as long as the disk.
        let (ours, theirs) = (raw_content(&bench, "ours"), raw_content(&bench, "theirs"));
        assert!(theirs.starts_with(&ours) && theirs.iter().all(|byte| *byte == 0), "{options} {size}");
        assert_clean(&bench, "ours");
    }
}

#[test]
fn what_we_write_the_reference_reads() {
    for (options, size) in &CASES[..7] {
        let bench = Bench::new();
        create(&bench, true, "a", options, size);
        let node = bench.open_options("a", WRITE, Options::new()).expect("writable");
        let len = usize::try_from(node.len()).expect("small");
        let mut model = vec![0; len];
        let steps: [(usize, usize, Option<u8>); 7] = [
            (0, 70_000, Some(1)),
            (len - 1000, 1000, Some(2)),
            (30_000, 5000, Some(3)),
            (40_000, 20_000, None),
            (65_000, 100, Some(4)),
            (0, 512, None),
            (90_112, 1024, Some(5)),
        ];
        for (offset, n, byte) in steps {
            model[offset..offset + n].fill(byte.unwrap_or(0));
            block_on(async {
                match byte {
                    Some(byte) => fill(&node, offset as u64, n, byte).await,
                    None => node.write_zeroes(offset as u64, n as u64, ZeroFlags::MAY_UNMAP).await,
                }
            })
            .expect("written");
            block_on(node.flush()).expect("flushed");
            if options.contains("data_file_raw") {
                assert!(raw_content(&bench, "a") == model, "{options} after {offset} {n} {byte:?}");
            }
        }
        assert!(block_on(node.read_bytes(0, len)).expect("readable")[..] == model[..], "{options}");
        block_on(node.close()).expect("closed");
        assert!(content(&bench, "a") == model, "{options}");
        assert!(raw_content(&bench, "a").len() <= len.next_multiple_of(512), "the file is no longer than the disk");
        assert_clean(&bench, "a");
    }
}

#[test]
fn what_the_reference_writes_we_read() {
    for (options, size) in &CASES[..7] {
        let bench = Bench::new();
        create(&bench, false, "a", options, size);
        qemu_io(&bench.path("a"), &["write -P 7 0 80k", "write -z -u 8k 64k", "discard 0 4k", "write -P 9 90k 1k"]);
        let expected = content(&bench, "a");
        let node = bench.open_options("a", WRITE, Options::new()).expect("writable");
        assert!(block_on(node.read_bytes(0, expected.len())).expect("readable")[..] == expected[..], "{options}");
        block_on(fill(&node, 0, 4096, 8)).expect("written");
        block_on(node.close()).expect("closed");
        assert!(content(&bench, "a")[..4096].iter().all(|byte| *byte == 8));
        assert_clean(&bench, "a");
    }
}

#[test]
fn discards_and_zeros_reach_a_raw_file() {
    let bench = Bench::new();
    create(&bench, true, "a", "data_file=DATA,data_file_raw=on", "1M");
    let node = bench.open_options("a", WRITE | OpenFlags::UNMAP, Options::new()).expect("writable");
    block_on(fill(&node, 0, 1 << 20, 6)).expect("written");
    block_on(node.discard(65536, 2 * 65536)).expect("discarded");
    block_on(node.write_zeroes(300_000, 100_000, ZeroFlags::empty())).expect("zeroed");
    block_on(node.write_zeroes(500_000, 512, ZeroFlags::NO_FALLBACK)).expect("zeroed");
    block_on(node.flush()).expect("flushed");
    let mut model = vec![6; 1 << 20];
    for range in [65536..3 * 65536, 300_000..400_000, 500_000..500_512] {
        model[range].fill(0);
    }
    assert!(raw_content(&bench, "a") == model);
    assert!(block_on(node.read_bytes(0, 1 << 20)).expect("readable")[..] == model[..]);
    block_on(node.close()).expect("closed");
    assert!(content(&bench, "a") == model);
}

#[test]
fn growing_grows_the_data_file() {
    for options in ["data_file=DATA", "data_file=DATA,data_file_raw=on"] {
        let bench = Bench::new();
        create(&bench, true, "a", options, "1000448");
        let node = bench.open_options("a", WRITE, Options::new()).expect("writable");
        block_on(fill(&node, 900_000, 100_000, 3)).expect("written");
        block_on(node.truncate(3 << 20, PreallocMode::Off)).expect("grown");
        assert_eq!(raw_content(&bench, "a").len(), 3 << 20);
        assert!(is_filled(&node, 1_000_448, (3 << 20) - 1_000_448, 0));
        block_on(node.close()).expect("closed");
        assert_clean(&bench, "a");
        let (_, map) = oracle(&["map", "--output=json", "-f", "qcow2", &bench.path("a")]);
        assert_eq!(map.contains("\"present\": false"), !options.contains("raw"), "{map}");
        let node = bench.open("a", WRITE).expect("writable");
        block_on(node.truncate(512 << 10, PreallocMode::Off)).expect("shrunk");
        assert_eq!(raw_content(&bench, "a").len(), 512 << 10);
        block_on(node.truncate(1 << 20, PreallocMode::Full)).expect("grown");
        block_on(node.close()).expect("closed");
        assert_clean(&bench, "a");
        assert!(content(&bench, "a")[512 << 10..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn the_data_file_is_opened_by_rule() {
    let bench = Bench::new();
    create(&bench, true, "a", "data_file=DATA", "1M");
    std::fs::rename(bench.path("a.raw"), bench.path("b.raw")).expect("renamed");
    let error = bench.open_options("a", OpenFlags::empty(), Options::new()).expect_err("the file is gone");
    assert_eq!(error.chain(), format!("Could not open '{}': No such file or directory", bench.path("a.raw")));
    let info = bench.open_options("a", OpenFlags::NO_IO, Options::new()).expect("needs no data");
    assert_eq!(info.children().len(), 1);
    block_on(info.read_bytes(0, 512)).expect("nothing is mapped");
    block_on(info.close()).expect("closed");
    let mut options = Options::new();
    options.set("data-file.filename", bench.path("b.raw"));
    let node = bench.open_options("a", WRITE, options.clone()).expect("the user knows better");
    assert_eq!(node.children().iter().map(|edge| edge.name).collect::<Vec<_>>(), ["file", "data-file"]);
    block_on(fill(&node, 0, 512, 1)).expect("written");
    // The other program sees that the file is in use.
    let (code, text) = oracle(&["resize", "-f", "raw", &bench.path("b.raw"), "2M"]);
    assert!(code == 1 && text.contains("lock"), "{text}");
    block_on(node.close()).expect("closed");
    create(&bench, true, "plain", "cluster_size=4k", "1M");
    let error = bench.open_options("plain", OpenFlags::empty(), options).expect_err("has no data file");
    assert_eq!(error.chain(), "'data-file' can only be set for images with an external data file");
}

#[test]
fn names_in_images_are_plain_paths() {
    for name in ["json:{\"driver\":\"null-co\"}", "null-co://", "", "pipe"] {
        let bench = Bench::new();
        create(&bench, true, "a", "data_file=DATA", "1M");
        let fifo = bench.path("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().expect("runs").success());
        let name = if name == "pipe" { &fifo } else { name };
        let (code, text) = oracle(&["amend", "-f", "qcow2", "-o", &format!("data_file={name}"), &bench.path("a")]);
        assert_eq!(code, 0, "{text}");
        let error = bench.open_options("a", OpenFlags::empty(), Options::new()).expect_err("refused").chain();
        match name {
            "" => assert_eq!(error, "'data-file' is required for this image"),
            _ => assert!(error.contains(name), "{error}"),
        }
    }
}

#[test]
fn what_a_data_file_cannot_have_is_refused() {
    let bench = Bench::new();
    create(&bench, true, "a", "data_file=DATA,data_file_raw=on", "1M");
    let node = bench.open_options("a", WRITE, Options::new()).expect("writable");
    let error = block_on(node.compress(0, IoBuf::zeroed(65536).into())).expect_err("no compressed clusters");
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Unsupported, libc::ENOTSUP));
    block_on(node.close()).expect("closed");
    // An entry that names another cluster than its own, and one that is compressed.
    for entry in [0x8000_0000_0001_0000u64, 0x4000_0000_0000_0000] {
        let mut image = std::fs::read(bench.path("a")).expect("readable");
        let number = |at: usize| u64::from_be_bytes(image[at..at + 8].try_into().expect("eight"));
        let l1 = usize::try_from(number(40)).expect("small");
        let l2 = usize::try_from(number(l1) & !(1 << 63)).expect("small");
        image[l2..l2 + 8].copy_from_slice(&entry.to_be_bytes());
        std::fs::write(bench.path("bad"), &image).expect("written");
        let bad = bench.open_options("bad", WRITE, Options::new()).expect("opens");
        assert_eq!(block_on(bad.read_bytes(0, 512)).expect_err("damaged").kind(), ErrorKind::Corrupt);
        assert_eq!(block_on(fill(&bad, 0, 512, 1)).expect_err("damaged").kind(), ErrorKind::Corrupt);
        block_on(bad.close()).expect_err("corrupt");
    }
}

#[test]
fn a_failed_create_leaves_nothing_behind() {
    let cases = [
        ("data_file=DATA,compat=0.10", "External data files are only supported with compatibility level 1.1"),
        ("data_file=DATA,data_file_raw=on,backing_file=x", "Backing file and data-file-raw cannot be used"),
        ("data_file=FOLDER/nowhere/x", "nowhere/x': No such file or directory"),
        ("data_file=FOLDER/a", "Failed to get shared \"resize\" lock"),
    ];
    for (options, message) in cases {
        let bench = Bench::new();
        let options = options.replace("DATA", &bench.path("a.raw")).replace("FOLDER", &bench.path("."));
        let error = bench.create("a", &options, "1M").expect_err("refused");
        assert!(error.contains(message), "{error}");
        assert!(!Path::new(&bench.path("a")).exists() && !Path::new(&bench.path("a.raw")).exists(), "{options}");
    }
}
