//! The command line of `cargo xtask bench`.

use std::io;
use std::path::PathBuf;

use test_support::cloud::CloudSpec;

pub(super) const USAGE: &str = "\
usage: cargo xtask bench [options]

  --quick              a small disk, few cells and three runs: to see that it works
  --content-mib N      about as many MiB of files on the disk (1024)
  --disk-mib N         virtual size of the disk in MiB (4096)
  --runs N             measured runs of each program in each cell (5)
  --filter TEXT        only cells whose name contains TEXT
  --json FILE          also write all samples to FILE
  --images DIR         use the images in DIR; make them there if they are missing
  --reference PATH     the reference qemu-img (from PATH)
  --binary PATH        our qemu-img (built from this workspace)

The exit status is 1 when a cell failed or was slower than 0.95 times the reference.
";

/// What to measure, and with what.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) quick: bool,
    pub(super) spec: CloudSpec,
    /// At least one.
    pub(super) runs: usize,
    pub(super) filter: Option<String>,
    pub(super) json: Option<PathBuf>,
    pub(super) images: Option<PathBuf>,
    pub(super) reference: Option<PathBuf>,
    pub(super) binary: Option<PathBuf>,
}

impl Options {
    /// The options in `args`; none when the user asks for help.
    ///
    /// # Errors
    /// If an option is unknown, or its value missing or wrong.
    pub(super) fn parse(args: &[String]) -> io::Result<Option<Self>> {
        let quick = args.iter().any(|arg| arg == "--quick");
        let (content_mib, disk_mib, runs) = if quick { (64, 256, 3) } else { (1024, 4096, 5) };
        let spec = CloudSpec { content_mib, disk_mib };
        let mut options =
            Self { quick, spec, runs, filter: None, json: None, images: None, reference: None, binary: None };
        let mut args = args.iter();
        while let Some(option) = args.next() {
            if option == "--help" {
                return Ok(None);
            }
            if option != "--quick" {
                let value = args.next().ok_or_else(|| io::Error::other(format!("{option} needs a value")))?;
                options.set(option, value)?;
            }
        }
        Ok(Some(options))
    }

    fn set(&mut self, option: &str, value: &str) -> io::Result<()> {
        // The programs run in the folder of the images, so relative names must not depend on it.
        let path = || std::path::absolute(value).map(Some);
        match option {
            "--content-mib" => self.spec.content_mib = number(option, value)?,
            "--disk-mib" => self.spec.disk_mib = number(option, value)?,
            "--runs" => self.runs = usize::try_from(number(option, value)?).map_err(io::Error::other)?,
            "--filter" => self.filter = Some(value.to_owned()),
            "--json" => self.json = path()?,
            "--images" => self.images = path()?,
            "--reference" => self.reference = path()?,
            "--binary" => self.binary = path()?,
            _ => return Err(io::Error::other(format!("unknown option {option}\n{USAGE}"))),
        }
        Ok(())
    }
}

fn number(option: &str, value: &str) -> io::Result<u64> {
    match value.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(io::Error::other(format!("{option} takes a positive number, not {value}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_and_wrong_ones_refused() {
        let parse = |line: &str| Options::parse(&test_support::words::split(line));
        let options = parse("--quick --runs 7 --filter zlib").expect("right").expect("no help");
        assert_eq!((options.runs, options.spec.disk_mib, options.filter.as_deref()), (7, 256, Some("zlib")));
        assert!(parse("--help").expect("right").is_none());
        for wrong in ["--runs", "--runs 0", "--runs x", "--fast 1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
