//! `qemu-img bitmap`: adds, removes and changes persistent bitmaps of an image.
//!
//! QEMU: `img_bitmap` (qemu-img.c)

use qemu_block::error::{BlockError, ErrorKind};
use qemu_block::manage::{BitmapOps, NewBitmap};
use qemu_block::node::Node;
use qemu_block::types::OpenFlags;

use super::Command;
use crate::cli::common::ImageArg;
use crate::cli::getopt::{Flag, Parser};
use crate::cli::manual::docs;
use crate::cli::number::{SIZE_MAX, parse_number};
use crate::cli::program;
use crate::cli::shared::{Shared, SharedArgs};
use crate::failure::{CommandResult, Failure, Outcome};
use crate::output::messages;
use crate::session::Session;
use crate::strict::Needs;

/// The command. oVirt looks for `^\s+bitmap (.+) filename bitmap` in the program's help.
pub(crate) const COMMAND: Command = Command {
    name: "bitmap",
    summary: "Adds, removes and changes persistent bitmaps.",
    synopsis: "(--merge SOURCE | --add | --remove | --clear | --enable | --disable)... [-b SOURCE_FILE [-F SOURCE_FMT]] \
               [-g GRANULARITY] [--object OBJDEF] [--image-opts | -f FMT] filename bitmap",
    options: || docs(FLAGS),
    operands: &[("FILENAME", "the image"), ("BITMAP", "the bitmap's name")],
    notes: "Several things are done in the order in which they are given.",
    run,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    Add,
    Remove,
    Clear,
    Enable,
    Disable,
    Merge,
    Granularity,
    SourceFile,
    SourceFormat,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::shared(Shared::Help),
    // The reference has no long name for it in this command.
    Flag::shared(Shared::Format).written_out(),
    Flag::shared(Shared::Object),
    Flag::shared(Shared::ImageOpts),
    Flag::switch(Id::Add, None, &["add"]).doc("create the bitmap; it records writes from now on"),
    Flag::switch(Id::Remove, None, &["remove"]).doc("remove it"),
    Flag::switch(Id::Clear, None, &["clear"]).doc("make it empty"),
    Flag::switch(Id::Enable, None, &["enable"]).doc("record writes from now on"),
    Flag::switch(Id::Disable, None, &["disable"]).doc("stop recording writes"),
    Flag::value(Id::Merge, None, &["merge"]).named("SOURCE").doc("add to it what the bitmap SOURCE has"),
    Flag::value(Id::Granularity, Some('g'), &["granularity"])
        .named("SIZE")
        .doc("with --add: the bytes that one bit stands for"),
    Flag::value(Id::SourceFile, Some('b'), &["source-file"])
        .named("NAME")
        .doc("with --merge: SOURCE is a bitmap of this image"),
    Flag::value(Id::SourceFormat, Some('F'), &["source-format"]).named("FMT").doc("the format of that image"),
];

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Add,
    Remove,
    Clear,
    Enable,
    Disable,
    /// From the bitmap of this name.
    Merge(String),
}

impl Action {
    fn name(&self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Clear => "clear",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Merge(_) => "merge",
        }
    }
}

#[derive(Debug, Default)]
struct Arguments {
    shared: SharedArgs,
    bitmap: String,
    actions: Vec<Action>,
    granularity: Option<u64>,
    source: Option<String>,
    source_format: Option<String>,
}

/// The arguments; none when the user asks for help.
fn parse(words: Vec<String>) -> Result<Option<Arguments>, Failure> {
    let mut parser = Parser::new(COMMAND.name, FLAGS, words);
    let mut arguments = Arguments::default();
    while let Some(given) = parser.next()? {
        match given.id {
            Id::Add => arguments.actions.push(Action::Add),
            Id::Remove => arguments.actions.push(Action::Remove),
            Id::Clear => arguments.actions.push(Action::Clear),
            Id::Enable => arguments.actions.push(Action::Enable),
            Id::Disable => arguments.actions.push(Action::Disable),
            Id::Merge => arguments.actions.push(Action::Merge(given.value)),
            Id::Granularity => {
                let granularity = parse_number("granularity", &given.value, 0..=SIZE_MAX)?;
                // As in the reference, zero is none.
                arguments.granularity = (granularity > 0).then_some(granularity);
            }
            Id::SourceFile => arguments.source = Some(given.value),
            Id::SourceFormat => arguments.source_format = Some(given.value),
        }
    }
    let Some((shared, operands)) = parser.finish() else { return Ok(None) };
    arguments.shared = shared;
    arguments.check()?;
    let [name, bitmap] =
        <[String; 2]>::try_from(operands).map_err(|_| Failure::new("Expecting filename and bitmap name"))?;
    (arguments.shared.image.name, arguments.bitmap) = (name, bitmap);
    arguments.shared.image.check_exclusive("--format")?;
    Ok(Some(arguments))
}

impl Arguments {
    /// What does not go together, in the reference's order.
    fn check(&self) -> Result<(), Failure> {
        let adds = self.actions.contains(&Action::Add);
        let merges = self.actions.iter().any(|action| matches!(action, Action::Merge(_)));
        let mistakes = [
            (self.actions.is_empty(), "Need at least one of --add, --remove, --clear, --enable, --disable, or --merge"),
            (self.granularity.is_some() && !adds, "granularity only supported with --add"),
            (self.source_format.is_some() && self.source.is_none(), "-F only supported with -b"),
            (self.source.is_some() && !merges, "Merge bitmap source file only supported with --merge"),
        ];
        match mistakes.iter().find(|(made, _)| *made) {
            Some((_, message)) => Err(Failure::new(message)),
            None => Ok(()),
        }
    }
}

