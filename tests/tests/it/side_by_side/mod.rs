//! One command line, two programs, twin folders: what differs.
//!
//! A case is one line: commands separated by `;`, run in order in a folder with copies of the small images that the line
//! names. Every command's standard output, standard error and exit status must be equal. A command may have a first word
//! that says more than a program can:
//!
//! | first word | meaning |
//! |---|---|
//! | `reference` | run by the reference in both folders |
//! | `distrust IMAGE BITMAP...` | the bitmaps are marked as in use |
//! | `io FORMAT IMAGE COMMAND` | the reference's qemu-io changes the image |
//! | `lock IMAGE` | another program has the image open for writing until the case ends |
//! | `protect FILE`, `hide FILE` | the file cannot be written, or not even read, by the commands that follow |

mod aftermath;
mod bitmaps;
mod text;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use test_support::programs::{Program, ours, qemu_io, reference, reference_speaks_our_version};
use test_support::run::Run;

pub(crate) use aftermath::{names, results_differ};
pub(crate) use text::seen;

use crate::fixture::scratch_with_images_of;
use crate::process::{Holder, hold_open};

/// How exactly the programs have to agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rigour {
    /// To the byte.
    Exact,
    /// From the second command on the length of images, and the time at which something was made, may differ: what comes
    /// before it changes images.
    Changed,
}

/// A case that has been run by both programs.
#[derive(Debug)]
pub(crate) struct Twins {
    ours: TempDir,
    reference: TempDir,
    /// How the programs differed in what they said and returned, if they did.
    pub(crate) said: Option<String>,
    /// Whether the reference succeeded in everything.
    pub(crate) all_succeeded: bool,
}

impl Twins {
    /// The folder in which our program ran.
    pub(crate) fn ours(&self) -> &Path {
        self.ours.path()
    }

    /// The folder in which the reference ran.
    pub(crate) fn reference(&self) -> &Path {
        self.reference.path()
    }
}

/// Runs the commands of `case` until one is answered differently.
pub(crate) fn run_case(case: &str, rigour: Rigour) -> Twins {
    let (ours_dir, reference_dir) = (scratch_with_images_of(case), scratch_with_images_of(case));
    let mut twins = Twins { ours: ours_dir, reference: reference_dir, said: None, all_succeeded: true };
    let mut surroundings = Surroundings::default();
    for command in case.split(';').map(str::trim) {
        if surroundings.prepare(&[twins.ours(), twins.reference()], command) {
            continue;
        }
        let (line, program) = match command.strip_prefix("reference ") {
            Some(line) => (line, reference()),
            None => (command, ours()),
        };
        let a = surroundings.run(program, twins.ours(), line);
        let b = surroundings.run(reference(), twins.reference(), line);
        let rigour = if std::mem::replace(&mut surroundings.has_run, true) { rigour } else { Rigour::Exact };
        twins.all_succeeded &= b.code() == Some(0);
        let (seen_a, seen_b) = (seen(&a, twins.ours(), rigour), seen(&b, twins.reference(), rigour));
        // Other versions of the reference word things otherwise; what they return is the same.
        let same = if reference_speaks_our_version() { seen_a == seen_b } else { a.code() == b.code() };
        if !same {
            twins.said = Some(format!("=== at: {line}\n--- ours\n{seen_a}--- reference\n{seen_b}"));
            break;
        }
    }
    twins
}

/// What is around the programs besides images: other programs, missing permissions.
#[derive(Default)]
struct Surroundings {
    holders: Vec<Holder>,
    /// The programs have run before.
    has_run: bool,
    /// Files that have lost permissions.
    restricted: Vec<PathBuf>,
}

impl Surroundings {
    /// Does what `command` asks for in `dirs`; false if it is for a program.
    fn prepare(&mut self, dirs: &[&Path], command: &str) -> bool {
        let Some((verb, words)) = command.split_once(' ') else { return false };
        match verb {
            "distrust" => dirs.iter().for_each(|dir| bitmaps::distrust(dir, words)),
            "io" => dirs.iter().for_each(|dir| change_with_qemu_io(dir, words)),
            "lock" => self.holders.extend(dirs.iter().map(|dir| hold_open(dir, words))),
            "protect" => dirs.iter().for_each(|dir| self.restrict(&dir.join(words), 0o444)),
            "hide" => dirs.iter().for_each(|dir| self.restrict(&dir.join(words), 0o000)),
            _ => return false,
        }
        true
    }

    fn restrict(&mut self, path: &Path, mode: u32) {
        set_mode(path, mode);
        self.restricted.push(path.to_owned());
    }

    fn run(&self, program: &Program, dir: &Path, line: &str) -> Run {
        // Root reads and writes everything, unless it gives up the capabilities to do so.
        const WRAPPER: &[&str] =
            &["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"];
        let invocation = program.invoke(dir).words(line);
        let is_root = nix::unistd::geteuid().is_root();
        if !self.restricted.is_empty() && is_root { invocation.through(WRAPPER).run() } else { invocation.run() }
    }
}

impl Drop for Surroundings {
    /// The files can be compared again.
    fn drop(&mut self) {
        self.restricted.iter().filter(|path| path.exists()).for_each(|path| set_mode(path, 0o644));
    }
}

/// Runs `COMMAND` of `FORMAT IMAGE COMMAND` on an image.
fn change_with_qemu_io(dir: &Path, words: &str) {
    let mut words = words.splitn(3, ' ');
    let (Some(format), Some(image), Some(command)) = (words.next(), words.next(), words.next()) else {
        panic!("io FORMAT IMAGE COMMAND");
    };
    qemu_io().invoke(dir).words(&format!("-f {format} {image}")).input(format!("{command}\n")).run().ok();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions can be changed");
}
