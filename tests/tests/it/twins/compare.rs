//! `compare`: the same verdicts, in the same words, for the same pairs.

use test_support::programs::ours;

use super::check;
use crate::fixture::scratch_with_small_images;

#[test]
fn every_pair_of_small_images_compares_alike() {
    let images = [
        "raw.img",
        "plain.qcow2",
        "v2.qcow2",
        "c512.qcow2",
        "c2m.qcow2",
        "prealloc.qcow2",
        "zlib.qcow2",
        "ext-l2.qcow2",
        "over.qcow2",
        "over2.qcow2",
        "over-raw.qcow2",
        "over-long.qcow2",
        "empty.qcow2",
        "snap.qcow2",
        "data-file.qcow2",
        "zero-length",
    ];
    let mut cases = String::new();
    for a in images {
        let pairs = images.map(|b| format!("compare {a} {b}; compare -s -p {a} {b}"));
        cases.push_str(&format!("{}\n", pairs.join("; ")));
    }
    check(&cases);
}

#[test]
fn the_first_difference_is_named() {
    let mut cases = String::new();
    for (b, format) in [("plain.qcow2", "qcow2"), ("raw.img", "raw"), ("c512.qcow2", "qcow2")] {
        // From the end to the start, so that each difference is the first one.
        for (at, len) in
            [(1_573_375, 1), (1_048_577, 1), (300_000, 5), (65_535, 2), (512, 512), (511, 1), (1, 1), (0, 1)]
        {
            cases.push_str(&format!(
                "io {format} {b} write -P 99 {at} {len}; compare {b} zlib.qcow2; compare -p v2.qcow2 {b}; \
                 compare -q {b} empty.qcow2; "
            ));
        }
        cases.push_str("compare raw.img plain.qcow2\n");
    }
    check(&cases);
}

#[test]
fn zeros_are_compared_however_they_are_stored() {
    check(
        "
        create -q -f raw z.raw 1M; compare z.raw empty.qcow2; compare -p empty.qcow2 z.raw; compare -s z.raw empty.qcow2
        create -q -f qcow2 z.qcow2 1M; io qcow2 z.qcow2 write -z 0 1M; compare z.qcow2 empty.qcow2; compare -s z.qcow2 empty.qcow2
        create -q -f qcow2 z.qcow2 1M; io qcow2 z.qcow2 write -P 0 0 1M; compare -p z.qcow2 empty.qcow2; compare -s z.qcow2 empty.qcow2
        create -q -f qcow2 z.qcow2 1M; io qcow2 z.qcow2 write -P 5 70003 3; compare z.qcow2 empty.qcow2; compare empty.qcow2 z.qcow2
        create -q -f qcow2 y.qcow2 1M; io qcow2 y.qcow2 write -z 0 128k; create -q -f qcow2 z.qcow2 1M; io qcow2 z.qcow2 write -P 5 70003 3; compare z.qcow2 y.qcow2; compare y.qcow2 z.qcow2
        create -q -f qcow2 -o cluster_size=512 z.qcow2 1M; compare -s z.qcow2 empty.qcow2; compare -p z.qcow2 empty.qcow2
        ",
    );
}

#[test]
fn sizes_may_differ_by_zeros() {
    check(
        "
        create -q -f qcow2 long.qcow2 3M; compare empty.qcow2 long.qcow2; compare -p long.qcow2 empty.qcow2
        create -q -f qcow2 long.qcow2 3M; compare -s empty.qcow2 long.qcow2; compare -q empty.qcow2 long.qcow2
        create -q -f qcow2 long.qcow2 3M; io qcow2 long.qcow2 write -P 1 2500001 7; compare empty.qcow2 long.qcow2; compare -p long.qcow2 empty.qcow2; compare -q -p long.qcow2 empty.qcow2
        create -q -f qcow2 long.qcow2 3M; io qcow2 long.qcow2 write -P 0 2500001 7; compare -p empty.qcow2 long.qcow2
        create -q -f qcow2 long.qcow2 3M; io qcow2 long.qcow2 write -P 1 5 7; compare -p empty.qcow2 long.qcow2
        create -q -f raw odd.raw 1000; create -q -f raw even.raw 1024; compare odd.raw even.raw; compare -s odd.raw even.raw
        create -q -f raw odd.raw 1000; create -q -f qcow2 even.qcow2 1024; compare -f raw -F qcow2 odd.raw even.qcow2
        create -q -f raw odd.raw 1000; create -q -f qcow2 even.qcow2 1536; io qcow2 even.qcow2 write -P 1 1030 4; compare odd.raw even.qcow2
        create -q -f qcow2 -o cluster_size=2M a 4T; create -q -f qcow2 -o cluster_size=2M b 1T; io qcow2 b write -P 1 1099511562240 1; compare a b; compare -s b a
        ",
    );
}

