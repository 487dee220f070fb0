//! The arguments of `bench`.

use super::COMMAND;
use super::load::Mode;
use crate::cli::common::{one_filename, parse_cache};
use crate::cli::getopt::{Flag, Parser};
use crate::cli::manual::{OptionDoc, docs};
use crate::cli::number::{COUNT_MAX, SIZE_MAX, parse_count, parse_number};
use crate::cli::shared::{Shared, SharedArgs};
use crate::failure::Failure;

/// Bytes that the buffers of all requests in flight may take. More is a mistyped number.
const BUFFERS_LEN_MAX: u64 = 16 << 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    Cache,
    Count,
    Depth,
    Offset,
    BufferSize,
    StepSize,
    Aio,
    Native,
    Write,
    Pattern,
    FlushInterval,
    NoDrain,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::shared(Shared::Help),
    Flag::shared(Shared::Format),
    Flag::shared(Shared::ImageOpts),
    Flag::value(Id::Cache, Some('t'), &["cache"])
        .named("CACHE")
        .doc("none, writeback (the default), writethrough, directsync or unsafe"),
    Flag::value(Id::Count, Some('c'), &["count"]).named("COUNT").doc("how many requests (default: 75000)"),
    Flag::value(Id::Depth, Some('d'), &["depth"]).named("DEPTH").doc("how many of them at a time (default: 64)"),
    Flag::value(Id::Offset, Some('o'), &["offset"]).named("OFFSET").doc("where the first one starts (default: 0)"),
    Flag::value(Id::BufferSize, Some('s'), &["buffer-size"]).named("SIZE").doc("how long each one is (default: 4K)"),
    Flag::value(Id::StepSize, Some('S'), &["step-size"])
        .named("STEP")
        .doc("from the start of one to that of the next, wrapping around at the end (default: SIZE)"),
    Flag::value(Id::Aio, Some('i'), &["aio"])
        .named("AIO")
        .doc("'threads', 'native' or 'io_uring'; it makes no difference"),
    Flag::switch(Id::Native, Some('n'), &["native"]).doc("the same as '-i native'"),
    Flag::switch(Id::Write, Some('w'), &["write"]).doc("write instead of reading"),
    Flag::value(Id::Pattern, None, &["pattern"]).named("BYTE").doc("write this byte (default: 0)"),
    Flag::value(Id::FlushInterval, None, &["flush-interval"]).named("N").doc("flush after every N writes"),
    Flag::switch(Id::NoDrain, None, &["no-drain"]).doc("do not wait for other writes before a flush"),
    Flag::shared(Shared::ForceShare),
    Flag::shared(Shared::Quiet).written_out(),
];

/// What help texts say of them.
pub(super) fn option_docs() -> Vec<OptionDoc> {
    docs(FLAGS)
}

/// What to measure.
#[derive(Clone, Debug)]
pub(super) struct Arguments {
    /// The image and how to open it.
    pub(super) shared: SharedArgs,
    /// What requests do.
    pub(super) mode: Mode,
    /// How many requests; at least one.
    pub(super) count: u64,
    /// How many of them at a time; at least one.
    pub(super) depth: u64,
    /// Their length in bytes; at least one.
    pub(super) buffer_len: u64,
    /// Offset of the first, in bytes.
    pub(super) offset: u64,
    /// Bytes from one offset to the next.
    pub(super) step: u64,
    /// Flush after that many writes.
    pub(super) flush_interval: Option<u64>,
    /// Wait for the writes in flight before a flush.
    pub(super) drain: bool,
    /// `-n`: the kernel's own asynchronous requests are wanted.
    pub(super) native: bool,
}

