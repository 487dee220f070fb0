//! Commands that work on a chain of images: what the chain shows stays, and nothing is given up before what replaces it
//! is durable.

use crash::bench::{BASE, Bench, IMAGE};
use crash::chains::{
    OTHER, TWIN, backing, base_is_sound, base_shows_chain, has_own_data, make_chain, make_coarse_chain,
    make_long_chain, make_old_chain, make_parted_chain, shows_chain, shows_long_chain,
};
use crash::commands::{Case, cut_after_failures};
use qemu_block::mem::MemOp;

use crate::commands::{cut, survive};
use crate::faults::FAULTS;

fn is_over(bench: &Bench, expected: Option<&str>) -> Result<(), String> {
    let found = backing(bench)?;
    let expected = expected.map(|name| format!("mem:{name}"));
    if found == expected { Ok(()) } else { Err(format!("it is over {found:?}")) }
}

fn is_over_other(bench: &Bench) -> Result<(), String> {
    shows_chain(bench).and_then(|()| is_over(bench, Some(OTHER)))
}

fn is_over_twin(bench: &Bench) -> Result<(), String> {
    shows_chain(bench).and_then(|()| is_over(bench, Some(TWIN)))
}

fn is_alone(bench: &Bench) -> Result<(), String> {
    shows_chain(bench).and_then(|()| is_over(bench, None))
}

fn skips_the_middle(bench: &Bench) -> Result<(), String> {
    shows_long_chain(bench).and_then(|()| is_over(bench, Some(BASE)))
}

fn rebasing(line: &'static str, is_done: fn(&Bench) -> Result<(), String>) -> Case {
    let spared = &[(BASE, MemOp::Close), (OTHER, MemOp::Close)];
    Case { line, prepare: make_chain, disks: &[IMAGE, BASE, OTHER], spared, is_done, is_sound: shows_chain }
}

fn rebases() -> [Case; 8] {
    let to_other = "rebase -f qcow2 -F qcow2 -b mem:other mem:image";
    [
        rebasing(to_other, is_over_other),
        rebasing("rebase -c -F qcow2 -b mem:other mem:image", is_over_other),
        rebasing("rebase --backing= mem:image", is_alone),
        rebasing("rebase -u -F qcow2 -b mem:twin mem:image", is_over_twin),
        Case { prepare: make_coarse_chain, ..rebasing(to_other, is_over_other) },
        Case { prepare: make_old_chain, ..rebasing(to_other, is_over_other) },
        Case { prepare: make_parted_chain, ..rebasing(to_other, is_over_other) },
        Case {
            prepare: make_long_chain,
            disks: &[IMAGE, "middle", BASE],
            spared: &[("middle", MemOp::Close), (BASE, MemOp::Close)],
            is_done: skips_the_middle,
            is_sound: shows_long_chain,
            ..rebasing("rebase -F qcow2 -b mem:base mem:image", skips_the_middle)
        },
    ]
}

#[test]
fn rebase_tells_that_it_failed() {
    survive(&rebases());
}

#[test]
fn rebase_survives_power_cuts() {
    cut(&rebases());
}

/// The reference drops the link to the backing file although what it copied may not be durable.
#[test]
fn the_link_stays_when_something_failed_and_the_power_goes() {
    cut_after_failures_of(&rebases()[..3]);
}

fn committed(bench: &Bench) -> Result<(), String> {
    base_shows_chain(bench).and_then(|()| keeps_both(bench))
}

/// Whether nothing is in the image that could hide what is below.
fn committed_and_emptied(bench: &Bench) -> Result<(), String> {
    committed(bench)?;
    match has_own_data(bench)? {
        false => Ok(()),
        true => Err("the image was not emptied".to_owned()),
    }
}

fn keeps_both(bench: &Bench) -> Result<(), String> {
    shows_chain(bench).and_then(|()| base_is_sound(bench))
}

fn committing(line: &'static str, is_done: fn(&Bench) -> Result<(), String>) -> Case {
    Case {
        line,
        prepare: make_chain,
        disks: &[IMAGE, BASE],
        spared: &[(IMAGE, MemOp::Truncate)],
        is_done,
        is_sound: keeps_both,
    }
}

fn commits() -> [Case; 6] {
    [
        committing("commit -d mem:image", committed),
        committing("commit mem:image", committed_and_emptied),
        committing("commit -t writethrough -q mem:image", committed_and_emptied),
        Case { prepare: make_coarse_chain, ..committing("commit mem:image", committed_and_emptied) },
        Case { prepare: make_old_chain, ..committing("commit mem:image", committed_and_emptied) },
        Case { prepare: make_parted_chain, ..committing("commit mem:image", committed_and_emptied) },
    ]
}

/// Commits into an image that has a backing file of its own, whose end lies before that of the image.
fn into_the_middle(line: &'static str) -> Case {
    let disks = &[IMAGE, "middle", BASE];
    let spared = &[(IMAGE, MemOp::Truncate), (BASE, MemOp::Close)];
    let (is_done, is_sound) = (shows_long_chain as _, shows_long_chain as _);
    Case { line, prepare: make_long_chain, disks, spared, is_done, is_sound }
}

#[test]
fn commit_tells_that_it_failed() {
    survive(&commits());
    survive(&[into_the_middle("commit mem:image")]);
}

/// The image keeps what it has until the backing file has it.
#[test]
fn commit_survives_power_cuts() {
    cut(&commits());
    cut(&[into_the_middle("commit mem:image")]);
}

#[test]
fn the_image_is_not_emptied_when_something_failed_and_the_power_goes() {
    cut_after_failures_of(&commits()[..2]);
}

#[expect(clippy::print_stderr, reason = "what a test has judged belongs into its output")]
pub(crate) fn cut_after_failures_of(cases: &[Case]) {
    for case in cases {
        let n_states = cut_after_failures(case, &FAULTS);
        eprintln!("{}: {n_states} states after failures", case.line);
        assert!(n_states > 100, "{case:?}: {n_states} states");
    }
}
