//! The arguments of `convert`: from words to a checked description of what to do.

use qemu_block::types::CacheMode;
use qemu_util::units::MIB;

use super::bitmaps::BitmapRule;
use super::checksum::Algorithm;
use super::source::SECTOR;
use crate::cli::common::{OptionList, OutputFormat, parse_cache};
use crate::cli::getopt::{Flag, Given, Parser};
use crate::cli::manual::{OptionDoc, docs};
use crate::cli::number::{SIZE_MAX, parse_number};
use crate::cli::object::Objects;
use crate::cli::shared::{Shared, SharedArgs};
use crate::cli::snapshot::SnapshotArg;
use crate::failure::{Code, Failure};

/// The largest `-S`, in bytes. QEMU: `MAX_BUF_SECTORS` (qemu-img.c)
const SPARSE_SIZE_MAX: u64 = 16 * MIB;
/// Zeros shorter than this are copied like data unless `-S` says otherwise, in bytes.
const SPARSE_SIZE_DEFAULT: u64 = 4096;
/// The largest `-m`. QEMU: `MAX_COROUTINES` (qemu-img.c)
const TASKS_MAX: u64 = 16;
const TASKS_DEFAULT: usize = 8;

/// The largest `--compression-level`, of all codecs.
const LEVEL_MAX: u64 = 22;

/// What the words of a command line ask for.
#[derive(Debug)]
pub(super) enum Request {
    /// `--help`.
    Help,
    /// `-o help`.
    OptionHelp {
        /// The target's format.
        format: String,
        /// The target, if it was named.
        filename: Option<String>,
    },
    /// A conversion.
    Convert(Box<Arguments>),
}

/// A conversion as it was asked for.
#[derive(Debug)]
pub(super) struct Arguments {
    /// Names, or option strings, of the sources; at least one.
    pub(super) sources: Vec<String>,
    /// The snapshot to read instead of a source's present state.
    pub(super) snapshot: SnapshotArg,
    /// How to open them.
    pub(super) source: SourceArguments,
    /// Name, or option string, of the target.
    pub(super) target: String,
    /// How to make and open it.
    pub(super) output: TargetArguments,
    /// Zeros shorter than this many bytes are copied like data; 0 copies all of them.
    pub(super) sparse_size: u64,
    /// How many tasks copy.
    pub(super) tasks: usize,
    /// Bytes written per second at most; 0: as many as there are.
    pub(super) rate: u64,
    /// Whether writes are in the order of offsets.
    pub(super) in_order: bool,
    /// Whether to try copying inside the kernel.
    pub(super) copy_range: bool,
    /// Whether what cannot be read becomes zeros.
    pub(super) salvage: bool,
    /// What to do with the bitmaps of the source.
    pub(super) bitmaps: BitmapRule,
    /// Whether to show progress.
    pub(super) progress: bool,
    /// Whether to print nothing but errors.
    pub(super) quiet: bool,
    /// The digest to make of what is copied.
    pub(super) checksum: Option<Algorithm>,
    /// How to print it.
    pub(super) report: OutputFormat,
    /// What options refer to by name.
    pub(super) objects: Objects,
}

/// The operand that stands for a standard stream.
const STREAM: &str = "-";

impl Arguments {
    /// Whether the source is standard input.
    pub(super) fn reads_stdin(&self) -> bool {
        !self.source.image_opts && self.sources.iter().any(|name| name == STREAM)
    }

    /// Whether the target is standard output.
    pub(super) fn writes_stdout(&self) -> bool {
        !self.output.image_opts && self.target == STREAM
    }

    /// The name of the target, unless it is a stream.
    pub(super) fn target_name(&self) -> Option<&str> {
        (!self.writes_stdout()).then_some(self.target.as_str())
    }

