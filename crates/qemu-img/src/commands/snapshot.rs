//! `qemu-img snapshot`: lists, makes, applies and deletes internal snapshots.
//!
//! QEMU: `img_snapshot` (qemu-img.c)

use std::time::{SystemTime, UNIX_EPOCH};

use qemu_block::error::BlockError;
use qemu_block::manage::{NewSnapshot, SnapshotSelector};
use qemu_block::node::Node;
use qemu_block::types::OpenFlags;

use super::Command;
use crate::cli::common::{ImageArg, OutputFormat, one_filename};
use crate::cli::getopt::{Flag, Parser};
use crate::cli::manual::docs;
use crate::cli::object::Objects;
use crate::cli::program;
use crate::cli::shared::{Shared, SharedArgs};
use crate::failure::{CommandResult, Failure, Outcome};
use crate::output::image_info::{snapshot_list, snapshots_json};
use crate::output::messages;
use crate::session::Session;
use crate::strict::Needs;

/// The command.
pub(crate) const COMMAND: Command = Command {
    name: "snapshot",
    summary: "Lists, makes, applies or deletes internal snapshots of an image.",
    synopsis: "[--object OBJDEF] [-q] [-f FMT | --image-opts] [-U] [-l [--output FORM] | -a SNAPSHOT | -c SNAPSHOT | \
               -d SNAPSHOT] FILENAME",
    options: || docs(FLAGS),
    operands: &[("FILENAME", "the image")],
    notes: "",
    run,
};

/// Names are cut to this many bytes, as the reference does.
const NAME_BYTES_MAX: usize = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    List,
    Create,
    Apply,
    Delete,
}

/// The long names of the actions take no value in the reference's 10.0, so that they cannot be used; here they do.
const FLAGS: &[Flag<Id>] = &[
    Flag::shared(Shared::Help),
    Flag::shared(Shared::Quiet),
    Flag::shared(Shared::Object),
    Flag::shared(Shared::Format),
    Flag::shared(Shared::ImageOpts),
    Flag::shared(Shared::ForceShare),
    Flag::switch(Id::List, Some('l'), &["list"])
        .doc("list the snapshots, which is what happens if nothing else is asked for"),
    Flag::shared(Shared::Output).written_out().doc("list them as text (human, the default) or JSON (json)"),
    Flag::value(Id::Apply, Some('a'), &["apply"])
        .named("SNAPSHOT")
        .doc("make the disk what it was at the snapshot with this number or name"),
    Flag::value(Id::Create, Some('c'), &["create"]).named("SNAPSHOT").doc("make a snapshot of this name"),
    Flag::value(Id::Delete, Some('d'), &["delete"]).named("SNAPSHOT").doc("delete the first snapshot of this name"),
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    List,
    Create(String),
    Apply(String),
    Delete(String),
}

#[derive(Debug)]
struct Arguments {
    image: ImageArg,
    objects: Objects,
    action: Action,
    output: OutputFormat,
}

/// The arguments; none when the user asks for help.
fn parse(words: Vec<String>) -> Result<Option<Arguments>, Failure> {
    let mut parser = Parser::new(COMMAND.name, FLAGS, words);
    let mut action = None;
    while let Some(given) = parser.next()? {
        let wanted = match given.id {
            Id::List => Action::List,
            Id::Create => Action::Create(given.value),
            Id::Apply => Action::Apply(given.value),
            Id::Delete => Action::Delete(given.value),
        };
        if action.replace(wanted).is_some() {
            return Err(Failure::usage(COMMAND.name, "Cannot mix '-l', '-a', '-c', '-d'"));
        }
    }
    let Some((SharedArgs { mut image, objects, output, .. }, operands)) = parser.finish() else { return Ok(None) };
    image.name = one_filename(COMMAND.name, operands)?;
    image.check_exclusive("--format")?;
    let action = action.unwrap_or(Action::List);
    if output == OutputFormat::Json && action != Action::List {
        return Err(Failure::usage(COMMAND.name, "--output=json is for the list of snapshots, '-l'"));
    }
    Ok(Some(Arguments { image, objects, action, output }))
}

fn run(words: Vec<String>) -> CommandResult {
    let Some(arguments) = parse(words)? else { return program::print(&COMMAND.help()) };
    Needs::of(COMMAND.name).reads_or_writes(arguments.action == Action::List, &arguments.image).confine()?;
    let session = Session::new()?.with_objects(&arguments.objects);
    session.block_on(act(&session, &arguments))
}

