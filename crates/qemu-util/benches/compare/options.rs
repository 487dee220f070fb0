//! What the command line says.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// How to measure, and what.
pub(crate) struct Options {
    /// How long one contender runs in one round.
    pub(crate) sample: Duration,
    pub(crate) rounds: usize,
    pub(crate) json: Option<PathBuf>,
    /// Only say which cases there are.
    pub(crate) list: bool,
    /// Only the cases whose names contain one of these; all when there is none.
    filters: Vec<String>,
}

impl Options {
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter.as_str()))
    }
}

/// The options; none when cargo only wants to know whether the benchmark starts.
///
/// # Errors
/// For an option that does not exist or lacks its value.
pub(crate) fn parse(args: impl Iterator<Item = String>) -> io::Result<Option<Options>> {
    let mut options =
        Options { sample: Duration::from_millis(10), rounds: 25, json: None, list: false, filters: Vec::new() };
    let mut args = args;
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| wrong(format!("{arg} needs a value")));
        match arg.as_str() {
            // What `cargo bench` and `cargo test` add.
            "--bench" => {}
            "--test" => return Ok(None),
            "--sample-ms" => options.sample = Duration::from_millis(number(&value()?)?.max(1)),
            "--rounds" => options.rounds = usize::try_from(number(&value()?)?.max(1)).unwrap_or(usize::MAX),
            "--json" => options.json = Some(value()?.into()),
            "--list" => options.list = true,
            filter if !filter.starts_with('-') => options.filters.push(filter.to_owned()),
            unknown => return Err(wrong(format!("unknown option {unknown}"))),
        }
    }
    Ok(Some(options))
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(|_| wrong(format!("'{text}' is not a number")))
}

fn wrong(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