    /// What streams cannot do.
    fn check_streams(&self) -> Result<(), Failure> {
        let (from_stdin, to_stdout) = (self.reads_stdin(), self.writes_stdout());
        let output = &self.output;
        let to_qcow2 = output.format.as_deref() == Some("qcow2");
        let has_backing = output.backing.is_some() || output.backing_format.is_some();
        let mistakes = [
            (from_stdin && self.sources.len() > 1, "Standard input ('-') cannot be joined with other images"),
            (
                from_stdin && self.source.format.as_deref().is_some_and(|format| format != "raw"),
                "Standard input ('-') can only be read as raw data",
            ),
            (from_stdin && self.snapshot.is_given(), "Standard input ('-') has no snapshots"),
            (from_stdin && self.bitmaps != BitmapRule::Leave, "Standard input ('-') has no bitmaps"),
            (from_stdin && has_backing, "The target cannot have a backing file when standard input ('-') is read"),
            (from_stdin && self.salvage, "Standard input ('-') cannot be salvaged, because it is read only once"),
            ((from_stdin || to_stdout) && self.copy_range, "Copy offloading needs files, not '-'"),
            (
                to_stdout && !to_qcow2 && output.format.as_deref() != Some("raw"),
                "Only raw and qcow2 images can be written to standard output ('-')",
            ),
            (to_stdout && to_qcow2 && from_stdin, "A qcow2 image for '-' needs a source that can be read twice"),
            (to_stdout && !output.create, "-n has no meaning for standard output ('-')"),
            (to_stdout && output.atomic, "--atomic has no meaning for standard output ('-')"),
            (
                to_stdout && output.compress,
                "Standard output ('-') cannot be compressed: what comes first depends on it",
            ),
            (to_stdout && self.bitmaps != BitmapRule::Leave, "Bitmaps cannot be written to standard output ('-')"),
            (to_stdout && !self.in_order, "Standard output ('-') cannot be written out of order"),
        ];
        refuse(&mistakes)
    }
}

/// How to open the sources.
#[derive(Debug)]
pub(super) struct SourceArguments {
    /// Their format; probed if not given.
    pub(super) format: Option<String>,
    /// Whether they are option strings.
    pub(super) image_opts: bool,
    /// Their cache mode.
    pub(super) cache: CacheMode,
    /// Whether they are opened although others write to them.
    pub(super) force_share: bool,
}

/// How to make and open the target.
#[derive(Debug)]
pub(super) struct TargetArguments {
    /// Its format; none only where its option string says.
    pub(super) format: Option<String>,
    /// Whether it is an option string.
    pub(super) image_opts: bool,
    /// Its cache mode.
    pub(super) cache: CacheMode,
    /// Whether to create it.
    pub(super) create: bool,
    /// Whether it reads as zeros already.
    pub(super) is_zero: bool,
    /// The values of `-o`.
    pub(super) options: OptionList,
    /// Its backing file.
    pub(super) backing: Option<String>,
    /// The format of its backing file.
    pub(super) backing_format: Option<String>,
    /// Whether to compress.
    pub(super) compress: bool,
    /// How hard to compress, if not as the codec does by itself.
    pub(super) compression_level: Option<u64>,
    /// Whether it appears under its name only when it is complete.
    pub(super) atomic: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    SourceFormat,
    SourceImageOpts,
    SourceCache,
    Snapshot,
    Bitmaps,
    SkipBrokenBitmaps,
    Salvage,
    TargetFormat,
    TargetImageOpts,
    TargetOptions,
    TargetCache,
    Backing,
    BackingFormat,
    SparseSize,
    NoCreate,
    TargetIsZero,
    Compress,
    Rate,
    Tasks,
    OutOfOrder,
    CopyRange,
    Checksum,
    CompressionLevel,
    Atomic,
}

