//! Both directions: bitmaps of the reference in our hands, ours in its hands.

use qemu_block::types::{OpenFlags, PreallocMode, ZeroFlags};

use super::{Exported, K, M, add, list, marked, names, one, ops, stored};
use crate::mem::{MemBench, fill};
use crate::support::block_on;

/// An image of the reference with three bitmaps, in the second of which it tracked writes.
fn theirs(options: &str) -> MemBench {
    let create: Vec<&str> = ["create", "-q", "-f", "qcow2", "-o", options, "IMAGE", "64M"].to_vec();
    MemBench::from_reference(&[
        &create,
        &["bitmap", "--add", "--disable", "IMAGE", "idle"],
        &["bitmap", "--add", "-g", "4k", "IMAGE", "fine"],
        &["io", "write 1M 70k", "write -z 20M 1M", "discard 40M 64k", "write -c 50M 2M"],
        &["bitmap", "--add", "-g", "2M", "IMAGE", "coarse"],
        &["bitmap", "--merge", "fine", "IMAGE", "idle"],
        &["io", "write 0 512"],
    ])
}

#[test]
fn what_the_reference_stored_is_read() {
    for options in ["cluster_size=64k", "cluster_size=512", "cluster_size=2M"] {
        let bench = theirs(options);
        let node = bench.open("a", OpenFlags::empty()).expect("readable");
        let infos = list(&node);
        let shown: Vec<_> = infos.iter().map(|info| (info.name.as_str(), info.granularity, info.enabled)).collect();
        let idle = if options == "cluster_size=512" { 4 * K } else { 64 * K };
        assert_eq!(shown, [("idle", idle, false), ("fine", 4 * K, true), ("coarse", 2 * M, true)]);
        let exported = Exported::new(&bench);
        for name in ["idle", "fine", "coarse"] {
            assert_eq!(marked(&node, name), exported.marked(name), "{options} {name}");
        }
        assert_eq!(marked(&node, "coarse"), one(0..2 * M));
        block_on(node.close()).expect("closed");
    }
}

#[test]
fn what_we_write_is_tracked_in_bitmaps_of_the_reference() {
    for options in ["cluster_size=64k", "cluster_size=512", "cluster_size=2M"] {
        let bench = theirs(options);
        let before = stored(&bench, "idle");
        let node = bench.open("a", OpenFlags::WRITE | OpenFlags::UNMAP).expect("writable");
        block_on(async {
            fill(&node, 5 * M + 100, 1, 1).await.expect("written");
            node.write_zeroes(8 * M, 64 * K, ZeroFlags::MAY_UNMAP).await.expect("zeroed");
            node.discard(12 * M, 2 * M).await.expect("discarded");
            let cluster =
                usize::try_from(node.info().await.expect("info").cluster_size.expect("clusters")).expect("small");
            let data = qemu_util::buf::IoBuf::copy_of(&vec![5; cluster]);
            let run = node.compress(30 * M, data.into()).await.expect("compressed");
            node.write_compressed(run).await.expect("stored");
            node.flush().await.expect("flushed");
        });
        block_on(node.close()).expect("closed");
        bench.assert_clean();
        assert_eq!(names(&bench), "-idle fine coarse");
        let exported = Exported::new(&bench);
        exported.run("check -q IMAGE");
        assert_eq!(exported.marked("idle"), before, "{options}: it was disabled");
        let fine = exported.marked("fine");
        assert_eq!(fine, stored(&bench, "fine"));
        let is_marked = |at: u64| fine.iter().any(|range| range.contains(&at));
        for at in [0, M, 5 * M, 8 * M, 8 * M + 60 * K, 12 * M, 14 * M - 1, 20 * M, 30 * M, 40 * M, 50 * M] {
            assert!(is_marked(at), "{options}: {at:#x}");
        }
        assert!(!is_marked(5 * M + 4096) && !is_marked(14 * M) && !is_marked(8 * M - 1));
    }
}

#[test]
fn what_the_reference_writes_is_tracked_in_ours() {
    for options in ["cluster_size=64k", "cluster_size=512", "cluster_size=2M", "cluster_size=4k,refcount_bits=1"] {
        let bench = MemBench::with_image(options, 64 * M);
        let node = bench.writable();
        add(&node, "one", 64 * K);
        add(&node, "two", 512);
        block_on(fill(&node, 3 * M, 1000, 1)).expect("written");
        block_on(ops(&node).set_enabled("two", false)).expect("disabled");
        block_on(fill(&node, 9 * M, 1000, 1)).expect("written");
        block_on(node.close()).expect("closed");
        bench.assert_clean();
        assert_eq!(stored(&bench, "two"), one(3 * M..3 * M + 1024));
        let exported = Exported::new(&bench);
        exported.io(&["write 16M 128k", "discard 32M 64k"]);
        exported.run("check -q IMAGE");
        exported.import(&bench);
        let expected =
            [3 * M..3 * M + 64 * K, 9 * M..9 * M + 64 * K, 16 * M..16 * M + 128 * K, 32 * M..32 * M + 64 * K];
        assert_eq!(stored(&bench, "one"), expected);
        assert_eq!(stored(&bench, "two"), one(3 * M..3 * M + 1024));
        let info = exported.run("info IMAGE");
        assert!(info.contains("granularity: 512") && !info.contains("in-use"), "{info}");
    }
}

