//! One run of one program: wall time, processor time, peak memory.
//!
//! The kernel tells what a process used only to the parent that waits for it, and its peak memory only as the maximum
//! over all children. So every run gets a parent of its own: this very program, with [`MEASURE`] as its task, which has
//! no other child.

use std::env;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

/// The task that runs a command, whose words follow, and prints what it used.
pub(crate) const MEASURE: &str = "measure-one-run";

/// What one run used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// From start to end.
    pub(super) wall: Duration,
    /// In user and kernel mode, all threads together.
    pub(super) cpu: Duration,
    /// Largest resident set, in KiB.
    pub(super) peak_kib: u64,
}

/// Runs `program` in `dir` and says what it used.
///
/// # Errors
/// If it cannot be run or fails; the message is its own.
pub(super) fn run(program: &Path, args: &[String], dir: &Path) -> io::Result<Sample> {
    let mut meter = Command::new(env::current_exe()?);
    let output = meter.arg(MEASURE).arg(program).args(args).current_dir(dir).output()?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(message.lines().next().unwrap_or("failed without a message").to_owned()));
    }
    let values: Value = serde_json::from_slice(&output.stdout)?;
    let number = |key: &str| values[key].as_u64().ok_or_else(|| io::Error::other(format!("no {key} measured")));
    Ok(Sample {
        wall: Duration::from_nanos(number("wall-ns")?),
        cpu: Duration::from_micros(number("cpu-us")?),
        peak_kib: number("peak-kib")?,
    })
}

/// The task [`MEASURE`].
///
/// # Errors
/// If the command cannot be run.
pub(crate) fn measure(command: &[String]) -> io::Result<ExitCode> {
    let (program, args) = command.split_first().ok_or_else(|| io::Error::other("no command to measure"))?;
    let started = Instant::now();
    let status = Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    let wall = started.elapsed();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    let cpu_us = micros(usage.user_time()) + micros(usage.system_time());
    let wall_ns = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
    let values = json!({ "wall-ns": wall_ns, "cpu-us": cpu_us, "peak-kib": usage.max_rss() });
    writeln!(io::stdout(), "{values}")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