/// Long names: first those that the reference's 10.0 takes, then what its help text and newer versions say.
const FLAGS: &[Flag<Id>] = &[
    Flag::shared(Shared::Help),
    Flag::shared(Shared::Quiet),
    Flag::shared(Shared::Object),
    Flag::switch(Id::SourceImageOpts, None, &["image-opts", "source-image-opts"])
        .doc("SOURCE is a list of options, not a name"),
    Flag::value(Id::SourceFormat, Some('f'), &["source-format"])
        .named("FMT")
        .doc("the format of the sources (found out if absent)"),
    Flag::value(Id::SourceCache, Some('T'), &["source-cache"])
        .named("CACHE")
        .doc("how the sources are cached (writeback)"),
    Flag::value(Id::Snapshot, Some('l'), &["snapshot"])
        .also(&["source-snapshot"])
        .named("SNAPSHOT")
        .doc("read this internal snapshot of the source: a name or number, or snapshot.id=ID,snapshot.name=NAME"),
    Flag::value(Id::SparseSize, Some('S'), &["sparse-size"])
        .named("SIZE")
        .doc("leave out runs of zeros of at least SIZE bytes (4k); 0 writes everything"),
    Flag::value(Id::TargetFormat, Some('O'), &["output-format"])
        .also(&["target-format"])
        .named("FMT")
        .doc("the format of the target (raw)"),
    Flag::value(Id::TargetOptions, Some('o'), &["options"])
        .also(&["target-options", "target-format-options"])
        .named("OPTIONS")
        .doc("options of the target's format; 'help' lists them"),
    Flag::value(Id::TargetCache, Some('t'), &["output-cache"])
        .also(&["target-cache"])
        .named("CACHE")
        .doc("how the target is cached (unsafe)"),
    Flag::value(Id::Backing, Some('B'), &["backing"]).named("BACKING").doc("make the target an overlay of this image"),
    Flag::value(Id::Backing, Some('b'), &[]).named("BACKING").doc("another name of -B"),
    Flag::value(Id::BackingFormat, Some('F'), &["backing-format"]).named("FMT").doc("the format of that image"),
    Flag::shared(Shared::ForceShare),
    Flag::switch(Id::TargetImageOpts, None, &["target-image-opts"])
        .doc("TARGET is a list of options, not a name; needs -n"),
    Flag::switch(Id::Salvage, None, &["salvage"]).doc("take what cannot be read for zeros"),
    Flag::switch(Id::TargetIsZero, None, &["target-is-zero"]).doc("and it reads as zeros; needs -n"),
    Flag::switch(Id::Bitmaps, None, &["bitmaps"]).doc("copy the persistent bitmaps of the source"),
    Flag::switch(Id::SkipBrokenBitmaps, None, &["skip-broken-bitmaps"])
        .doc("leave out those that cannot be relied on; needs --bitmaps"),
    Flag::value(Id::Rate, Some('r'), &["rate"])
        .also(&["rate-limit"])
        .named("RATE")
        .doc("write at most so many bytes per second"),
    Flag::value(Id::Tasks, Some('m'), &["parallel"])
        .named("TASKS")
        .doc("how many tasks copy at the same time, 1 to 16 (8)"),
    Flag::switch(Id::OutOfOrder, Some('W'), &["oob-writes"]).doc("write in any order"),
    Flag::switch(Id::CopyRange, Some('C'), &["copy-range-offloading"]).doc("let the kernel copy where it can"),
    Flag::switch(Id::NoCreate, Some('n'), &[]).also(&["no-create"]).doc("the target exists already"),
    Flag::switch(Id::Compress, Some('c'), &[]).also(&["compress"]).doc("compress the data"),
    Flag::value(Id::CompressionLevel, None, &["compression-level"])
        .written_out()
        .named("N")
        .doc("how hard to compress: 1 to 12 for zlib, 1 to 22 for zstd; needs -c"),
    Flag::value(Id::Checksum, None, &["checksum"])
        .written_out()
        .named("ALGORITHM")
        .doc("print a digest of what the guest sees, made while it is copied: sha256 or blake3"),
    Flag::switch(Id::Atomic, None, &["atomic"])
        .written_out()
        .doc("let the target appear, or take the place of one that exists, only when it is complete and on the disk"),
    Flag::shared(Shared::Output).written_out().doc("print the digest as text (human, the default) or JSON (json)"),
    Flag::shared(Shared::Progress).written_out(),
];

/// What help texts say of them.
pub(super) fn option_docs() -> Vec<OptionDoc> {
    docs(FLAGS)
}

/// The values of all options, before they are looked at together.
#[derive(Debug, Default)]
struct Raw {
    source_format: Option<String>,
    source_image_opts: bool,
    source_cache: Option<String>,
    target_format: Option<String>,
    target_image_opts: bool,
    target_cache: Option<String>,
    target_options: OptionList,
    no_create: bool,
    target_is_zero: bool,
    backing: Option<String>,
    backing_format: Option<String>,
    compress: bool,
    sparse_size: Option<u64>,
    tasks: Option<u64>,
    out_of_order: bool,
    copy_range: bool,
    salvage: bool,
    bitmaps: bool,
    skip_broken_bitmaps: bool,
    snapshot: SnapshotArg,
    checksum: Option<Algorithm>,
    compression_level: Option<u64>,
    atomic: bool,
    rate: u64,
}

