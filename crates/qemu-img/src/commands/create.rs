//! `qemu-img create`: a new, empty image.
//!
//! QEMU: `img_create` (qemu-img.c), `bdrv_img_create` (block.c)

use qemu_block::error::{BlockError, ErrorKind};
use qemu_block::node::Node;
use qemu_block::options::{CreateOption, OptionKind, Options, check_create_options, create_options_help};
use qemu_block::registry::{OpenSpec, resolve_backing_name};
use qemu_block::types::OpenFlags;

use super::Command;
use super::convert::target::{NotCreated, create_removable};
use crate::cli::common::OptionList;
use crate::cli::getopt::{Flag, Parser};
use crate::cli::manual::docs;
use crate::cli::number::{SIZE_MAX, parse_number};
use crate::cli::object::Objects;
use crate::cli::program;
use crate::cli::shared::{Shared, SharedArgs};
use crate::failure::{CommandResult, Failure, Outcome};
use crate::output::human::escape;
use crate::output::messages;
use crate::session::Session;
use crate::strict::Needs;

/// The command.
pub(crate) const COMMAND: Command = Command {
    name: "create",
    summary: "Creates an empty image, or one on top of a backing file.",
    synopsis: "[--object OBJDEF] [-q] [-f FMT] [-b BACKING [-F BACKING_FMT]] [-u] [-o OPTIONS] FILENAME [SIZE]",
    options: || docs(FLAGS),
    operands: &[
        ("FILENAME", "the image to create; an existing file is overwritten"),
        ("SIZE", "its size; that of the backing file if not given"),
    ],
    notes: "",
    run,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    Format,
    Backing,
    BackingFormat,
    BackingUnsafe,
    Options,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::shared(Shared::Help),
    Flag::shared(Shared::Quiet),
    Flag::shared(Shared::Object),
    Flag::value(Id::Format, Some('f'), &["format"]).named("FMT").doc("the format of the new image (default: raw)"),
    Flag::value(Id::Backing, Some('b'), &["backing"])
        .also(&["backing-file"])
        .named("FILE")
        .doc("what the image does not hold itself is read from FILE"),
    Flag::value(Id::BackingFormat, Some('F'), &["backing-format"])
        .named("FMT")
        .doc("the format of the backing file; required with -b"),
    Flag::switch(Id::BackingUnsafe, Some('u'), &["backing-unsafe"])
        .doc("do not open the backing file; SIZE is then required"),
    Flag::value(Id::Options, Some('o'), &["options"])
        .named("OPTIONS")
        .doc("options of the format, as name=value,...; 'help' lists them"),
];

#[derive(Debug)]
struct Arguments {
    filename: String,
    size: Option<u64>,
    format: String,
    backing: Option<String>,
    backing_format: Option<String>,
    backing_unsafe: bool,
    options: OptionList,
    objects: Objects,
    quiet: bool,
}

#[derive(Debug)]
enum Request {
    Help,
    OptionHelp { format: String, filename: Option<String> },
    Create(Arguments),
}

fn parse(words: Vec<String>) -> Result<Request, Failure> {
    let mut parser = Parser::new(COMMAND.name, FLAGS, words);
    let mut format = None;
    let (mut backing, mut backing_format, mut backing_unsafe) = (None, None, false);
    let mut options = OptionList::default();
    while let Some(given) = parser.next()? {
        match given.id {
            Id::Format => format = Some(given.value),
            Id::Backing => backing = Some(given.value),
            Id::BackingFormat => backing_format = Some(given.value),
            Id::BackingUnsafe => backing_unsafe = true,
            Id::Options => options.add(&given.value)?,
        }
    }
    let Some((SharedArgs { objects, quiet, .. }, operands)) = parser.finish() else { return Ok(Request::Help) };
    let format = format.unwrap_or_else(|| "raw".to_owned());
    let mut operands = operands.into_iter();
    let filename = operands.next();
    if options.asks_for_help() {
        return Ok(Request::OptionHelp { format, filename });
    }
    let Some(filename) = filename else { return Err(Failure::usage(COMMAND.name, "Expecting image file name")) };
    let size = operands.next().map(|text| parse_number("image size", &text, 0..=SIZE_MAX)).transpose()?;
    if let Some(superfluous) = operands.next() {
        return Err(Failure::usage(COMMAND.name, format!("Unexpected argument: {superfluous}")));
    }
    Ok(Request::Create(Arguments {
        filename,
        size,
        format,
        backing,
        backing_format,
        backing_unsafe,
        options,
        objects,
        quiet,
    }))
}

