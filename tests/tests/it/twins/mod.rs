//! Both programs, given the same command lines in twin folders, say and return the same.
//!
//! A case is one line: commands separated by `;`, run in order in a folder with a copy of the small images. Every
//! command's standard output, standard error and exit status must be equal; so must the names in the folder afterwards
//! when every command succeeded. Commands that begin with `reference` are run by the reference in both folders, and
//! `distrust IMAGE BITMAP...` marks bitmaps as in use in both, and `io FORMAT IMAGE COMMAND` has qemu-io change an image.

mod amend;
mod bitmap;
mod check;
mod commit;
mod compare;
mod convert;
mod create;
mod dd;
mod encryption;
mod errors;
mod filters;
mod info;
mod luks;
mod map;
mod measure;
mod nbd;
mod rebase;
mod resize;
mod snapshot;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use test_support::programs::{Program, ours, qemu_io, reference, reference_speaks_our_version};
use test_support::run::Run;

use crate::fixture::scratch_with_small_images;

/// Runs every case of `table` and demands that there is no difference.
#[track_caller]
pub(crate) fn check(table: &str) {
    let cases: Vec<&str> = table.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert!(!cases.is_empty());
    let differences: Vec<String> = cases.iter().filter_map(|case| difference(case)).collect();
    assert!(differences.is_empty(), "{} of {} differ\n{}", differences.len(), cases.len(), differences.join("\n"));
}

/// How the programs differ in `case`.
fn difference(case: &str) -> Option<String> {
    let (dir_a, dir_b) = (scratch_with_small_images(), scratch_with_small_images());
    let mut all_succeeded = true;
    for command in case.split(';').map(str::trim) {
        if let Some(words) = command.strip_prefix("distrust ") {
            [&dir_a, &dir_b].iter().for_each(|dir| bitmap::distrust(dir.path(), words));
            continue;
        }
        if let Some(words) = command.strip_prefix("io ") {
            [&dir_a, &dir_b].iter().for_each(|dir| change_with_qemu_io(dir.path(), words));
            continue;
        }
        let (line, program) = match command.strip_prefix("reference ") {
            Some(line) => (line, reference()),
            None => (command, ours()),
        };
        let (a, b) = (run(program, dir_a.path(), line), run(reference(), dir_b.path(), line));
        all_succeeded &= b.code() == Some(0);
        // Other versions of the reference word things otherwise; what they return is the same.
        let is_changed = ["bitmap --", "rebase "].iter().any(|command| case.contains(command));
        let (seen_a, seen_b) = (seen(&a, dir_a.path(), is_changed), seen(&b, dir_b.path(), is_changed));
        let same = if reference_speaks_our_version() { seen_a == seen_b } else { a.code() == b.code() };
        if !same {
            return Some(format!("=== {case}\n=== at: {line}\n--- ours\n{seen_a}--- reference\n{seen_b}"));
        }
    }
    let (names_a, names_b) = (names(dir_a.path()), names(dir_b.path()));
    (all_succeeded && names_a != names_b).then(|| format!("=== {case}\nfiles: {names_a:?}, reference: {names_b:?}"))
}

/// Runs `COMMAND` of `FORMAT IMAGE COMMAND` on an image.
fn change_with_qemu_io(dir: &Path, words: &str) {
    let mut words = words.splitn(3, ' ');
    let (Some(format), Some(image), Some(command)) = (words.next(), words.next(), words.next()) else {
        panic!("io FORMAT IMAGE COMMAND");
    };
    qemu_io().invoke(dir).words(&format!("-f {format} {image}")).input(format!("{command}\n")).run().ok();
}

fn run(program: &Program, dir: &Path, line: &str) -> Run {
    program.run(dir, line)
}

/// What a person sees, without what may differ: the folder, and the bytes that a file system gave to a file.
fn seen(run: &Run, dir: &Path, is_changed: bool) -> String {
    let dir = dir.to_string_lossy();
    let clean = |text: &str| {
        text.replace(&*dir, "DIR").lines().map(|line| without_chance(line, is_changed)).collect::<String>()
    };
    format!("{}\n[stdout]\n{}[stderr]\n{}", run.status, clean(&run.stdout), clean(&run.stderr))
}

/// A line without the value that chance, or the speed of the machine, decides about: or the order in which clusters of
/// an image that was changed come into use, which decides how long its file is.
fn without_chance(line: &str, is_changed: bool) -> String {
    let mut chance = vec!["disk size: ", "\"actual-size\": ", "uuid: ", "\"uuid\": ", "iters: ", "iters\": "];
    if is_changed {
        // The last one is the file's, below the image's own.
        chance.extend(["file length: ", "Image end offset: ", "                \"virtual-size\": "]);
    }
    for label in chance {
        if let Some((before, value)) = line.split_once(label) {
            let comma = if value.ends_with(',') { "," } else { "" };
            return format!("{before}{label}SIZE{comma}\n");
        }
    }
    format!("{line}\n")
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).expect("the folder can be read");
    entries.map(|entry| entry.expect("an entry can be read").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn the_disk_size_is_what_the_file_system_says() {
    let dir = scratch_with_small_images();
    for image in ["plain.qcow2", "raw.img", "zlib.qcow2"] {
        test_support::files::allocated_bytes(&dir.path().join(image)).expect("the image can be synchronised");
        for format in ["human", "json"] {
            let line = format!("info --output={format} {image}");
            let (a, b) = (ours().run(dir.path(), &line).ok(), reference().run(dir.path(), &line).ok());
            if reference_speaks_our_version() {
                assert_eq!(a.stdout, b.stdout, "{line}");
            }
        }
    }
}