impl Request {
    /// Reads the words after `convert`.
    ///
    /// # Errors
    /// The reference's complaints, in its order.
    pub(super) fn parse(words: Vec<String>) -> Result<Self, Failure> {
        let mut parser = Parser::new("convert", FLAGS, words);
        let mut raw = Raw::default();
        while let Some(given) = parser.next()? {
            raw.take(given)?;
        }
        let Some((shared, operands)) = parser.finish() else { return Ok(Self::Help) };
        raw.check()?;
        raw.finish(shared, operands)
    }
}

impl Raw {
    fn take(&mut self, given: Given<Id>) -> Result<(), Failure> {
        let value = given.value;
        match given.id {
            Id::SourceFormat => self.source_format = Some(value),
            Id::SourceImageOpts => self.source_image_opts = true,
            Id::SourceCache => self.source_cache = Some(value),
            Id::Snapshot => self.snapshot.add(&value)?,
            Id::Bitmaps => self.bitmaps = true,
            Id::SkipBrokenBitmaps => self.skip_broken_bitmaps = true,
            Id::Salvage => self.salvage = true,
            Id::TargetFormat => self.target_format = Some(value),
            Id::TargetImageOpts => self.target_image_opts = true,
            Id::TargetOptions => self.target_options.add(&value)?,
            Id::TargetCache => self.target_cache = Some(value),
            Id::Backing => self.backing = Some(value),
            Id::BackingFormat => self.backing_format = Some(value),
            Id::SparseSize => self.sparse_size = Some(parse_sparse_size(&value)?),
            Id::NoCreate => self.no_create = true,
            Id::TargetIsZero => self.target_is_zero = true,
            Id::Compress => self.compress = true,
            Id::Rate => self.rate = parse_number("rate limit", &value, 0..=SIZE_MAX)?,
            Id::Tasks => self.tasks = Some(parse_tasks(&value)?),
            Id::OutOfOrder => self.out_of_order = true,
            Id::CopyRange => self.copy_range = true,
            Id::Checksum => self.checksum = Some(parse_checksum(&value)?),
            Id::CompressionLevel => {
                self.compression_level = Some(parse_number("compression level", &value, 1..=LEVEL_MAX)?);
            }
            Id::Atomic => self.atomic = true,
        }
        Ok(())
    }

    /// What does not go together, whatever the operands are.
    fn check(&self) -> Result<(), Failure> {
        let mistakes = [
            (self.skip_broken_bitmaps && !self.bitmaps, "Use of --skip-broken-bitmaps requires --bitmaps"),
            (self.compress && self.copy_range, "Cannot enable copy offloading when -c is used"),
            (self.sparse_size.is_some() && self.copy_range, "Cannot enable copy offloading when -S is used"),
            (self.copy_range && self.salvage, "Cannot use copy offloading in salvaging mode"),
            (self.target_image_opts && !self.no_create, "--target-image-opts requires use of -n flag"),
            (self.no_create && self.target_options.text().is_some(), "-o has no effect when skipping image creation"),
            (self.target_is_zero && !self.no_create, "--target-is-zero requires use of -n flag"),
            (self.compression_level.is_some() && !self.compress, "--compression-level requires use of -c flag"),
            (self.atomic && self.no_create, "--atomic creates the target and cannot be used with -n"),
            (self.checksum.is_some() && self.copy_range, "Cannot use copy offloading with --checksum"),
        ];
        refuse(&mistakes)
    }