fn run(words: Vec<String>) -> CommandResult {
    match parse(words)? {
        Request::Help => program::print(&COMMAND.help()),
        Request::OptionHelp { format, filename } => {
            Needs::of(COMMAND.name).confine()?;
            let session = Session::new()?;
            program::print(&option_help(&session, &format, filename.as_deref())?)
        }
        Request::Create(arguments) => {
            let Arguments { filename, backing, options, .. } = &arguments;
            let needs = Needs::of(COMMAND.name).creates(filename, options);
            backing.iter().fold(needs, |needs, name| needs.reads_backing(filename, name)).confine()?;
            let session = Session::catching_signals()?.with_objects(&arguments.objects);
            session.block_on(create(&session, &arguments))
        }
    }
}

/// The text of `-o help` for images of `format`; with a file name, the options of its protocol are among them.
///
/// # Errors
/// There is no such format or protocol, or images of it cannot be created.
pub(crate) fn option_help(session: &Session, format: &str, filename: Option<&str>) -> Result<String, Failure> {
    let schema = session.context().create_schema(format, filename);
    let schema = schema.map_err(|error| Failure::new(error.chain()))?;
    let mut text = match filename {
        Some(_) => "Supported options:\n".to_owned(),
        None => format!("Supported {format} options:\n"),
    };
    for line in create_options_help(&schema) {
        text.push_str(&line);
        text.push('\n');
    }
    if filename.is_none() {
        text.push_str("\nThe protocol level may support further options.\n");
        text.push_str("Specify the target filename to include those options.\n");
    }
    Ok(text)
}

async fn create(session: &Session, arguments: &Arguments) -> CommandResult {
    let filename = &arguments.filename;
    let fail = |error: BlockError| Failure::block(filename, &error).about(filename);
    let context = session.context();
    let schema = context.create_schema(&arguments.format, Some(filename)).map_err(fail)?;
    let options = settle_options(session, arguments, &schema).await.map_err(fail)?;
    if !arguments.quiet {
        messages::print(&formatting_line(filename, &arguments.format, &schema, &options))?;
    }
    let created = create_removable(session, &arguments.format, filename, options, false).await;
    let file = created.map_err(|failed| match failed {
        NotCreated::Interrupted(signal) => Failure::Interrupted(signal),
        NotCreated::Failed(error) if error.errno() == libc::EFBIG => fail(too_large(&arguments.format, &schema)),
        NotCreated::Failed(error) => fail(error),
    })?;
    // A signal that came too late to stop it has its way nevertheless: whoever sent it expects no image.
    session.signals().check()?;
    file.keep();
    Ok(Outcome::Success)
}

/// The reference's text for a size that the format, or the file system below, cannot express.
fn too_large(format: &str, schema: &[CreateOption]) -> BlockError {
    let has_clusters = schema.iter().any(|option| option.name == "cluster_size");
    let advice = if has_clusters { " (try using a larger cluster size)" } else { "" };
    invalid(format!("The image size is too large for file format '{format}'{advice}"))
}

/// All options of the new image: those of `-o`, checked, and what `-b`, `-F`, the size and the backing file add.
async fn settle_options(
    session: &Session,
    arguments: &Arguments,
    schema: &[CreateOption],
) -> qemu_block::error::Result<Options> {
    let mut options = check_create_options(schema, &arguments.options.parse()?)?;
    if let Some(size) = arguments.size {
        if options.contains("size") {
            return Err(invalid("The image size must be specified only once"));
        }
        options.set("size", size.to_string());
    }
    set_backing(arguments, schema, &mut options)?;
    let backing = options.get_str("backing_file");
    let backing_format = options.get_str("backing_fmt");
    if backing.as_ref().is_some_and(String::is_empty) {
        return Err(invalid("Expected backing file name, got empty string"));
    }
    if backing.as_ref() == Some(&arguments.filename) {
        return Err(invalid("Error: Trying to create an image with the same filename as the backing file"));
    }
    match (&backing, &backing_format) {
        (Some(name), format) if !arguments.backing_unsafe => {
            let size = backing_size(session, &arguments.filename, name, format.as_deref()).await?;
            if !options.contains("size") {
                options.set("size", size.to_string());
            }
        }
        (Some(_), None) => return Err(invalid("Backing file specified without backing format")),
        _ => {}
    }
    if !options.contains("size") {
        return Err(invalid("Image creation needs a size parameter"));
    }
    Ok(options)
}

/// Adds `-b` and `-F`, which win over `-o backing_file` and `-o backing_fmt`.
fn set_backing(arguments: &Arguments, schema: &[CreateOption], options: &mut Options) -> qemu_block::error::Result<()> {
    let format = &arguments.format;
    let supports = |name: &str| schema.iter().any(|option| option.name == name);
    if let Some(name) = &arguments.backing {
        if !supports("backing_file") {
            return Err(invalid(format!("Backing file not supported for file format '{format}'")));
        }
        options.set("backing_file", name.as_str());
    }
    if let Some(name) = &arguments.backing_format {
        if !supports("backing_fmt") {
            return Err(invalid(format!("Backing format not supported for file format '{format}'")));
        }
        options.set("backing_fmt", name.as_str());
    }
    Ok(())
}