#[test]
fn options_and_complaints_of_compare_are_the_same() {
    check(
        "
        compare
        compare raw.img
        compare raw.img raw.img raw.img
        compare raw.img missing
        compare missing raw.img
        compare -p missing raw.img
        compare -p raw.img missing
        compare -T foo missing raw.img
        compare -p -T foo missing raw.img
        compare -T none raw.img plain.qcow2
        compare -T writethrough raw.img plain.qcow2
        compare --cache=directsync raw.img plain.qcow2
        compare -f foo raw.img plain.qcow2
        compare -F foo raw.img plain.qcow2
        compare --a-format raw --b-format qcow2 raw.img plain.qcow2
        compare -f raw -F raw raw.img plain.qcow2
        compare -f qcow2 raw.img plain.qcow2
        compare --image-opts -f raw raw.img plain.qcow2
        compare --image-opts -F raw driver=raw,file.filename=raw.img driver=qcow2,file.filename=plain.qcow2
        compare --image-opts driver=raw,file.filename=raw.img driver=qcow2,file.filename=plain.qcow2
        compare --image-opts driver=raw,file.filename=raw.img file.filename=missing
        compare --image-opts driver=raw,size=512,file.filename=raw.img driver=raw,size=1024,file.filename=raw.img
        compare --image-opts driver=raw,size=512,file.filename=raw.img driver=null-co,size=512
        compare raw.img plain.qcow2 -U --strict
        compare --force-share --quiet raw.img plain.qcow2
        compare --progress --quiet raw.img plain.qcow2
        compare orphan.qcow2 raw.img
        compare text zero-length
        compare -Z raw.img plain.qcow2
        compare -f
        compare --object secret,id=x raw.img raw.img
        compare --object nonesuch,id=x raw.img raw.img
        compare --strict=yes raw.img raw.img
        ",
    );
}

/// The reference takes what a table calls data for data, wherever it is said to be.
#[test]
fn an_image_that_was_cut_off_is_not_compared() {
    let dir = scratch_with_small_images();
    let run = ours().run(dir.path(), "compare outside.qcow2 raw.img");
    assert_eq!(
        (run.code(), run.stderr.trim_end()),
        (Some(3), "qemu-img: Sector allocation test failed for outside.qcow2")
    );
}

#[test]
fn programs_learn_what_differs_and_where() {
    let dir = crate::fixture::scratch_with_small_images();
    let compared = |line: &str, status: i32| -> serde_json::Value {
        let run = test_support::programs::ours().run(dir.path(), &format!("compare --output=json {line}"));
        assert_eq!(run.code(), Some(status), "{run}");
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run}"))
    };
    let same = |sizes: bool| serde_json::json!({ "result": "identical", "size-mismatch": sizes });
    assert_eq!(compared("raw.img zlib.qcow2", 0), same(false));
    assert_eq!(compared("plain.qcow2 over2.qcow2", 1)["offset"], 65536);
    assert_eq!(compared("plain.qcow2 over2.qcow2", 1)["kind"], "content");
    test_support::programs::reference().run(dir.path(), "create -q -f qcow2 -b plain.qcow2 -F qcow2 longer 3M").ok();
    assert_eq!(compared("plain.qcow2 longer", 0), same(true));
    let size = serde_json::json!({ "result": "different", "kind": "size", "size-mismatch": true });
    assert_eq!(compared("-s plain.qcow2 longer", 1), size);
    assert_eq!(compared("-s raw.img prealloc.qcow2", 1)["kind"], "block-status");
    let run = test_support::programs::ours().run(dir.path(), "compare --output=json plain.qcow2 missing");
    assert_eq!((run.code(), run.stdout.as_str()), (Some(2), ""), "{run}");
}
