//! `qemu-img measure`: how large an image will be.
//!
//! QEMU: `img_measure` (qemu-img.c)

use std::sync::Arc;

use qemu_block::manage::{Measurement, SnapshotSelector};
use qemu_block::node::Node;
use qemu_block::options::{Options, check_create_options};
use qemu_block::types::OpenFlags;

use super::Command;
use crate::cli::common::{ImageArg, OptionList, OutputFormat};
use crate::cli::getopt::{Flag, Parser};
use crate::cli::manual::docs;
use crate::cli::number::{SIZE_MAX, parse_number};
use crate::cli::object::Objects;
use crate::cli::program;
use crate::cli::shared::{Shared, SharedArgs};
use crate::cli::snapshot::load_snapshot;
use crate::failure::{CommandResult, Failure, Outcome};
use crate::output::json::Json;
use crate::output::messages;
use crate::session::Session;
use crate::strict::Needs;

/// The command.
pub(crate) const COMMAND: Command = Command {
    name: "measure",
    summary: "Tells how large an image will be, with the data of another one or of a given size.",
    synopsis: "[--object OBJDEF] [--image-opts | -f FMT] [--output human|json] [-O OUTPUT_FMT] [-o OPTIONS] \
               [--size N | [-l SNAPSHOT_PARAM] [-U] FILENAME]",
    options: || docs(FLAGS),
    operands: &[("FILENAME", "the image whose data the new one will have")],
    notes: "",
    run,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    TargetFormat,
    Options,
    Snapshot,
    Size,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::shared(Shared::Help),
    Flag::value(Id::TargetFormat, Some('O'), &["target-format"])
        .named("FMT")
        .doc("the new image's format (default: raw)"),
    Flag::shared(Shared::Format),
    Flag::shared(Shared::ImageOpts),
    Flag::value(Id::Options, Some('o'), &["options"]).named("OPTIONS").doc("options of the new image, as for create"),
    Flag::value(Id::Snapshot, Some('l'), &["snapshot"]).named("SNAPSHOT").doc("measure this snapshot of FILENAME"),
    Flag::shared(Shared::Object),
    Flag::shared(Shared::Output),
    Flag::value(Id::Size, None, &["size"]).named("N").doc("measure an empty image of this size"),
    Flag::shared(Shared::ForceShare),
];

#[derive(Debug, Default)]
struct Arguments {
    /// The image to measure; none if a size is given.
    image: Option<ImageArg>,
    size: Option<u64>,
    snapshot: Option<SnapshotSelector>,
    target: Option<String>,
    options: OptionList,
    objects: Objects,
    output: OutputFormat,
}

/// The arguments; none when the user asks for help.
fn parse(words: Vec<String>) -> Result<Option<Arguments>, Failure> {
    let mut parser = Parser::new(COMMAND.name, FLAGS, words);
    let mut arguments = Arguments::default();
    while let Some(given) = parser.next()? {
        match given.id {
            Id::TargetFormat => arguments.target = Some(given.value),
            Id::Options => arguments.options.add(&given.value)?,
            Id::Snapshot => arguments.snapshot = Some(parse_snapshot(&given.value)?),
            Id::Size => arguments.size = Some(parse_number("image size", &given.value, 0..=SIZE_MAX)?),
        }
    }
    let Some((SharedArgs { mut image, objects, output, .. }, mut operands)) = parser.finish() else { return Ok(None) };
    (arguments.objects, arguments.output) = (objects, output);
    if operands.len() > 1 {
        return Err(Failure::new("At most one filename argument is allowed."));
    }
    match (operands.pop(), arguments.size) {
        (None, _) if image.image_opts || image.format.is_some() || arguments.snapshot.is_some() => {
            Err(Failure::new("--image-opts, -f, and -l require a filename argument."))
        }
        (None, None) => Err(Failure::new("Either --size N or one filename must be specified.")),
        (Some(_), Some(_)) => Err(Failure::new("--size N cannot be used together with a filename.")),
        (None, Some(_)) => Ok(Some(arguments)),
        (Some(name), None) => {
            image.name = name;
            image.check_exclusive("--format")?;
            Ok(Some(Arguments { image: Some(image), ..arguments }))
        }
    }
}

/// The value of `-l`: a list of `snapshot.id` and `snapshot.name`, or an identifier or name.
fn parse_snapshot(text: &str) -> Result<SnapshotSelector, Failure> {
    if !text.starts_with("snapshot.") {
        return Ok(SnapshotSelector::Any(text.to_owned()));
    }
    let bad = |why: String| Failure::new(format!("{why}\nqemu-img: Failed in parsing snapshot param '{text}'"));
    let mut options = Options::parse_keyval(text, None).map_err(|error| bad(error.chain()))?;
    let (id, name) = (options.take_str("snapshot.id"), options.take_str("snapshot.name"));
    match options.keys().next() {
        Some(key) => Err(bad(format!("Invalid parameter '{key}'"))),
        None => Ok(SnapshotSelector::Exact { id, name }),
    }
}

