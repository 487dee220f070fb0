//! `cargo xtask stress-aarch64`: converts an image again and again with the binary for arm64, and says why it hangs if it
//! does. docs/stress.md explains what it shows and what it cannot.
//!
//! | module | idea |
//! |---|---|
//! | [`options`] | the command line |
//! | [`toolchain`], [`debian`] | a cross compiler, the emulator, a debugger |
//! | [`subject`] | the binary, and how it is run |
//! | [`disk`] | the image, and whether an output is right |
//! | [`plan`] | what an iteration does, by its seed |
//! | [`session`] | all iterations |
//! | [`watchdog`] | when a run counts as hanging |
//! | [`autopsy`] | the report on one that does, from [`gather`], [`stub`], [`syscalls`] and [`verdict`] |
//! | [`summary`] | what came out, as text and JSON |
//! | [`fences`], [`listing`] | `cargo xtask disassemble`: the fences are in the machine code |

mod autopsy;
mod debian;
mod disk;
mod fences;
mod gather;
mod listing;
mod options;
mod plan;
mod session;
mod stub;
mod subject;
mod summary;
mod syscalls;
#[cfg(test)]
mod tests;
mod toolchain;
mod verdict;
mod watchdog;

use std::fs;
use std::io;
use std::process::ExitCode;

use crate::process::{find, say};
use disk::Disk;
use options::Options;
use session::Session;
use subject::Subject;
use toolchain::Toolchain;

pub(crate) use fences::run as disassemble;

/// The short run that is part of `cargo xtask ci`.
const SHORT: &str = "--iterations 8 --content-mib 24 --disk-mib 96 --install --seed 1";

/// Runs the task.
///
/// # Errors
/// If the options are wrong, the toolchain is missing, or the image cannot be made.
pub(crate) fn run(args: &[String]) -> io::Result<ExitCode> {
    let Some(options) = Options::parse(args)? else {
        say(options::USAGE.trim_end());
        return Ok(ExitCode::SUCCESS);
    };
    let are_good = stress(&options)?;
    Ok(if are_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A few iterations, and the look at the machine code of the same binary; for every change.
///
/// A developer's machine may have no toolchain and no way to get one: that is said and passed over. A CI machine, which
/// sets `CI`, must have one.
///
/// # Errors
/// If something is wrong.
pub(crate) fn ci() -> io::Result<()> {
    let may_be_left_out = find("apt-get").is_none() && std::env::var_os("CI").is_none();
    if may_be_left_out && let Err(error) = Toolchain::get(None, false) {
        say(&format!("stress-aarch64 is left out: {error}"));
        return Ok(());
    }
    let args: Vec<String> = SHORT.split(' ').map(str::to_owned).collect();
    say(&format!("$ cargo xtask stress-aarch64 {SHORT}"));
    let options = Options::parse(&args)?.ok_or_else(|| io::Error::other("these are options"))?;
    if !stress(&options)? {
        return Err(io::Error::other("a conversion on arm64 went wrong"));
    }
    say("$ cargo xtask disassemble");
    fences::run(&[]).map(drop)
}

/// Runs all iterations; says whether all is well.
fn stress(options: &Options) -> io::Result<bool> {
    let dir = tempfile::Builder::new().prefix("qemu-img-stress").tempdir()?;
    let subject = Subject::prepare(options, dir.path())?;
    let disk = Disk::prepare(options, dir.path(), &subject)?;
    let session = Session::new(options, subject, disk, dir.path())?;
    let (results, times) = session.run()?;
    say(&results.text(&times, options.seed));
    if let Some(file) = &options.json {
        fs::write(file, format!("{:#}\n", results.json(&times, options)))?;
    }
    Ok(results.are_good())
}
