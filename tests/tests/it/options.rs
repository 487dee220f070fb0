//! Every option of `convert` does what it says, on realistic images.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use test_support::files::{allocated_bytes, first_difference};
use test_support::programs::{Program, ours, qemu_io, reference};

use crate::cloud::is_same_image;
use crate::fixture::{cloud_images, scratch, scratch_with_small_images};

/// Converts a cloud image with `options` and demands the same content; `inspect` sees the folder with `target`.
fn converts(image: &str, format: &str, options: &str, inspect: impl FnOnce(&Path)) {
    let (images, dir) = (cloud_images(), scratch());
    let source = images.join(image);
    let convert = ours().invoke(dir.path()).words(&format!("convert -O {format} {options}"));
    convert.arg(&source).arg("target").run().ok();
    is_same_image(dir.path(), &source, format, "target");
    inspect(dir.path());
}

/// Demands that the reference's `info` shows the line `fact` for `target`.
fn shows(fact: &str) -> impl FnOnce(&Path) {
    move |dir| {
        let info = reference().run(dir, "info target").ok();
        assert!(info.stdout.lines().any(|line| line.trim() == fact), "should show {fact:?}: {info}");
    }
}

fn anything(_: &Path) {}

#[test]
fn out_of_order_writes_change_nothing_that_is_read() {
    converts("cloud-zlib.qcow2", "qcow2", "-W", anything);
    converts("overlay.qcow2", "raw", "-W", anything);
    converts("cloud.raw", "qcow2", "-W -c", anything);
}

#[test]
fn one_task_and_sixteen_tasks_give_the_same_disk() {
    for options in ["-m 1", "-m 16", "-m 16 -W", "-m 1 -c"] {
        converts("cloud.qcow2", "qcow2", options, anything);
    }
    converts("cloud-zstd.qcow2", "raw", "-m 1", anything);
    converts("cloud-zstd.qcow2", "raw", "-m 16", anything);
}

#[test]
fn a_sparse_size_of_zero_allocates_everything() {
    converts("cloud-zlib.qcow2", "raw", "-S 0", |dir| {
        let target = dir.join("target");
        let allocated = allocated_bytes(&target).expect("the target can be measured");
        assert!(allocated >= fs::metadata(&target).expect("the target is there").len());
    });
    converts("cloud.raw", "qcow2", "-S 0", anything);
}

#[test]
fn a_sparse_size_of_a_mebibyte_keeps_small_runs_of_zeros() {
    converts("cloud.raw", "raw", "-S 1M", anything);
    converts("cloud.qcow2", "qcow2", "-S 1M", anything);
}

fn converts_with_cluster_size(size: &str, shown: &str) {
    let options = format!("-o cluster_size={size}");
    converts("cloud-zlib.qcow2", "qcow2", &options, shows(&format!("cluster_size: {shown}")));
    converts("cloud.raw", "qcow2", &format!("-c {options}"), shows(&format!("cluster_size: {shown}")));
}

#[test]
fn clusters_of_512_bytes_convert_and_compress() {
    converts_with_cluster_size("512", "512");
}

#[test]
fn clusters_of_4_kib_convert_and_compress() {
    converts_with_cluster_size("4k", "4096");
}

#[test]
fn clusters_of_64_kib_convert_and_compress() {
    converts_with_cluster_size("64k", "65536");
}

#[test]
fn clusters_of_2_mib_convert_and_compress() {
    converts_with_cluster_size("2M", "2097152");
}

#[test]
fn every_width_of_refcounts_converts() {
    for bits in ["1", "16", "64"] {
        let fact = format!("refcount bits: {bits}");
        converts("cloud.qcow2", "qcow2", &format!("-o refcount_bits={bits}"), shows(&fact));
    }
    converts("cloud.qcow2", "qcow2", "-c -o refcount_bits=64,cluster_size=4k", shows("refcount bits: 64"));
}

#[test]
fn the_old_version_of_the_format_can_be_made() {
    converts("cloud-zlib.qcow2", "qcow2", "-o compat=0.10", shows("compat: 0.10"));
    converts("overlay.qcow2", "qcow2", "-c -o compat=0.10", shows("compat: 0.10"));
}

#[test]
fn preallocation_reserves_what_its_mode_says() {
    for mode in ["metadata", "falloc", "full"] {
        converts("cloud-zlib.qcow2", "qcow2", &format!("-o preallocation={mode}"), anything);
    }
    for mode in ["off", "falloc", "full"] {
        converts("cloud-zlib.qcow2", "raw", &format!("-o preallocation={mode}"), |dir| {
            let target = dir.join("target");
            let allocated = allocated_bytes(&target).expect("the target can be measured");
            let all = allocated >= fs::metadata(&target).expect("the target is there").len();
            assert_eq!(all, mode != "off", "{mode}: {allocated} bytes allocated");
        });
    }
}

#[test]
fn cache_modes_change_nothing_that_is_read() {
    for mode in ["none", "writeback", "writethrough", "directsync", "unsafe"] {
        converts("cloud-zlib.qcow2", "qcow2", &format!("-t {mode} -T {mode}"), anything);
        converts("overlay.qcow2", "raw", &format!("-t {mode} -T {mode}"), anything);
    }
}