fn run(words: Vec<String>) -> CommandResult {
    let Some(arguments) = parse(words)? else { return program::print(&COMMAND.help()) };
    Needs::of(COMMAND.name).reads_all(&arguments.image).confine()?;
    let session = Session::new()?.with_objects(&arguments.objects);
    session.block_on(async {
        let source = match &arguments.image {
            Some(image) => Some(session.open_image(image, OpenFlags::empty()).await?),
            None => None,
        };
        let measured = measure(&session, &arguments, source.as_ref()).await;
        if let Some(source) = source {
            // Nothing was written, so that closing cannot lose anything.
            drop(source.close().await);
        }
        messages::print(&match arguments.output {
            OutputFormat::Human => to_human(measured?),
            OutputFormat::Json => to_json(measured?).pretty(),
        })?;
        Ok(Outcome::Success)
    })
}

async fn measure(session: &Session, arguments: &Arguments, source: Option<&Arc<Node>>) -> Result<Measurement, Failure> {
    if let (Some(source), Some(which)) = (source, &arguments.snapshot) {
        load_snapshot(source, which).await?;
    }
    let format = arguments.target.as_deref().unwrap_or("raw");
    let Some(driver) = session.context().registry().driver(format) else {
        return Err(Failure::new(format!("Unknown file format '{format}'")));
    };
    if driver.create_options().is_empty() {
        return Err(Failure::new(format!("Format driver '{format}' does not support image creation")));
    }
    // Options of the file below are accepted, as they are when the image is created.
    let schema = session.context().create_schema(format, Some("file"));
    let schema = schema.map_err(|error| Failure::new(error.chain()))?;
    let options = arguments.options.parse().and_then(|options| check_create_options(&schema, &options));
    let mut options = options.map_err(|error| {
        Failure::new(format!("{}\nqemu-img: Invalid options for file format '{format}'", error.chain()))
    })?;
    if let Some(size) = arguments.size {
        options.set("size", size);
    }
    for name in ["key-secret", "encrypt.key-secret"] {
        if let Some(id) = options.get_str(name) {
            let secret = arguments.objects.secrets().get(&id);
            secret.map(drop).map_err(|error| Failure::new(error.to_string()))?;
        }
    }
    driver.measure(options, source).await.map_err(|error| Failure::new(error.chain()))
}

fn to_human(measured: Measurement) -> String {
    let Measurement { required, fully_allocated, bitmaps } = measured;
    let mut text = format!("required size: {required}\nfully allocated size: {fully_allocated}\n");
    if let Some(bitmaps) = bitmaps {
        text.push_str(&format!("bitmaps size: {bitmaps}\n"));
    }
    text
}

fn to_json(measured: Measurement) -> Json {
    let Measurement { required, fully_allocated, bitmaps } = measured;
    let bitmaps = bitmaps.map(|bitmaps| ("bitmaps", Json::Int(bitmaps)));
    let sizes = [("required", Json::Int(required)), ("fully-allocated", Json::Int(fully_allocated))];
    Json::Object(bitmaps.into_iter().chain(sizes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        for (words, text) in [
            (&[][..], "qemu-img: Either --size N or one filename must be specified."),
            (&["a", "b"], "qemu-img: At most one filename argument is allowed."),
            (&["--size", "1", "a"], "qemu-img: --size N cannot be used together with a filename."),
            (&["-f", "raw", "--size", "1"], "qemu-img: --image-opts, -f, and -l require a filename argument."),
            (
                &["-l", "snapshot.foo=x", "a"],
                "qemu-img: Invalid parameter 'snapshot.foo'\nqemu-img: Failed in parsing snapshot param \
                 'snapshot.foo=x'",
            ),
        ] {
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            let complaint = parse(words).expect_err(text).into_text();
            assert_eq!(complaint, text);
        }
    }

    #[test]
    fn snapshots_are_named_in_two_ways() {
        assert_eq!(parse_snapshot("x=y").expect("a name"), SnapshotSelector::Any("x=y".to_owned()));
        let exact = SnapshotSelector::Exact { id: Some("1".to_owned()), name: Some("a".to_owned()) };
        assert_eq!(parse_snapshot("snapshot.name=a,snapshot.id=1").expect("a list"), exact);
    }

    #[test]
    fn bitmaps_come_first_in_json() {
        let measured = Measurement { required: 1, fully_allocated: 2, bitmaps: Some(3) };
        assert_eq!(
            to_json(measured).pretty(),
            "{\n    \"bitmaps\": 3,\n    \"required\": 1,\n    \"fully-allocated\": 2\n}\n"
        );
        assert_eq!(to_human(measured), "required size: 1\nfully allocated size: 2\nbitmaps size: 3\n");
    }
}
