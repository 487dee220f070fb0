//! `qemu-img compare`: whether two images show the same disk.
//!
//! ```text
//! side   ─► one image: its status as the reference splits it, and its bytes
//! walk   ─► both of them from start to end, several requests at a time, findings in order
//! difference ─► what is found, for people and programs
//! ```
//!
//! QEMU: `img_compare` (qemu-img.c)

mod difference;
mod side;
mod walk;

use qemu_block::types::OpenFlags;

use self::side::Side;
use self::walk::{Comparison, Verdict};
use super::Command;
use crate::cli::common::{ImageArg, OutputFormat, parse_cache};
use crate::cli::getopt::{Flag, Parser};
use crate::cli::manual::docs;
use crate::cli::program;
use crate::cli::shared::{Shared, SharedArgs};
use crate::failure::{CommandResult, Failure, Outcome};
use crate::output::messages;
use crate::output::progress::Progress;
use crate::session::Session;
use crate::strict::Needs;

/// The command.
pub(crate) const COMMAND: Command = Command {
    name: "compare",
    summary: "Checks whether two images have the same contents.",
    synopsis: "[--object OBJDEF] [--image-opts] [-f FMT] [-F FMT] [-T CACHE] [-p] [-q] [-s] [-U] [--output FORM] FILENAME1 FILENAME2",
    options: || docs(FLAGS),
    operands: &[("FILENAME1", "the first image"), ("FILENAME2", "the second image")],
    notes: "The exit status is 0 if the images show the same disk, 1 if they differ or the command line is wrong, 2 if an \
            image cannot be opened, 3 if it cannot be found out what is allocated, and 4 if an image cannot be read.",
    run,
};

/// An image, or an option, was in the way.
const STATUS_NOT_OPENED: u8 = 2;
/// It could not be found out what is allocated.
const STATUS_NO_STATUS: u8 = 3;
/// An image could not be read.
const STATUS_NOT_READ: u8 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    FormatA,
    FormatB,
    Strict,
    Cache,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::shared(Shared::Help),
    Flag::shared(Shared::Quiet),
    Flag::shared(Shared::Object),
    Flag::value(Id::Cache, Some('T'), &["cache"]).named("CACHE").doc("how the images are cached (writeback)"),
    Flag::shared(Shared::ImageOpts),
    Flag::value(Id::FormatA, Some('f'), &["a-format", "left-format"])
        .named("FMT")
        .doc("the first image's format; recognised by its content if not given"),
    Flag::value(Id::FormatB, Some('F'), &["b-format", "right-format"]).named("FMT").doc("the second image's format"),
    Flag::shared(Shared::ForceShare),
    Flag::switch(Id::Strict, Some('s'), &["strict"]).doc("the sizes, and what is allocated, must be the same, too"),
    Flag::shared(Shared::Progress),
    Flag::shared(Shared::Output).written_out(),
];

#[derive(Debug)]
struct Arguments {
    shared: SharedArgs,
    images: [ImageArg; 2],
    cache: Option<String>,
    strict: bool,
}

/// The arguments; none when the user asks for help.
fn parse(words: Vec<String>) -> Result<Option<Arguments>, Failure> {
    let mut parser = Parser::new(COMMAND.name, FLAGS, words);
    let (mut formats, mut cache, mut strict) = ([None, None], None, false);
    // The reference counts an object that cannot be made among the images that cannot be opened.
    let failed = |failure: Failure| if failure.is_usage() { failure } else { failure.with_status(STATUS_NOT_OPENED) };
    while let Some(given) = parser.next().map_err(failed)? {
        match given.id {
            Id::FormatA => formats[0] = Some(given.value),
            Id::FormatB => formats[1] = Some(given.value),
            Id::Strict => strict = true,
            Id::Cache => cache = Some(given.value),
        }
    }
    let Some((shared, operands)) = parser.finish() else { return Ok(None) };
    let Ok([name_a, name_b]) = <[String; 2]>::try_from(operands) else {
        return Err(Failure::usage(COMMAND.name, "Expecting two image file names"));
    };
    let [format_a, format_b] = formats;
    let images = [(name_a, format_a), (name_b, format_b)].map(|(name, format)| ImageArg {
        name,
        format,
        ..shared.image.clone()
    });
    Ok(Some(Arguments { shared, images, cache, strict }))
}

fn run(words: Vec<String>) -> CommandResult {
    let Some(arguments) = parse(words)? else { return program::print(&COMMAND.help()) };
    Needs::of(COMMAND.name).reads_all(&arguments.images).confine()?;
    let session = Session::showing_progress()?.with_objects(&arguments.shared.objects);
    session.block_on(async {
        let signals = session.signals().clone();
        let progress = Progress::new(arguments.shared.progress, arguments.shared.quiet, signals).in_steps_of(2.0);
        let progress = progress.of("compare");
        let compared = compare(&session, arguments, &progress).await;
        progress.stop_here(if compared.is_ok() { "done" } else { "failed" });
        compared
    })
}

async fn compare(session: &Session, mut arguments: Arguments, progress: &Progress) -> CommandResult {
    let not_opened = |failure: Failure| failure.with_status(STATUS_NOT_OPENED);
    let complaint = |name: &str| format!("Invalid source cache option: {name}");
    let cache = arguments.cache.take().map(|name| parse_cache(&name, complaint)).transpose().map_err(not_opened)?;
    arguments.images.iter_mut().for_each(|image| image.cache = cache);
    let [image_a, image_b] = &arguments.images;
    let as_json = arguments.shared.output == OutputFormat::Json;
    let side_a = open(session, image_a).await.map_err(not_opened)?;
    let compared = match open(session, image_b).await.map_err(not_opened) {
        Ok(side_b) => {
            let comparison = Comparison {
                sides: [&side_a, &side_b],
                strict: arguments.strict,
                quiet: arguments.shared.quiet || as_json,
                buffers: session.services().buffers.clone(),
                progress,
            };
            let sizes_differ = side_a.len() != side_b.len();
            let compared = comparison.run().await.map(|verdict| (verdict, sizes_differ));
            // The images were only read, so a failure to close loses nothing.
            drop(side_b.node().close().await);
            compared
        }
        Err(failure) => Err(failure),
    };
    drop(side_a.node().close().await);
    let (verdict, sizes_differ) = compared?;
    let difference = match verdict {
        Verdict::Same => None,
        Verdict::Different(difference) => Some(difference),
    };
    if as_json && !arguments.shared.quiet {
        messages::print(&difference::json(difference, sizes_differ).pretty())?;
    }
    Ok(if difference.is_some() { Outcome::Different } else { Outcome::Success })
}

async fn open(session: &Session, image: &ImageArg) -> Result<Side, Failure> {
    image.check_exclusive("--format")?;
    let node = session.open_image(image, OpenFlags::empty()).await?;
    Ok(Side::new(image.name.clone(), node).await)
}

/// Prints a finding, unless the user wants none.
fn say(text: &str, quiet: bool) -> Result<(), Failure> {
    if quiet { Ok(()) } else { messages::print(&format!("{text}\n")) }
}
