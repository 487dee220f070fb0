//! Commands whose storage fails: the exit status says so, and nothing damaged is left.

use crash::bench::{Bench, IMAGE};
use crash::commands::{
    Case, DISK_BYTES, cut_everywhere, fail_everywhere, is_refused_or_sound, make_source, shows_source,
};
use qemu_block::mem::MemDisk;

use crate::faults::FAULTS;

/// A source, and the name of a target that does not exist yet.
fn source_alone(bench: &Bench) {
    make_source(bench, "source", "cluster_size=4k");
    bench.insert(IMAGE, MemDisk::growable(0));
}

/// A source, and an empty image of the same size.
fn source_and_target(bench: &Bench) {
    make_source(bench, "source", "cluster_size=4k");
    bench.make("qcow2", IMAGE, "cluster_size=1k", DISK_BYTES);
}

fn nothing(bench: &Bench) {
    bench.insert(IMAGE, MemDisk::growable(0));
}

fn is_empty(bench: &Bench) -> Result<(), String> {
    is_refused_or_sound(bench)
}

fn converting(line: &'static str) -> Case {
    let disks = &["source", IMAGE];
    Case { line, prepare: source_alone, disks, spared: &[], is_done: shows_source, is_sound: is_refused_or_sound }
}

#[expect(clippy::print_stderr, reason = "what a test has tried belongs into its output")]
pub(crate) fn survive(cases: &[Case]) {
    for case in cases {
        let n_points = fail_everywhere(case, &FAULTS);
        eprintln!("{}: {n_points} points", case.line);
        assert!(n_points > 10, "{case:?}");
    }
}

/// The reference returns 0 when the last metadata writes, the flush or the close fail, in all cache modes but
/// `writethrough` and `directsync`.
#[test]
fn convert_tells_that_the_target_failed() {
    survive(&[
        converting("convert -O qcow2 -o cluster_size=4k mem:source mem:image"),
        converting("convert -O qcow2 -o cluster_size=4k -t none mem:source mem:image"),
        converting("convert -O qcow2 -o cluster_size=512 -t writethrough -W mem:source mem:image"),
        converting("convert -O qcow2 -o cluster_size=4k -c mem:source mem:image"),
    ]);
}

/// So it does for targets that exist.
#[test]
fn convert_tells_that_an_existing_target_failed() {
    let line = "convert -n -O qcow2 mem:source mem:image";
    survive(&[Case { prepare: source_and_target, ..converting(line) }]);
}

#[test]
fn create_tells_that_the_storage_failed() {
    let case = |line| Case {
        line,
        prepare: nothing,
        disks: &[IMAGE],
        spared: &[],
        is_done: is_empty,
        is_sound: is_refused_or_sound,
    };
    survive(&[
        case("create -q -f qcow2 mem:image 96k"),
        case("create -q -f qcow2 -o preallocation=metadata,cluster_size=512 mem:image 96k"),
    ]);
}

/// What `convert` says is done survives the power cut that follows.
#[test]
fn a_conversion_that_ended_survives_power_cuts() {
    // While it runs, nobody is promised an image.
    let converting = |line| Case { is_sound: |_| Ok(()), ..converting(line) };
    cut(&[
        converting("convert -O qcow2 -o cluster_size=4k mem:source mem:image"),
        converting("convert -O qcow2 -o cluster_size=512 -W -c mem:source mem:image"),
    ]);
    // An image that was there before stays one.
    let line = "convert -n -O qcow2 mem:source mem:image";
    cut(&[Case { prepare: source_and_target, ..self::converting(line) }]);
}

/// An image with data and a snapshot that shares it.
fn image_with_snapshot(bench: &Bench) {
    make_source(bench, IMAGE, "cluster_size=4k");
    assert!(bench.command("snapshot -c first mem:image"), "a snapshot is made");
}

/// Commands that change an image leave what its disk shows alone: before, meanwhile and afterwards.
fn changing(line: &'static str) -> Case {
    let disks = &[IMAGE];
    Case { line, prepare: image_with_snapshot, disks, spared: &[], is_done: shows_source, is_sound: shows_source }
}

fn changes() -> [Case; 4] {
    [
        changing("resize -f qcow2 mem:image 64M"),
        changing("snapshot -c second mem:image"),
        changing("snapshot -a first mem:image"),
        changing("snapshot -d first mem:image"),
    ]
}

#[test]
fn commands_that_change_an_image_tell_that_it_failed() {
    survive(&changes());
}

#[test]
fn commands_that_change_an_image_survive_power_cuts() {
    cut(&changes());
}

#[expect(clippy::print_stderr, reason = "what a test has judged belongs into its output")]
pub(crate) fn cut(cases: &[Case]) {
    for case in cases {
        let n_states = cut_everywhere(case);
        eprintln!("{}: {n_states} states", case.line);
        assert!(n_states > 3, "{case:?}: {n_states} states");
    }
}
