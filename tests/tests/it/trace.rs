//! `--trace`: events with the reference's names and notation, and its complaints.

use std::fs;
use std::path::Path;

use test_support::programs::{Program, ours, reference};

use crate::fixture::scratch_with_small_images;
use crate::twins::check;

#[test]
fn patterns_and_their_files_are_taken_alike() {
    check(
        "
        -T nonesuch info raw.img
        -T nonesuch* info raw.img
        -T foo=bar info raw.img
        -T events=missing info raw.img
        -T enable=nonesuch -T bdrv_open_common -T -bdrv_open_common info raw.img
        --trace=-bdrv_* info raw.img
        -T enable=blk_root_attac info raw.img
        ",
    );
}

/// The lines of an event without the values that differ from run to run: addresses and bits of our own.
fn events(program: &Program, dir: &Path, pattern: &str, line: &str) -> Vec<String> {
    let run = program.run(dir, &format!("-T {pattern},file=log {line}")).ok();
    assert_eq!(run.stderr, "", "{line}");
    let log = fs::read_to_string(dir.join("log")).expect("there is a log");
    let is_fixed = |word: &&str| !word.starts_with("0x");
    log.lines().map(|line| line.split(' ').filter(is_fixed).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn opened_images_and_requests_are_told_in_the_same_notation() {
    let dir = scratch_with_small_images();
    let of = |program, pattern, line| events(program, dir.path(), pattern, line);
    let opened = "info --backing-chain over.qcow2";
    let (a, b) = (of(ours(), "bdrv_open_common", opened), of(reference(), "bdrv_open_common", opened));
    let in_order = |mut lines: Vec<String>| {
        lines.sort();
        lines.dedup();
        lines
    };
    assert_eq!(in_order(a), in_order(b));
    // What is requested differs; what is said of a request does not.
    let words = |lines: &[String]| -> Vec<String> {
        let line = lines.first().expect("an event");
        line.split(' ').filter(|word| word.parse::<u64>().is_err()).map(str::to_owned).collect()
    };
    for (pattern, line) in [
        ("bdrv_co_preadv_part", "compare raw.img plain.qcow2"),
        ("bdrv_co_pwritev_part", "dd if=plain.qcow2 -O qcow2 of=new"),
        ("bdrv_co_pwrite_zeroes", "convert -n -O raw plain.qcow2 raw.img"),
        ("blk_co_pwritev", "dd if=plain.qcow2 of=new"),
    ] {
        assert_eq!(words(&of(ours(), pattern, line)), words(&of(reference(), pattern, line)), "{pattern}");
    }
}

#[test]
fn the_list_of_events_is_shown() {
    let dir = scratch_with_small_images();
    let theirs = reference().run(dir.path(), "-T help").ok().stdout;
    for name in ours().run(dir.path(), "--trace help").ok().stdout.lines().filter(|name| *name != "aio") {
        assert!(theirs.lines().any(|known| known == name), "{name} is no event of the reference");
    }
}