/// Compressed clusters end between the blocks of direct I/O, so each of them is a padded write that makes the file
/// longer while others do the same.
#[test]
fn direct_writes_of_compressed_clusters_lose_nothing() {
    for size in ["512", "4096", "64k"] {
        for tasks in ["-m 16", "-W -m 16"] {
            let options = format!("-c {tasks} -t none -o cluster_size={size}");
            converts("cloud.raw", "qcow2", &options, |dir| drop(reference().run(dir, "check target").ok()));
        }
    }
}

#[test]
fn zeros_over_an_existing_target_give_space_back() {
    let dir = scratch();
    fs::write(dir.path().join("target"), vec![1; 4 << 20]).expect("a file can be written");
    File::create(dir.path().join("zeros")).and_then(|file| file.set_len(4 << 20)).expect("a file can be made");
    let allocated = || allocated_bytes(&dir.path().join("target")).expect("the target can be measured");
    ours().run(dir.path(), "convert -n -S 0 -f raw -O raw zeros target").ok();
    assert!(allocated() >= 4 << 20, "with -S 0 everything stays allocated");
    ours().run(dir.path(), "convert -n -f raw -O raw zeros target").ok();
    assert!(allocated() < 1 << 20, "{} bytes are still allocated", allocated());
}

#[test]
fn several_sources_are_joined() {
    let dir = scratch_with_small_images();
    let dir = dir.path();
    for (format, options) in [("raw", ""), ("qcow2", ""), ("qcow2", "-c"), ("qcow2", "-W -m 16")] {
        let line = |target: &str| format!("convert -O {format} {options} over.qcow2 plain.qcow2 zlib.qcow2 {target}");
        ours().run(dir, &line("ours")).ok();
        reference().run(dir, &line("theirs")).ok();
        // Not `-s`: where a cluster is data only in part, the file has a hole in ours and allocated zeros in theirs.
        reference().run(dir, &format!("compare -f {format} -F {format} ours theirs")).ok();
    }
}

#[test]
fn an_overlay_holds_only_what_its_backing_file_lacks() {
    let images = cloud_images();
    let dir = scratch();
    let base = images.join("cloud.qcow2");
    let convert = ours().invoke(dir.path()).words("convert -O qcow2 -F qcow2 -B").arg(&base);
    convert.arg(images.join("overlay.qcow2")).arg("target").run().ok();
    is_same_image(dir.path(), &images.join("overlay.qcow2"), "qcow2", "target");
    let size = fs::metadata(dir.path().join("target")).expect("the target is there").blocks() * 512;
    let whole = fs::metadata(&base).expect("the base is there").blocks() * 512;
    assert!(size < whole / 2 + (36 << 20), "an overlay of {size} bytes over {whole} bytes");
}

/// Prepares `target` with the reference, runs `convert -n` with `options`, and demands the content of `source`.
fn converts_into(source: &str, prepare: &[(&Program, &str)], format: &str, options: &str) {
    let dir = scratch_with_small_images();
    let dir = dir.path();
    for (program, line) in prepare {
        let run = program.run(dir, line);
        assert_eq!(run.code(), Some(0), "{run}");
    }
    ours().run(dir, &format!("convert -n -O {format} {options} {source} target")).ok();
    is_same_image(dir, &dir.join(source), format, "target");
}

#[test]
fn an_existing_target_is_written_over_completely() {
    let dirt = "-f raw -c 'write -q -P 99 0 1536k' target";
    let (img, io) = (reference(), qemu_io());
    converts_into("plain.qcow2", &[(img, "create -q -f raw target 1573376"), (io, dirt)], "raw", "");
    let dirt = "-f qcow2 -c 'write -q -P 99 0 1536k' target";
    converts_into("plain.qcow2", &[(img, "create -q -f qcow2 target 1573376"), (io, dirt)], "qcow2", "");
    converts_into("zlib.qcow2", &[(img, "create -q -f qcow2 target 1573376"), (io, dirt)], "qcow2", "-W -m 16");
    converts_into("zlib.qcow2", &[(img, "create -q -f qcow2 target 1573376")], "qcow2", "-c");
}

#[test]
fn a_target_that_is_zero_is_not_zeroed_again() {
    let create = [(reference(), "create -q -f raw target 1573376")];
    converts_into("plain.qcow2", &create, "raw", "--target-is-zero");
    let create = [(reference(), "create -q -f qcow2 target 1573376")];
    converts_into("over.qcow2", &create, "qcow2", "--target-is-zero -W");
}

#[test]
fn an_image_in_use_is_read_with_force_share_and_not_without() {
    let dir = scratch_with_small_images();
    let writer = crate::process::hold_open(dir.path(), "plain.qcow2");
    ours().run(dir.path(), "info plain.qcow2").fails(1).saying("Failed to get shared \"write\" lock");
    ours().run(dir.path(), "info -U plain.qcow2").ok();
    ours().run(dir.path(), "convert -U -O raw plain.qcow2 target").ok();
    writer.release();
    assert_eq!(first_difference(&dir.path().join("raw.img"), &dir.path().join("target")).expect("readable"), None);
}

#[test]
fn progress_ends_at_one_hundred_and_quiet_silences_it() {
    let dir = scratch_with_small_images();
    let run = ours().run(dir.path(), "convert -p -O qcow2 plain.qcow2 target").ok();
    assert!(run.stdout.starts_with("    (0.00/100%)\r") && run.stdout.ends_with("    (100.00/100%)\r\n"), "{run}");
    assert_eq!(ours().run(dir.path(), "convert -p -q -O qcow2 plain.qcow2 target").ok().stdout, "");
}
