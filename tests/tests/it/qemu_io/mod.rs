//! `qemu-io`: both programs, given the same commands on copies of the same images, print the same and leave the same.
//!
//! A case is one line: the arguments of qemu-io, or several of them separated by `;`, run in order in twin folders. What
//! begins with `img` is for the reference's qemu-img in both folders. Speeds and times are cut out of what is compared;
//! afterwards the disks in both folders must read the same.

mod arguments;
mod blocks;
mod requests;
mod scripts;

use std::path::Path;

use tempfile::TempDir;
use test_support::programs::{Program, our_qemu_io, qemu_io, reference, reference_speaks_our_version};
use test_support::run::Run;

use crate::fixture::scratch;

/// The images in each folder, and how they come to be.
const IMAGES: [(&str, &str); 4] = [
    ("disk.qcow2", "create -q -f qcow2 disk.qcow2 1M"),
    ("disk.raw", "create -q -f raw disk.raw 1M"),
    ("small.qcow2", "create -q -f qcow2 -o cluster_size=4k small.qcow2 64M"),
    ("over.qcow2", "create -q -f qcow2 -b base.raw -F raw over.qcow2"),
];

/// A folder with the images.
fn folder() -> TempDir {
    let dir = scratch();
    reference().run(dir.path(), "create -q -f raw base.raw 1M").ok();
    qemu_io().run(dir.path(), "-f raw -c 'write -q -P 5 0 128k' base.raw").ok();
    for (_, line) in IMAGES {
        reference().run(dir.path(), line).ok();
    }
    std::fs::write(dir.path().join("abc"), b"abc").expect("a file can be written");
    dir
}

/// Runs every case of `table` and demands that there is no difference.
#[track_caller]
fn check(table: &str) {
    let cases: Vec<&str> = table.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert!(!cases.is_empty());
    let differences: Vec<String> = cases.iter().filter_map(|case| difference(case)).collect();
    assert!(differences.is_empty(), "{} of {} differ\n{}", differences.len(), cases.len(), differences.join("\n"));
}

/// How the programs differ in `case`.
fn difference(case: &str) -> Option<String> {
    difference_with(case, |_| {})
}

/// As [`difference`], in folders that `prepare` has completed.
fn difference_with(case: &str, prepare: impl Fn(&Path)) -> Option<String> {
    let (ours, theirs) = (folder(), folder());
    [&ours, &theirs].into_iter().for_each(|dir| prepare(dir.path()));
    for line in case.split(';').map(str::trim) {
        if let Some(line) = line.strip_prefix("img ") {
            [&ours, &theirs].iter().for_each(|dir| drop(reference().run(dir.path(), line).ok()));
            continue;
        }
        let (a, b) = (our_qemu_io().run(ours.path(), line), qemu_io().run(theirs.path(), line));
        let (seen_a, seen_b) = (seen(&a), seen(&b));
        let same = if reference_speaks_our_version() { seen_a == seen_b } else { a.code() == b.code() };
        if !same {
            return Some(format!("=== {line}\n--- ours\n{seen_a}--- reference\n{seen_b}"));
        }
    }
    IMAGES
        .iter()
        .find_map(|(name, _)| different_content(ours.path(), theirs.path(), name))
        .map(|difference| format!("=== {case}\n{difference}"))
}

/// Demands that an image of ours is sound and reads as the reference's.
fn different_content(ours: &Path, theirs: &Path, name: &str) -> Option<String> {
    let (a, b) = (ours.join(name), theirs.join(name));
    let (a, b) = (a.to_str().expect("text"), b.to_str().expect("text"));
    let compared = reference().invoke(ours).words("compare -U").arg(a).arg(b).run();
    if compared.code() != Some(0) {
        return Some(compared.to_string());
    }
    let checked = reference().invoke(ours).words("check -U -q").arg(a).run();
    (!matches!(checked.code(), Some(0 | 63))).then(|| checked.to_string())
}

/// What a person sees, without what depends on the speed of the machine.
fn seen(run: &Run) -> String {
    let clean = |text: &str| text.lines().map(|line| format!("{}\n", without_times(line))).collect::<String>();
    format!("{}\n[stdout]\n{}[stderr]\n{}", run.status, clean(&run.stdout), clean(&run.stderr))
}

/// A line of a report without its times: `1 KiB, 1 ops; …` and `1024,1,…`. Its shape must be right.
fn without_times(line: &str) -> String {
    if let Some((amount, times)) = line.split_once(" ops; ") {
        let (time, speeds) = times.split_once(" (").unwrap_or_default();
        let is_time = time.ends_with(" sec") || time.split(':').count() == 3;
        let is_speeds = speeds.contains("/sec and ") && speeds.ends_with(" ops/sec)");
        return if is_time && is_speeds { format!("{amount} ops; TIMES") } else { format!("BAD TIMES {line}") };
    }
    let fields: Vec<&str> = line.split(',').collect();
    let is_number = |text: &&str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || ".:".contains(c));
    match fields[..] {
        [bytes, "1", ..] if fields.len() == 5 && fields.iter().all(is_number) => format!("{bytes},1,TIMES"),
        _ => line.to_owned(),
    }
}

/// Runs `commands`, one a line, from standard input on `image`.
fn converse(program: &Program, dir: &Path, arguments: &str, commands: &str) -> Run {
    program.invoke(dir).words(arguments).input(commands).run()
}