fn run(words: Vec<String>) -> CommandResult {
    let Some(arguments) = parse(words)? else { return program::print(&COMMAND.help()) };
    let needs = Needs::of(COMMAND.name).writes(&arguments.shared.image);
    arguments.source.iter().fold(needs, |needs, name| needs.reads_name(name)).confine()?;
    let session = Session::new()?.with_objects(&arguments.shared.objects);
    session.block_on(change(&session, &arguments))
}

async fn change(session: &Session, arguments: &Arguments) -> CommandResult {
    let node = session.open_image(&arguments.shared.image, OpenFlags::WRITE | OpenFlags::NO_BACKING).await?;
    let done = change_opened(session, arguments, &node).await;
    // What was done before a failure is kept, as in the reference: bitmaps are stored when the image is closed.
    let closed = node.close().await.map_err(|error| Failure::block("Error while closing the image", &error));
    if let (Err(_), Err(Failure::Report(report))) = (&done, &closed) {
        messages::print_error(&report.text);
    }
    done.and(closed)?;
    Ok(Outcome::Success)
}

async fn change_opened(session: &Session, arguments: &Arguments, node: &Node) -> Result<(), Failure> {
    let source = match &arguments.source {
        None => None,
        Some(name) => {
            let image = ImageArg { name: name.clone(), format: arguments.source_format.clone(), ..ImageArg::default() };
            Some(session.open_image(&image, OpenFlags::NO_BACKING).await?)
        }
    };
    let mut done = Ok(());
    for action in &arguments.actions {
        let result = act(action, arguments, node, source.as_deref().unwrap_or(node)).await;
        if let Err(error) = result {
            let doing = format!("Operation {} on bitmap {} failed", action.name(), arguments.bitmap);
            done = Err(Failure::block(doing, &error));
            break;
        }
    }
    if let Some(source) = source {
        let closed = source.close().await;
        done = done.and(closed.map_err(|error| Failure::block("Error while closing the source", &error)));
    }
    done
}

async fn act(action: &Action, arguments: &Arguments, node: &Node, source: &Node) -> Result<(), BlockError> {
    let name = &arguments.bitmap;
    let Some(bitmaps) = node.bitmaps() else { return Err(no_bitmaps(action, name, node)) };
    match action {
        Action::Add => {
            let new = NewBitmap { name: name.clone(), granularity: arguments.granularity, enabled: true };
            bitmaps.add(new).await
        }
        Action::Remove => bitmaps.remove(name).await,
        Action::Clear => bitmaps.clear(name).await,
        Action::Enable => bitmaps.set_enabled(name, true).await,
        Action::Disable => bitmaps.set_enabled(name, false).await,
        Action::Merge(from) => merge(bitmaps, name, source, from).await,
    }
}

async fn merge(bitmaps: &dyn BitmapOps, name: &str, source: &Node, from: &str) -> Result<(), BlockError> {
    let missing = |name: &str| BlockError::new(ErrorKind::NotFound, format!("Dirty bitmap '{name}' not found"));
    // The bitmap to be changed is looked for first.
    if !bitmaps.list().await?.iter().any(|bitmap| bitmap.name == name) {
        return Err(missing(name));
    }
    let source = source.bitmaps().ok_or_else(|| missing(from))?;
    let content = source.content(from).await?;
    bitmaps.merge(name, &content).await
}

/// What the reference says of an image whose format has no bitmaps.
fn no_bitmaps(action: &Action, name: &str, node: &Node) -> BlockError {
    if *action == Action::Add {
        let text = format!("Can't store persistent bitmaps to '{}': Operation not supported", node.filename());
        return BlockError::new(ErrorKind::Unsupported, text);
    }
    BlockError::new(ErrorKind::NotFound, format!("Dirty bitmap '{name}' not found"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Result<Arguments, String> {
        match parse(line.split_whitespace().map(str::to_owned).collect()) {
            Ok(Some(arguments)) => Ok(arguments),
            Ok(None) => Err("help".to_owned()),
            Err(failure) => Err(failure.into_text()),
        }
    }

    #[test]
    fn actions_keep_their_order() {
        let arguments =
            arguments("--add a.qcow2 b0 --disable --merge b1 -g 4k -b c.qcow2 -F raw --clear").expect("right");
        let merge = Action::Merge("b1".to_owned());
        assert_eq!(arguments.actions, [Action::Add, Action::Disable, merge, Action::Clear]);
        assert_eq!((arguments.shared.image.name.as_str(), arguments.bitmap.as_str()), ("a.qcow2", "b0"));
        assert_eq!((arguments.granularity, arguments.source.as_deref()), (Some(4096), Some("c.qcow2")));
        let zero = self::arguments("--clear -g 0 a b").expect("no granularity");
        assert_eq!(zero.granularity, None);
    }

    #[test]
    fn complaints_are_the_references() {
        for (line, text) in [
            ("a b", "Need at least one of --add, --remove, --clear, --enable, --disable, or --merge"),
            ("--clear -g 4k a b", "granularity only supported with --add"),
            ("--merge x -F raw a b", "-F only supported with -b"),
            ("--add -b x a b", "Merge bitmap source file only supported with --merge"),
            ("--add a", "Expecting filename and bitmap name"),
            ("--add a b c", "Expecting filename and bitmap name"),
            ("--add -g x a b", "Invalid granularity specified: 'x'."),
            ("--add --image-opts -f raw a b", "--image-opts and --format are mutually exclusive"),
        ] {
            assert_eq!(arguments(line).expect_err(line), format!("qemu-img: {text}"));
        }
        assert_eq!(arguments("-h").expect_err("help"), "help");
    }
}