    fn finish(mut self, shared: SharedArgs, mut operands: Vec<String>) -> Result<Request, Failure> {
        let target = if operands.len() > 1 { operands.pop() } else { None };
        if self.target_options.asks_for_help() {
            let format = self.target_format.unwrap_or_else(|| "raw".to_owned());
            return Ok(Request::OptionHelp { format, filename: target });
        }
        let Some(target) = target else { return Err(Failure::new("Must specify image file name")) };
        let source_cache = self.source_cache.as_deref().unwrap_or("writeback");
        let source_cache = parse_cache(source_cache, |name| format!("Invalid source cache option: {name}"))?;
        let target_cache = self.target_cache.as_deref().unwrap_or("unsafe");
        let target_cache = parse_cache(target_cache, |name| format!("Invalid cache option: {name}"))?;
        self.check_images()?;
        let tasks = self.tasks.and_then(|tasks| usize::try_from(tasks).ok()).unwrap_or(TASKS_DEFAULT);
        let arguments = Arguments {
            sources: operands,
            snapshot: self.snapshot,
            source: SourceArguments {
                format: self.source_format,
                image_opts: self.source_image_opts,
                cache: source_cache,
                force_share: shared.image.force_share,
            },
            target,
            output: TargetArguments {
                format: self.target_format,
                image_opts: self.target_image_opts,
                cache: target_cache,
                create: !self.no_create,
                is_zero: self.target_is_zero,
                options: self.target_options,
                backing: self.backing,
                backing_format: self.backing_format,
                compress: self.compress,
                compression_level: self.compression_level,
                atomic: self.atomic,
            },
            sparse_size: self.sparse_size.unwrap_or(SPARSE_SIZE_DEFAULT),
            tasks,
            rate: self.rate,
            in_order: !self.out_of_order,
            copy_range: self.copy_range,
            salvage: self.salvage,
            bitmaps: match (self.bitmaps, self.skip_broken_bitmaps) {
                (false, _) => BitmapRule::Leave,
                (true, false) => BitmapRule::CopyAll,
                (true, true) => BitmapRule::CopySound,
            },
            progress: shared.progress && !shared.quiet,
            quiet: shared.quiet,
            checksum: self.checksum,
            report: shared.output,
            objects: shared.objects,
        };
        arguments.check_streams()?;
        Ok(Request::Convert(Box::new(arguments)))
    }

    /// What would be found out when the images are opened.
    fn check_images(&mut self) -> Result<(), Failure> {
        if self.source_image_opts && self.source_format.is_some()
            || self.target_image_opts && self.target_format.is_some()
        {
            return Err(Failure::new("--image-opts and --format are mutually exclusive"));
        }
        if !self.target_image_opts {
            self.target_format.get_or_insert_with(|| "raw".to_owned());
        }
        Ok(())
    }
}

/// Fails with the first message of a mistake that was made.
fn refuse(mistakes: &[(bool, &str)]) -> Result<(), Failure> {
    match mistakes.iter().find(|(made, _)| *made) {
        Some((_, message)) => Err(Failure::new(message).with_code(Code::InvalidArgument)),
        None => Ok(()),
    }
}

fn parse_checksum(name: &str) -> Result<Algorithm, Failure> {
    Algorithm::parse(name)
        .ok_or_else(|| Failure::usage("convert", format!("--checksum expects 'sha256' or 'blake3' not '{name}'")))
}

fn parse_sparse_size(text: &str) -> Result<u64, Failure> {
    let size = parse_number("buffer size for sparse output", text, 0..=SIZE_MAX)?;
    if size.is_multiple_of(SECTOR) && size <= SPARSE_SIZE_MAX {
        return Ok(size);
    }
    Err(Failure::new(format!(
        "Invalid buffer size for sparse output specified. Valid sizes are multiples of {SECTOR} up to \
         {SPARSE_SIZE_MAX}. Select 0 to disable sparse detection (fully allocates output)."
    )))
}