/// Opens the backing file, to see that this is possible, and returns its size in bytes.
async fn backing_size(
    session: &Session,
    filename: &str,
    backing: &str,
    format: Option<&str>,
) -> qemu_block::error::Result<u64> {
    let path = resolve_backing_name(filename, backing);
    // Only its size is wanted, whoever else may be writing to it.
    let spec = OpenSpec::file(path).with_driver(format).with_flags(OpenFlags::FORCE_SHARE);
    let node = session.context().open(spec).await;
    let node = node.map_err(|error| with_hint(&error, "Could not open backing image."))?;
    let size = format_checked_size(&node, format);
    node.close().await?;
    size
}

/// The size; an error when the user did not say what format the backing file has, since a guess could be turned into
/// another one by whoever writes to that file.
fn format_checked_size(node: &Node, format: Option<&str>) -> qemu_block::error::Result<u64> {
    match format {
        Some(_) => Ok(node.len()),
        None => {
            let detected = format!("Detected format of {}.", node.driver().name());
            Err(with_hint(&invalid("Backing file specified without backing format"), &detected))
        }
    }
}

fn invalid(message: impl Into<String>) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, message)
}

/// The error with a second line.
fn with_hint(error: &BlockError, hint: &str) -> BlockError {
    BlockError::new(error.kind(), format!("{}\n{hint}", error.chain())).with_errno(error.errno())
}

/// The line that announces the new image: every option that has a value, in the order of the schema.
fn formatting_line(filename: &str, format: &str, schema: &[CreateOption], options: &Options) -> String {
    let mut line = format!("Formatting '{}', fmt={format}", escape(filename));
    for option in schema {
        let Some(value) = options.get_str(option.name) else { continue };
        // Texts may hold commas, which are doubled as in a list of options.
        let value = if option.kind == OptionKind::Text { value.replace(',', ",,") } else { value };
        line.push_str(&format!(" {}={}", option.name, escape(&value)));
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &[CreateOption] = &[
        CreateOption { name: "cluster_size", help: "", kind: OptionKind::Size, default: Some("65536") },
        CreateOption { name: "size", help: "", kind: OptionKind::Size, default: None },
        CreateOption { name: "backing_file", help: "", kind: OptionKind::Text, default: None },
        CreateOption { name: "lazy_refcounts", help: "", kind: OptionKind::Bool, default: Some("off") },
    ];

    fn parse_words(words: &[&str]) -> Result<Request, Failure> {
        parse(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn the_announcement_follows_the_schema() {
        let mut given = Options::new();
        given.set("size", "1M");
        given.set("backing_file", "a,b");
        let options = check_create_options(SCHEMA, &given).expect("valid");
        assert_eq!(
            formatting_line("x\u{1b}", "qcow2", SCHEMA, &options),
            "Formatting 'x\\x1b', fmt=qcow2 cluster_size=65536 size=1048576 backing_file=a,,b lazy_refcounts=off\n"
        );
    }

    #[test]
    fn operands_are_counted() {
        let Ok(Request::Create(arguments)) = parse_words(&["x", "-f", "qcow2", "1G", "-q"]) else {
            panic!("a valid command line is refused")
        };
        assert_eq!((arguments.size, arguments.quiet), (Some(1 << 30), true));
        let usage = "Try 'qemu-img create --help' for more info";
        for (words, text) in [
            (&[][..], format!("qemu-img: Expecting image file name\n{usage}")),
            (&["x", "1", "2"], format!("qemu-img: Unexpected argument: 2\n{usage}")),
            (&["x", "5X"], "qemu-img: Invalid image size specified: '5X'.".to_owned()),
            (&["-o", "a=b,", "x", "1"], "qemu-img: Invalid option list: a=b,".to_owned()),
        ] {
            let complaint = parse_words(words).expect_err("accepted").into_text();
            assert_eq!(complaint, text);
        }
    }

    #[test]
    fn help_on_options_needs_no_file_name() {
        let Ok(Request::OptionHelp { format, filename }) = parse_words(&["-f", "qcow2", "-o", "size=1,?"]) else {
            panic!("no help")
        };
        assert_eq!((format.as_str(), filename), ("qcow2", None));
    }

    #[test]
    fn advice_depends_on_the_format() {
        let text = "The image size is too large for file format 'qcow2' (try using a larger cluster size)";
        assert_eq!(too_large("qcow2", SCHEMA).message(), text);
        assert_eq!(too_large("raw", &[]).message(), "The image size is too large for file format 'raw'");
    }
}