/// The arguments; none when the user asks for help.
pub(super) fn parse(words: Vec<String>) -> Result<Option<Arguments>, Failure> {
    let mut parser = Parser::new(COMMAND.name, FLAGS, words);
    let mut arguments = Arguments {
        shared: SharedArgs::default(),
        mode: Mode::Read,
        count: 75_000,
        depth: 64,
        buffer_len: 4096,
        offset: 0,
        step: 0,
        flush_interval: None,
        drain: true,
        native: false,
    };
    let (mut write, mut pattern, mut cache) = (false, 0, None);
    while let Some(given) = parser.next()? {
        let count = |what: &str, min, max| parse_count(what, &given.value, min..=max);
        let size = |what: &str, min, max| parse_number(what, &given.value, min..=max);
        match given.id {
            Id::Cache => cache = Some(parse_cache(&given.value, |_| "Invalid cache mode".to_owned())?),
            Id::Count => arguments.count = count("request count", 1, COUNT_MAX)?,
            Id::Depth => arguments.depth = count("queue depth", 1, COUNT_MAX)?,
            Id::Offset => arguments.offset = size("offset", 0, SIZE_MAX)?,
            Id::BufferSize => arguments.buffer_len = size("buffer size", 1, COUNT_MAX)?,
            Id::StepSize => arguments.step = size("step size", 0, COUNT_MAX)?,
            Id::Aio => arguments.native |= is_native(&given.value)?,
            Id::Native => arguments.native = true,
            Id::Write => write = true,
            Id::Pattern => pattern = count("pattern byte", 0, u8::MAX.into())?,
            Id::FlushInterval => arguments.flush_interval = Some(count("flush interval", 0, COUNT_MAX)?),
            Id::NoDrain => arguments.drain = false,
        }
    }
    // The reference prints its three lines with -q, too, and they are all there is.
    let Some((shared, operands)) = parser.finish() else { return Ok(None) };
    arguments.shared = shared;
    arguments.shared.image.cache = cache;
    if write {
        arguments.mode = Mode::Write { pattern: u8::try_from(pattern).expect("the range was checked") };
    }
    arguments.shared.image.name = one_filename(COMMAND.name, operands)?;
    check(arguments).map(Some)
}

/// Checks what depends on several arguments, and fills in what follows from others.
fn check(mut arguments: Arguments) -> Result<Arguments, Failure> {
    arguments.flush_interval = arguments.flush_interval.filter(|interval| *interval > 0);
    match arguments.flush_interval {
        Some(_) if arguments.mode == Mode::Read => {
            return Err(Failure::new("--flush-interval is only available in write tests"));
        }
        Some(interval) if interval < arguments.depth => {
            return Err(Failure::new("Flush interval can't be smaller than depth"));
        }
        _ => {}
    }
    arguments.shared.image.check_exclusive("--format")?;
    if arguments.step == 0 {
        arguments.step = arguments.buffer_len;
    }
    if arguments.depth.min(arguments.count) * arguments.buffer_len > BUFFERS_LEN_MAX {
        let Arguments { depth, buffer_len, .. } = arguments;
        let problem = format!("{depth} requests of {buffer_len} bytes at a time need too much memory");
        return Err(Failure::new(problem));
    }
    Ok(arguments)
}

/// Whether the reference would have the kernel do the requests, which it does for files opened without the page cache
/// only. Requests reach the system through threads in any case.
///
/// # Errors
/// There is no such way.
fn is_native(name: &str) -> Result<bool, Failure> {
    match name {
        "threads" | "io_uring" => Ok(false),
        "native" => Ok(true),
        _ => Err(Failure::new(format!("Invalid aio option: {name}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Option<Arguments>, Failure> {
        parse(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[track_caller]
    fn refuse(words: &[&str], text: &str) {
        let complaint = parse_words(words).expect_err("accepted").into_text();
        assert_eq!(complaint, format!("qemu-img: {text}"));
    }

    #[test]
    fn defaults_are_the_references() {
        let arguments = parse_words(&["x"]).expect("valid").expect("no help");
        assert_eq!((arguments.count, arguments.depth, arguments.buffer_len, arguments.step), (75_000, 64, 4096, 4096));
        assert_eq!((arguments.mode, arguments.flush_interval), (Mode::Read, None));
    }

    #[test]
    fn values_are_checked() {
        refuse(&["-c", "0", "x"], "Invalid request count specified. Must be between 1 and 2147483647.");
        refuse(&["-d", "x", "x"], "Invalid queue depth specified: 'x'.");
        refuse(&["--pattern", "256", "x"], "Invalid pattern byte specified. Must be between 0 and 255.");
        refuse(&["-t", "foo", "x"], "Invalid cache mode");
        refuse(&["-i", "foo", "x"], "Invalid aio option: foo");
        assert!(
            parse_words(&["-n", "-i", "threads", "x"]).expect("accepted").is_some_and(|arguments| arguments.native)
        );
        refuse(&["--flush-interval", "100", "x"], "--flush-interval is only available in write tests");
        refuse(&["--flush-interval", "10", "-w", "x"], "Flush interval can't be smaller than depth");
        refuse(&["-s", "2147483647", "x"], "64 requests of 2147483647 bytes at a time need too much memory");
    }

    #[test]
    fn a_write_test_has_a_pattern() {
        let arguments = parse_words(&["-w", "--pattern=0x10", "--flush-interval=0", "x"]).expect("valid");
        let arguments = arguments.expect("no help");
        assert_eq!((arguments.mode, arguments.flush_interval), (Mode::Write { pattern: 16 }, None));
    }
}
