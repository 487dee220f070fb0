//! `qemu-img amend`: changes properties of an image. QEMU: `img_amend` (qemu-img.c)

use qemu_block::error::BlockError;
use qemu_block::manage::{AmendRequest, Progress as Listener};
use qemu_block::options::{CreateOption, check_create_options, create_options_help};
use qemu_block::types::OpenFlags;
use qemu_util::primitive::Arc;

use super::Command;
use crate::cli::common::{OptionList, parse_cache};
use crate::cli::getopt::{Flag, Parser};
use crate::cli::manual::docs;
use crate::cli::program;
use crate::cli::shared::{Shared, SharedArgs};
use crate::failure::{CommandResult, Failure, Outcome};
use crate::output::progress::Progress;
use crate::session::Session;
use crate::strict::Needs;

/// The command.
pub(crate) const COMMAND: Command = Command {
    name: "amend",
    summary: "Changes properties of an image.",
    synopsis: "[--object OBJDEF] [--image-opts | -f FMT] [-t CACHE] [--force] [-p] [-q] -o OPTIONS FILENAME",
    options: || docs(FLAGS),
    operands: &[("FILENAME", "the image")],
    notes: "",
    run,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    Options,
    Cache,
    Force,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::shared(Shared::Help),
    Flag::shared(Shared::Quiet),
    Flag::shared(Shared::Progress),
    Flag::shared(Shared::Object),
    Flag::shared(Shared::Format),
    Flag::value(Id::Cache, Some('t'), &["cache"])
        .named("CACHE")
        .doc("none, writeback (the default), writethrough, directsync or unsafe"),
    Flag::value(Id::Options, Some('o'), &["options"])
        .named("OPTIONS")
        .doc("what to change; 'help' lists the options of the format"),
    Flag::shared(Shared::ImageOpts),
    Flag::switch(Id::Force, None, &["force"]).doc("allow changes that make data inaccessible"),
];

#[derive(Debug, Default)]
struct Arguments {
    shared: SharedArgs,
    options: OptionList,
    force: bool,
}

/// The arguments; none when the user asks for help.
fn parse(words: Vec<String>) -> Result<Option<Arguments>, Failure> {
    let mut parser = Parser::new(COMMAND.name, FLAGS, words);
    let mut arguments = Arguments::default();
    let mut cache = None;
    while let Some(given) = parser.next()? {
        match given.id {
            Id::Options => arguments.options.add(&given.value)?,
            Id::Cache => cache = Some(given.value),
            Id::Force => arguments.force = true,
        }
    }
    let Some((shared, operands)) = parser.finish() else { return Ok(None) };
    arguments.shared = shared;
    if arguments.options.text().is_none() {
        return Err(Failure::usage(COMMAND.name, "Must specify options (-o)"));
    }
    let mut operands = operands;
    let name = operands.pop();
    let asks_format = arguments.options.asks_for_help() && arguments.shared.image.format.is_some();
    match name {
        Some(name) if operands.is_empty() => arguments.shared.image.name = name,
        None if asks_format => {}
        _ => return Err(Failure::new("Expecting one image file name")),
    }
    arguments.shared.image.check_exclusive("--format")?;
    let parse_cache = |name: String| parse_cache(&name, |name| format!("Invalid cache option: {name}"));
    arguments.shared.image.cache = cache.map(parse_cache).transpose()?;
    Ok(Some(arguments))
}

fn run(words: Vec<String>) -> CommandResult {
    let Some(arguments) = parse(words)? else { return program::print(&COMMAND.help()) };
    let image = &arguments.shared.image;
    Needs::of(COMMAND.name).writes(image).with_options(&image.name, &arguments.options).confine()?;
    let session = Session::showing_progress()?.with_objects(&arguments.shared.objects);
    if let (true, Some(format)) = (arguments.options.asks_for_help(), arguments.shared.image.format.as_deref()) {
        return program::print(&option_help(&session, format)?);
    }
    session.block_on(amend(&session, &arguments))
}

/// What `-o help` prints.
fn option_help(session: &Session, format: &str) -> Result<String, Failure> {
    let driver = session.context().registry().driver(format);
    let driver = driver.ok_or_else(|| Failure::new(format!("Unknown file format '{format}'")))?;
    let options = amendable(driver.amend_options(), format)?;
    Ok(format!("Amend options for '{format}':\n{}\n", create_options_help(options).join("\n")))
}

/// The options of a format that has any.
fn amendable(options: &'static [CreateOption], format: &str) -> Result<&'static [CreateOption], Failure> {
    if options.is_empty() {
        return Err(Failure::new(format!("Format driver '{format}' does not support option amendment")));
    }
    Ok(options)
}

async fn amend(session: &Session, arguments: &Arguments) -> CommandResult {
    let progress = Arc::new(
        Progress::new(arguments.shared.progress, arguments.shared.quiet, session.signals().clone()).of("amend"),
    );
    let amended = open_and_amend(session, arguments, &progress).await;
    // The line ends whether there was something to show in it or not.
    progress.stop_here(if amended.is_ok() { "done" } else { "failed" });
    amended
}

async fn open_and_amend(session: &Session, arguments: &Arguments, progress: &Arc<Progress>) -> CommandResult {
    let node = session.open_image(&arguments.shared.image, OpenFlags::WRITE | OpenFlags::RESIZE).await?;
    let format = node.driver().name();
    // The work is counted in tables, which stand for the disk.
    progress.stand_for(node.len());
    let work = async {
        if arguments.options.asks_for_help() {
            program::print(&option_help(session, format)?)?;
            return Ok(());
        }
        let schema = amendable(node.driver().amend_options(), format)?;
        let options = arguments.options.parse().and_then(|options| check_create_options(schema, &options));
        let options = options.map_err(|error| refused(node.driver().create_options(), &error))?;
        let amending = node.amending().ok_or_else(|| Failure::new("Operation not supported"))?;
        progress.start();
        let shown = Arc::clone(progress);
        let listener = Listener::new(move |done, total| shown.set(done, total));
        let amended = amending.amend(AmendRequest { options, force: arguments.force, progress: listener }).await;
        // Also after a failure, as in the reference.
        progress.set(node.len(), node.len());
        amended.map_err(|error| Failure::new(error.chain()))
    };
    let worked = work.await;
    let closed = node.close().await;
    worked?;
    closed.map_err(|error| Failure::block(format!("Could not close '{}'", arguments.shared.image.name), &error))?;
    Ok(Outcome::Success)
}

/// The failure for options that cannot be given; the reference adds a line when they could be, to `create`.
fn refused(create_options: &[CreateOption], error: &BlockError) -> Failure {
    let text = error.chain();
    let name = text.strip_prefix("Invalid parameter '").and_then(|rest| rest.strip_suffix('\''));
    let is_known = name.is_some_and(|name| create_options.iter().any(|option| option.name == name));
    let hint = if is_known { "\nThis option is only supported for image creation" } else { "" };
    Failure::new(format!("{text}{hint}"))
}