#[test]
fn bitmaps_that_are_full_take_no_space() {
    let bench = MemBench::with_image("cluster_size=4k", 600 * M);
    let node = bench.open("a", OpenFlags::WRITE | OpenFlags::UNMAP).expect("writable");
    add(&node, "all", 4 * K);
    block_on(node.discard(0, 600 * M)).expect("discarded");
    block_on(node.close()).expect("closed");
    bench.assert_clean();
    assert!(bench.disk().len() < 64 * K, "ones are not spelled out: {}", bench.disk().len());
    assert_eq!(stored(&bench, "all"), one(0..600 * M));
    assert_eq!(Exported::new(&bench).marked("all"), one(0..600 * M));
}

#[test]
fn the_size_changes_and_bitmaps_follow_as_the_references_do() {
    let ours = theirs("cluster_size=64k");
    let exported = Exported::new(&ours);
    for size in [100 * M, 3000 * M, 3000 * M + 512] {
        exported.run(&format!("resize -q IMAGE {size}"));
        let node = ours.writable();
        block_on(node.truncate(size, PreallocMode::Off)).expect("resized");
        block_on(fill(&node, size - 512, 512, 1)).expect("written");
        block_on(node.close()).expect("closed");
        exported.io(&[&format!("write {} 512", size - 512)]);
        ours.assert_clean();
        let mine = Exported::new(&ours);
        for name in ["idle", "fine", "coarse"] {
            assert_eq!(mine.marked(name), exported.marked(name), "{name} at {size}");
            assert_eq!(mine.marked(name), stored(&ours, name), "{name} at {size}");
        }
    }
}

#[test]
fn the_last_bitmap_leaves_no_trace() {
    let bench = theirs("cluster_size=64k");
    let node = bench.writable();
    for name in ["fine", "idle", "coarse"] {
        block_on(ops(&node).remove(name)).expect("removed");
    }
    block_on(fill(&node, 0, 512, 9)).expect("written");
    block_on(node.close()).expect("closed");
    bench.assert_clean();
    let info = Exported::new(&bench).run("info IMAGE");
    assert!(!info.contains("bitmaps") && names(&bench).is_empty());
    // All that is left is what the guest wrote, and the image can have bitmaps again.
    let node = bench.writable();
    add(&node, "again", 64 * K);
    block_on(node.close()).expect("closed");
    bench.assert_clean();
    assert_eq!(names(&bench), "again");
}

#[test]
fn wrong_wishes_are_refused_in_the_references_words() {
    let bench = MemBench::with_image("", 64 * M);
    let node = bench.writable();
    add(&node, "b", 64 * K);
    let new = |name: &str, granularity: u64| qemu_block::manage::NewBitmap {
        name: name.to_owned(),
        granularity: Some(granularity),
        enabled: true,
    };
    let long = "x".repeat(1024);
    for (name, granularity, text) in [
        ("b", 512, "Bitmap already exists: b"),
        ("", 512, "Bitmap name cannot be empty"),
        ("c", 256, "Granularity must be power of 2 and at least 512"),
        ("c", 1000, "Granularity must be power of 2 and at least 512"),
        ("c", 1 << 32, "Can't make bitmap 'c' persistent in 'mem:a': Granularity exceeds maximum (2147483648 bytes)"),
    ] {
        assert_eq!(block_on(ops(&node).add(new(name, granularity))).expect_err(text).chain(), text);
    }
    let error = block_on(ops(&node).add(new(&long, 512))).expect_err("too long").chain();
    assert!(error.ends_with("Name length exceeds maximum (1023 characters)"), "{error}");
    let missing = "Dirty bitmap 'n\\no' not found";
    assert_eq!(block_on(ops(&node).remove("n\no")).expect_err(missing).chain(), missing);
    let small = qemu_block::bitmap::DirtyBitmap::new(M, 16);
    let text =
        "Bitmaps are of different sizes (destination size is 67108864, source size is 1048576) and can't be merged";
    assert_eq!(block_on(ops(&node).merge("b", &small)).expect_err(text).chain(), text);
    block_on(node.close()).expect("closed");

    bench.create("a", "", 4 << 40);
    let node = bench.writable();
    let error = block_on(ops(&node).add(new("huge", 512))).expect_err("too large").chain();
    assert!(error.ends_with("Too much space will be occupied by the bitmap. Use larger granularity"), "{error}");
    block_on(node.close()).expect("closed");
    bench.create("a", "compat=0.10", M);
    let node = bench.writable();
    let error = block_on(ops(&node).add(new("x", 512))).expect_err("no autoclear bits").chain();
    assert!(error.ends_with("Cannot store dirty bitmaps in qcow2 v2 files"), "{error}");
}