async fn act(session: &Session, arguments: &Arguments) -> CommandResult {
    let Arguments { image, action, output, .. } = arguments;
    let flags = if *action == Action::List { OpenFlags::empty() } else { OpenFlags::WRITE };
    let node = session.open_image(image, flags | OpenFlags::UNMAP).await?;
    let done = match action {
        Action::List => list(&node, *output).await,
        Action::Create(name) => create(&node, name).await,
        Action::Apply(name) => apply(&node, name).await,
        Action::Delete(name) => delete(&node, name).await,
    };
    let closed = node.close().await;
    done?;
    closed.map_err(|error| Failure::block(format!("Could not close '{}'", image.name), &error))?;
    Ok(Outcome::Success)
}

async fn list(node: &Node, output: OutputFormat) -> Result<(), Failure> {
    let snapshots = match node.snapshots() {
        Some(snapshots) => {
            let listed = snapshots.list().await;
            listed.map_err(|error| Failure::block("Could not list the snapshots", &error).about(node.filename()))?
        }
        None => Vec::new(),
    };
    messages::print(&match output {
        OutputFormat::Human => snapshot_list(&snapshots).into_iter().map(|line| line + "\n").collect(),
        OutputFormat::Json => snapshots_json(&snapshots).pretty(),
    })
}

async fn create(node: &Node, name: &str) -> Result<(), Failure> {
    let failed = |reason: String| Failure::new(format!("Could not create snapshot '{name}': {reason}"));
    let Some(snapshots) = node.snapshots() else { return Err(failed("Operation not supported".to_owned())) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let new = NewSnapshot {
        name: cut(name).to_owned(),
        // The format has 32 bits for it, until 2106.
        date_seconds: u32::try_from(now.as_secs()).unwrap_or(u32::MAX),
        date_nanoseconds: now.subsec_micros() * 1000,
        // The reference stores a count of zero, although there is no machine.
        icount: Some(0),
    };
    snapshots.create(new).await.map(drop).map_err(|error| failed(error.errno_text()))
}

async fn apply(node: &Node, name: &str) -> Result<(), Failure> {
    let failed = |reason: String| Failure::new(format!("Could not apply snapshot '{name}': {reason}"));
    let Some(snapshots) = node.snapshots() else {
        return Err(failed("Block driver does not support snapshots".to_owned()));
    };
    let reason = |error: BlockError| match error.errno() {
        // What is in the way says so itself.
        libc::EBUSY => error.chain(),
        _ => format!("Failed to load snapshot: {}", error.errno_text()),
    };
    snapshots.apply(&SnapshotSelector::Any(name.to_owned())).await.map_err(|error| failed(reason(error)))
}

/// Deletes the first snapshot of a name; unlike the other actions, the reference's takes no number.
async fn delete(node: &Node, name: &str) -> Result<(), Failure> {
    let failed = |reason: String| Failure::new(format!("Could not delete snapshot '{name}': {reason}"));
    let not_found = || failed("snapshot not found".to_owned());
    let Some(snapshots) = node.snapshots() else { return Err(not_found()) };
    let selector = SnapshotSelector::Exact { id: None, name: Some(name.to_owned()) };
    match snapshots.delete(&selector).await {
        Err(error) if error.errno() == libc::ENOENT => Err(not_found()),
        deleted => deleted.map_err(|error| failed(error.chain())),
    }
}

/// The first part of a name, as long as names can be.
fn cut(name: &str) -> &str {
    let mut end = name.len().min(NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Option<Arguments>, Failure> {
        parse(line.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn one_action_at_a_time() {
        for (line, action) in [
            ("a", Action::List),
            ("-l a", Action::List),
            ("-c x a", Action::Create("x".to_owned())),
            ("a -dx", Action::Delete("x".to_owned())),
            ("--apply=x a", Action::Apply("x".to_owned())),
        ] {
            assert_eq!(parse_line(line).expect("valid").expect("no help").action, action, "{line}");
        }
        let text = parse_line("-l -c x a").expect_err("two actions").into_text();
        assert!(text.starts_with("qemu-img: Cannot mix '-l', '-a', '-c', '-d'\n"), "{text}");
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"ü".repeat(200)).len(), 254);
    }
}
