//! The command line of `cargo xtask stress-aarch64`.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use test_support::cloud::CloudSpec;

pub(super) const USAGE: &str = "\
usage: cargo xtask stress-aarch64 [options]

Converts a disk image again and again with the release binary for arm64, compares each output with the source, and
analyses a run that hangs.

  --iterations N     conversions (500)
  --jobs N           conversions at the same time (half as many as there are processors)
  --seed N           what everything random follows from (the time)
  --first N          number of the first iteration (0); with --seed and --iterations 1 it repeats a single one
  --image FILE       the qcow2 image to convert; one is made by default
  --content-mib N    about as many MiB of files on the image that is made (96)
  --disk-mib N       its virtual size in MiB (256)
  --native           for the processor that this runs on, without an emulator
  --features LIST    features of qemu-img to build with: mutants
  --mutant NAME      has the binary run with this defect, by QEMU_UTIL_MUTANT; implies --features mutants
  --pressure         pauses at the places that have mutants, by QEMU_UTIL_PRESSURE; implies --features mutants
  --binary FILE      this binary instead of one that is built
  --keep-going       goes on after a hang or a wrong output
  --json FILE        also writes the results to FILE
  --toolchain DIR    where the private cross toolchain is, or goes (target/aarch64-toolchain)
  --install          unpacks Debian's cross toolchain there if none is found

The exit status is 1 when a run hung, failed, or had a wrong output.
";

/// What to run, and how.
#[derive(Debug)]
pub(crate) struct Options {
    pub(super) iterations: u32,
    /// At least one.
    pub(super) jobs: usize,
    pub(super) seed: u64,
    pub(super) first: u32,
    pub(super) image: Option<PathBuf>,
    pub(super) spec: CloudSpec,
    pub(super) native: bool,
    pub(super) features: Vec<String>,
    pub(super) mutant: Option<String>,
    pub(super) pressure: bool,
    pub(super) binary: Option<PathBuf>,
    pub(super) keep_going: bool,
    pub(super) json: Option<PathBuf>,
    pub(super) toolchain: Option<PathBuf>,
    pub(super) install: bool,
}

impl Options {
    /// What holds without any option.
    pub(super) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self {
            iterations: 500,
            jobs: (processors / 2).max(1),
            seed: now.as_secs(),
            first: 0,
            image: None,
            spec: CloudSpec { content_mib: 96, disk_mib: 256 },
            native: false,
            features: Vec::new(),
            mutant: None,
            pressure: false,
            binary: None,
            keep_going: false,
            json: None,
            toolchain: None,
            install: false,
        }
    }

    /// The options in `args`; none when the user asks for help.
    ///
    /// # Errors
    /// If an option is unknown, or its value missing or wrong.
    pub(super) fn parse(args: &[String]) -> io::Result<Option<Self>> {
        let mut options = Self::new();
        let mut args = args.iter();
        while let Some(option) = args.next() {
            match option.as_str() {
                "--help" | "-h" => return Ok(None),
                "--native" => options.native = true,
                "--pressure" => options.pressure = true,
                "--keep-going" => options.keep_going = true,
                "--install" => options.install = true,
                _ => {
                    let value = args.next().ok_or_else(|| io::Error::other(format!("{option} needs a value")))?;
                    options.set(option, value)?;
                }
            }
        }
        if options.mutant.is_some() || options.pressure {
            options.features.push("mutants".to_owned());
        }
        options.features.sort();
        options.features.dedup();
        Ok(Some(options))
    }

    fn set(&mut self, option: &str, value: &str) -> io::Result<()> {
        let path = || std::path::absolute(value).map(Some);
        match option {
            "--iterations" => self.iterations = number(option, value, 1)?,
            "--jobs" => self.jobs = number(option, value, 1)?,
            "--seed" => self.seed = number(option, value, 0)?,
            "--first" => self.first = number(option, value, 0)?,
            "--image" => self.image = path()?,
            "--content-mib" => self.spec.content_mib = number(option, value, 1)?,
            "--disk-mib" => self.spec.disk_mib = number(option, value, 1)?,
            "--features" => self.features.extend(value.split([',', ' ']).map(str::to_owned)),
            "--mutant" => self.mutant = Some(value.to_owned()),
            "--binary" => self.binary = path()?,
            "--json" => self.json = path()?,
            "--toolchain" => self.toolchain = path()?,
            _ => return Err(io::Error::other(format!("unknown option {option}\n{USAGE}"))),
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr + PartialOrd>(option: &str, value: &str, min: T) -> io::Result<T> {
    match value.parse() {
        Ok(number) if number >= min => Ok(number),
        _ => Err(io::Error::other(format!("{option} takes a number in its range, not {value}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_and_wrong_ones_refused() {
        let parse = |line: &str| Options::parse(&test_support::words::split(line));
        let options = parse("--iterations 7 --mutant x --pressure --seed 0 --native").expect("right").expect("no help");
        assert_eq!((options.iterations, options.seed, options.native), (7, 0, true));
        assert_eq!(options.features, ["mutants"]);
        assert!(parse("--help").expect("right").is_none());
        for wrong in ["--iterations", "--iterations 0", "--jobs x", "--fast 1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
