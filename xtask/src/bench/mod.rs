//! `cargo xtask bench`: our release binary against the reference, alternately, on the same images in the same run.
//!
//! | module | idea |
//! |---|---|
//! | [`options`] | the command line |
//! | [`matrix`] | what is measured: images, targets, cache modes, start-up, random reads |
//! | [`meter`] | one run of one program: wall time, processor time, peak memory |
//! | [`report`] | medians and ratios, as a table and as JSON |
//!
//! Only ratios mean anything: the two programs take turns, so that a slow minute of the machine hits both.

mod matrix;
mod meter;
mod options;
mod report;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tempfile::TempDir;
use test_support::cloud::{self, CloudSpec, Makers};
use test_support::files::allocated_bytes;
use test_support::programs::Program;

use crate::process::{build_qemu_img, complain, find, say};
use matrix::{Case, Check};
use meter::Sample;
use options::Options;
use report::{Outcome, Pair, Row};

pub(crate) use meter::{MEASURE, measure};

/// How many times as many runs a cell gets whose runs are shorter than that: what is short is mostly noise.
const RUNS_FACTORS: [(Duration, usize); 2] = [(Duration::from_millis(100), 8), (Duration::from_secs(2), 2)];

/// The two programs that take turns.
struct Contest {
    /// Indexed as [`Pair`]: ours, the reference.
    programs: Pair<PathBuf>,
    images: PathBuf,
    runs: usize,
}

/// Runs the matrix and prints the table; fails when a cell is slower than it may be.
///
/// # Errors
/// If the options are wrong, or if the images cannot be made.
pub(crate) fn run(args: &[String]) -> io::Result<ExitCode> {
    let Some(options) = Options::parse(args)? else {
        say(options::USAGE.trim_end());
        return Ok(ExitCode::SUCCESS);
    };
    let reference = options.reference.clone().or_else(|| find("qemu-img"));
    let reference =
        reference.ok_or_else(|| io::Error::other("install the reference first: apt-get install qemu-utils"))?;
    let ours = match &options.binary {
        Some(binary) => binary.clone(),
        None => build_qemu_img("release")?,
    };
    let (images, _temporary) = images(&options, &reference)?;
    let contest = Contest { programs: Pair { ours, reference }, images, runs: options.runs };
    let cases = matrix::cases(options.quick, options.spec.disk_mib << 20);
    let wanted = cases.into_iter().filter(|case| options.filter.as_deref().is_none_or(|part| case.name.contains(part)));
    let wanted: Vec<Case> = wanted.collect();
    let width = report::name_width(wanted.iter().map(|case| case.name.as_str()));
    let mut rows = Vec::new();
    say(&report::heading(width));
    for case in wanted {
        let outcome = contest.play(&case).unwrap_or_else(|error| Outcome::Failed(error.to_string()));
        let row = Row { name: case.name, outcome };
        // The matrix takes a while, so each line is shown as soon as it is known.
        say(&report::line(&row, width));
        rows.push(row);
    }
    say(&report::summary(&rows));
    if let Some(file) = &options.json {
        fs::write(file, report::json(&rows, &options))?;
    }
    Ok(if rows.iter().all(Row::is_fast_enough) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The folder of the images, made if need be, and what removes it at the end unless the user wants to keep it.
fn images(options: &Options, reference: &Path) -> io::Result<(PathBuf, Option<TempDir>)> {
    let temporary = match &options.images {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("qemu-img-bench").tempdir()?),
    };
    let dir = options.images.clone().or_else(|| temporary.as_ref().map(|dir| dir.path().to_owned()));
    let dir = dir.ok_or_else(|| io::Error::other("no folder for the images"))?;
    let CloudSpec { content_mib, disk_mib } = options.spec;
    if cloud::IMAGES.iter().all(|image| dir.join(image).is_file()) {
        complain(&format!("bench: using the images in {}", dir.display()));
        return Ok((dir, temporary));
    }
    complain(&format!("bench: making images: {content_mib} MiB of files on a disk of {disk_mib} MiB"));
    let qemu_io = find("qemu-io").ok_or_else(|| io::Error::other("qemu-io is missing: apt-get install qemu-utils"))?;
    let (qemu_img, qemu_io) = (Program::at(reference), Program::at(qemu_io));
    cloud::make(&dir, options.spec, Makers { qemu_img: &qemu_img, qemu_io: &qemu_io })?;
    Ok((dir, temporary))
}

impl Contest {
    /// Lets both programs run one case in turn: once to warm up and to check the outputs, then for the clock.
    fn play(&self, case: &Case) -> io::Result<Outcome> {
        // The reference first: when it cannot do a case either, that is what the user should read.
        let (first, reference) = self.warm_up(case, &self.programs.reference)?;
        let (_, ours) = self.warm_up(case, &self.programs.ours)?;
        let sizes = Pair { ours, reference };
        let factor = RUNS_FACTORS.iter().find(|(shorter_than, _)| first.wall < *shorter_than).map_or(1, |(_, by)| *by);
        let mut samples = Pair { ours: Vec::new(), reference: Vec::new() };
        for round in 0..self.runs * factor {
            // The order changes, because each run leaves the machine's memory in some state for the next one.
            if round % 2 == 0 {
                samples.ours.push(self.clock(case, &self.programs.ours)?);
                samples.reference.push(self.clock(case, &self.programs.reference)?);
            } else {
                samples.reference.push(self.clock(case, &self.programs.reference)?);
                samples.ours.push(self.clock(case, &self.programs.ours)?);
            }
        }
        self.remove_target(case)?;
        Ok(Outcome::Measured { samples, sizes })
    }

    /// One run that is not measured; its output is compared with the source. Returns also the bytes that it occupies.
    fn warm_up(&self, case: &Case, program: &Path) -> io::Result<(Sample, u64)> {
        let sample = self.clock(case, program)?;
        let Check::SameAs(source) = case.check else { return Ok((sample, 0)) };
        let format = if source.ends_with(".raw") { "raw" } else { "qcow2" };
        let line = format!("compare -f {format} -F {} {source} {}", case.target_format, matrix::TARGET);
        let compare = Program::at(&self.programs.reference).run(&self.images, &line);
        if compare.code() != Some(0) {
            return Err(io::Error::other(format!("wrong output: {}", compare.stdout.trim_end())));
        }
        Ok((sample, allocated_bytes(&self.images.join(matrix::TARGET))?))
    }

    fn clock(&self, case: &Case, program: &Path) -> io::Result<Sample> {
        self.remove_target(case)?;
        meter::run(program, &case.args, &self.images)
    }

    /// Gives every run an empty place, and the disk nothing left to do.
    fn remove_target(&self, case: &Case) -> io::Result<()> {
        if case.check == Check::Nothing {
            return Ok(());
        }
        match fs::remove_file(self.images.join(matrix::TARGET)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                nix::unistd::sync();
                Ok(())
            }
        }
    }
}
