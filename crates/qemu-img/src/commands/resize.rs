//! `qemu-img resize`: changes the size of the disk that an image holds.
//!
//! QEMU: `img_resize` (qemu-img.c)

use qemu_block::error::BlockError;
use qemu_block::node::Node;
use qemu_block::types::{OpenFlags, PreallocMode};
use qemu_util::units::{SizeError, parse_size};

use super::Command;
use crate::cli::common::ImageArg;
use crate::cli::getopt::{Flag, Operands, Parser};
use crate::cli::manual::docs;
use crate::cli::number::SIZE_MAX;
use crate::cli::object::Objects;
use crate::cli::program;
use crate::cli::shared::{Shared, SharedArgs};
use crate::failure::{CommandResult, Failure, Outcome};
use crate::output::messages;
use crate::session::Session;
use crate::strict::Needs;

/// The command.
pub(crate) const COMMAND: Command = Command {
    name: "resize",
    summary: "Changes the size of the disk that an image holds.",
    synopsis: "[--object OBJDEF] [-q] [-f FMT | --image-opts] [--preallocation MODE] [--shrink] FILENAME [+|-]SIZE",
    options: || docs(FLAGS),
    operands: &[("FILENAME", "the image"), ("[+|-]SIZE", "the new size, or by how much it grows or shrinks")],
    notes: "",
    run,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    Preallocation,
    Shrink,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::shared(Shared::Help),
    Flag::shared(Shared::Quiet),
    Flag::shared(Shared::Object),
    Flag::shared(Shared::Format),
    Flag::shared(Shared::ImageOpts),
    Flag::value(Id::Preallocation, None, &["preallocation"])
        .named("MODE")
        .doc("what to allocate for the new part: off (the default), metadata, falloc or full"),
    Flag::switch(Id::Shrink, None, &["shrink"]).doc("the size may become smaller; what lies past the new end is lost"),
];

/// What the size is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    To(u64),
    GrowBy(u64),
    ShrinkBy(u64),
}

impl Target {
    /// The new size; none if it would not be positive, or more than a size can be.
    fn apply(self, size: u64) -> Option<u64> {
        let new = match self {
            Self::To(new) => Some(new),
            Self::GrowBy(more) => size.checked_add(more),
            Self::ShrinkBy(less) => size.checked_sub(less),
        };
        new.filter(|new| (1..=SIZE_MAX).contains(new))
    }
}

#[derive(Debug)]
struct Arguments {
    image: ImageArg,
    objects: Objects,
    target: Target,
    prealloc: PreallocMode,
    shrink: bool,
    quiet: bool,
}

/// The arguments; none when the user asks for help.
fn parse(words: Vec<String>) -> Result<Option<Arguments>, Failure> {
    let mut parser = Parser::with_mode(COMMAND.name, FLAGS, words, Operands::MixWithNumber);
    let (mut prealloc, mut shrink) = (PreallocMode::Off, false);
    while let Some(given) = parser.next()? {
        match given.id {
            Id::Preallocation => {
                let refused = || Failure::new(format!("Invalid preallocation mode '{}'", given.value));
                prealloc = PreallocMode::parse(&given.value).ok_or_else(refused)?;
            }
            Id::Shrink => shrink = true,
        }
    }
    let Some((SharedArgs { mut image, objects, quiet, .. }, operands)) = parser.finish() else { return Ok(None) };
    image.check_exclusive("--format")?;
    let [name, size] = <[String; 2]>::try_from(operands).map_err(|operands| {
        let superfluous = operands.len() > 2;
        let text = if superfluous { "Extra argument(s) in command line" } else { "Expecting image file name and size" };
        Failure::usage(COMMAND.name, text)
    })?;
    image.name = name;
    Ok(Some(Arguments { image, objects, target: parse_target(&size)?, prealloc, shrink, quiet }))
}

fn parse_target(text: &str) -> Result<Target, Failure> {
    let (make, number): (fn(u64) -> Target, &str) = match text.as_bytes().first() {
        Some(b'+') => (Target::GrowBy, &text[1..]),
        Some(b'-') => (Target::ShrinkBy, &text[1..]),
        _ => (Target::To, text),
    };
    parse_size(number).map(make).map_err(|error| {
        Failure::new(match error {
            SizeError::OutOfRange => format!("Value '{number}' is out of range for parameter 'size'"),
            SizeError::Invalid => "Parameter 'size' expects a non-negative number below 2^64\n\
                 Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n\
                 and exabytes, respectively."
                .to_owned(),
        })
    })
}

fn run(words: Vec<String>) -> CommandResult {
    let Some(arguments) = parse(words)? else { return program::print(&COMMAND.help()) };
    Needs::of(COMMAND.name).writes(&arguments.image).confine()?;
    let session = Session::new()?.with_objects(&arguments.objects);
    session.block_on(resize(&session, &arguments))
}

async fn resize(session: &Session, arguments: &Arguments) -> CommandResult {
    let flags = OpenFlags::WRITE | OpenFlags::RESIZE;
    let node = session.open_image(&arguments.image, flags).await?;
    let resized = set_size(&node, arguments).await;
    let closed = node.close().await;
    resized?;
    closed.map_err(|error| Failure::block(format!("Could not close '{}'", arguments.image.name), &error))?;
    if !arguments.quiet {
        messages::print("Image resized.\n")?;
    }
    Ok(Outcome::Success)
}

async fn set_size(node: &Node, arguments: &Arguments) -> Result<(), Failure> {
    // The reference counts in sectors.
    let old = node.len().next_multiple_of(512);
    let Some(new) = arguments.target.apply(old) else {
        return Err(Failure::new("New image size must be positive"));
    };
    if new <= old && arguments.prealloc != PreallocMode::Off {
        return Err(Failure::new("Preallocation can only be used for growing images"));
    }
    if new < old && !arguments.shrink {
        return Err(Failure::text(
            "qemu-img: Use the --shrink option to perform a shrink operation.\n\
             qemu-img: warning: Shrinking an image will delete all data beyond the shrunken image's end. Before performing \
             such an operation, make sure there is no important data there."
                .to_owned(),
        ));
    }
    node.truncate(new, arguments.prealloc).await.map_err(|error: BlockError| Failure::new(error.chain()))
}