/// The value of `-m`: a number in C's notation, without a unit.
fn parse_tasks(text: &str) -> Result<u64, Failure> {
    const WHAT: &str = "number of coroutines";
    let number = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (digits, radix) = match number.strip_prefix("0x").or_else(|| number.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None if number.len() > 1 && number.starts_with('0') => (number, 8),
        None => (number, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(malformed(WHAT, text));
    }
    // Only digits are left, so that a failure means a number too large for 64 bits.
    match u64::from_str_radix(digits, radix) {
        Ok(tasks) if !negative && (1..=TASKS_MAX).contains(&tasks) => Ok(tasks),
        _ => Err(out_of_range(WHAT, 1, TASKS_MAX)),
    }
}

fn malformed(what: &str, text: &str) -> Failure {
    Failure::new(format!("Invalid {what} specified: '{text}'."))
}

fn out_of_range(what: &str, min: u64, max: u64) -> Failure {
    Failure::new(format!("Invalid {what} specified. Must be between {min} and {max}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, Failure> {
        Request::parse(line.split_whitespace().map(str::to_owned).collect())
    }

    fn arguments(line: &str) -> Arguments {
        match parse(line) {
            Ok(Request::Convert(arguments)) => *arguments,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn message(line: &str) -> String {
        match parse(line) {
            Err(failure) => failure.into_text(),
            Ok(request) => panic!("{line}: {request:?}"),
        }
    }

    #[test]
    fn defaults_are_the_references() {
        let arguments = arguments("a b");
        assert_eq!((arguments.sources.as_slice(), arguments.target.as_str()), (&["a".to_owned()][..], "b"));
        assert_eq!(arguments.output.format.as_deref(), Some("raw"));
        assert_eq!((arguments.sparse_size, arguments.tasks, arguments.in_order), (4096, 8, true));
        assert!(arguments.output.cache.no_flush && !arguments.source.cache.no_flush);
    }

    #[test]
    fn all_dialects_of_long_names_are_taken() {
        for format in ["-O", "--output-format", "--target-format"] {
            let arguments = arguments(&format!("{format} qcow2 a b c"));
            assert_eq!(arguments.output.format.as_deref(), Some("qcow2"));
            assert_eq!(arguments.sources, ["a", "b"]);
        }
        let arguments = arguments("a --compress --progress b -b base -F raw -m 0x10 -o a=1 -o b=2 -S 1M -W");
        assert!(arguments.output.create && arguments.output.compress && arguments.progress && !arguments.in_order);
        assert_eq!((arguments.output.backing.as_deref(), arguments.tasks), (Some("base"), 16));
        assert_eq!(arguments.output.options.text(), Some("a=1,b=2"));
    }

    #[test]
    fn complaints_are_the_references() {
        let cases = [
            ("", "Must specify image file name"),
            ("a", "Must specify image file name"),
            ("-m 0 a b", "Invalid number of coroutines specified. Must be between 1 and 16."),
            ("-m 17 a b", "Invalid number of coroutines specified. Must be between 1 and 16."),
            ("-m 4k a b", "Invalid number of coroutines specified: '4k'."),
            ("-S x a b", "Invalid buffer size for sparse output specified: 'x'."),
            (
                "-S -1 a b",
                "Invalid buffer size for sparse output specified. Must be between 0 and 9223372036854775807.",
            ),
            ("-t foo a b", "Invalid cache option: foo"),
            ("-T foo a b", "Invalid source cache option: foo"),
            ("-C -c a b", "Cannot enable copy offloading when -c is used"),
            ("-C -S 4k a b", "Cannot enable copy offloading when -S is used"),
            ("-C --salvage a b", "Cannot use copy offloading in salvaging mode"),
            ("--skip-broken-bitmaps a b", "Use of --skip-broken-bitmaps requires --bitmaps"),
            ("--target-image-opts a b", "--target-image-opts requires use of -n flag"),
            ("--target-is-zero a b", "--target-is-zero requires use of -n flag"),
            ("-n -o size=1 a b", "-o has no effect when skipping image creation"),
            ("-o ,a=1 a b", "Invalid option list: ,a=1"),
            ("--image-opts -f raw a b", "--image-opts and --format are mutually exclusive"),
        ];
        for (line, expected) in cases {
            assert_eq!(message(line), format!("qemu-img: {expected}"), "{line}");
        }
        let sparse = "qemu-img: Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 up to \
                      16777216. Select 0 to disable sparse detection (fully allocates output).";
        assert_eq!(message("-S 100 a b"), sparse);
        assert_eq!(message("-S 17M a b"), sparse);
    }

    #[test]
    fn help_wins_over_later_mistakes() {
        assert!(matches!(parse("--help -m x"), Ok(Request::Help)));
        assert!(matches!(parse("-O qcow2 -o size=1,help"), Ok(Request::OptionHelp { filename: None, .. })));
    }
}
