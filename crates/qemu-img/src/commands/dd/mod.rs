//! `qemu-img dd`: copies an image, or a part of it, block by block.
//!
//! ```text
//! operands ─► which bytes                ends ─► images and pipes
//! ```
//!
//! Unlike `convert` it looks at nothing and leaves nothing out, so it can read from and write to pipes. That, `-n`, `-l`,
//! `isize=` and `osize=` are Proxmox's additions to the reference.
//!
//! QEMU: `img_dd` (qemu-img.c)

mod ends;
mod operands;

use std::io::IsTerminal;
use std::sync::Arc;

use futures_util::future::join;
use qemu_block::backend::BlockBackend;
use qemu_block::error::BlockError;
use qemu_block::node::Node;
use qemu_block::options::{Options, check_create_options};
use qemu_block::types::OpenFlags;
use qemu_util::buf::IoBytes;
use qemu_util::units::MIB;

use self::ends::{Input, Output};
use self::operands::{Operands, Plan};
use super::Command;
use super::convert::target::{CreatedFile, files_of, is_stored_in, local_path};
use crate::cli::common::{ImageArg, OptionList};
use crate::cli::getopt::{Flag, Parser};
use crate::cli::manual::docs;
use crate::cli::program;
use crate::cli::shared::{Shared, SharedArgs};
use crate::cli::snapshot::SnapshotArg;
use crate::failure::{CommandResult, Failure, Outcome};
use crate::output::messages;
use crate::session::Session;
use crate::strict::Needs;

/// Bytes that are copied at once, whatever the size of a block is: only where the copy begins and ends depends on that.
const STEP: u64 = MIB;

/// The command.
pub(crate) const COMMAND: Command = Command {
    name: "dd",
    summary: "Copies an image, or a part of it, block by block.",
    synopsis: "[--image-opts] [-U] [-f FMT] [-O OUTPUT_FMT] [-n] [-l SNAPSHOT] [bs=BLOCK_SIZE] [count=BLOCKS] \
               [skip=BLOCKS] [isize=INPUT_SIZE] [osize=OUTPUT_SIZE] if=INPUT of=OUTPUT",
    options: || docs(FLAGS),
    operands: &[
        ("bs=BLOCK_SIZE", "bytes in a block (512)"),
        ("count=BLOCKS", "end before this block of the input"),
        ("skip=BLOCKS", "begin at this block of the input"),
        ("isize=INPUT_SIZE", "how long standard input is; 0 if it may end anywhere"),
        ("osize=OUTPUT_SIZE", "how large the output is to be (as large as what is copied)"),
        ("if=INPUT", "the image to read; without it standard input, with -f raw"),
        ("of=OUTPUT", "the image to write; without it standard output, in raw format"),
    ],
    notes: "",
    run,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    OutputFormat,
    NoCreate,
    Snapshot,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::shared(Shared::Help),
    Flag::shared(Shared::Object),
    Flag::shared(Shared::Format),
    Flag::value(Id::OutputFormat, Some('O'), &["output-format"]).named("FMT").doc("the output's format (raw)"),
    Flag::shared(Shared::ImageOpts),
    Flag::shared(Shared::ForceShare),
    Flag::switch(Id::NoCreate, Some('n'), &["no-create"]).written_out().doc("the output exists already"),
    Flag::value(Id::Snapshot, Some('l'), &["snapshot"])
        .written_out()
        .named("SNAPSHOT")
        .doc("read this internal snapshot of the input: a name or number, or snapshot.id=ID,snapshot.name=NAME"),
];

#[derive(Debug)]
struct Arguments {
    shared: SharedArgs,
    output_format: String,
    create: bool,
    snapshot: SnapshotArg,
    operands: Operands,
}

/// The arguments; none when the user asks for help.
fn parse(words: Vec<String>) -> Result<Option<Arguments>, Failure> {
    let mut parser = Parser::new(COMMAND.name, FLAGS, words);
    let mut snapshot = SnapshotArg::default();
    let (mut output_format, mut create) = ("raw".to_owned(), true);
    while let Some(given) = parser.next()? {
        match given.id {
            Id::OutputFormat => output_format = given.value,
            Id::NoCreate => create = false,
            Id::Snapshot => snapshot.add(&given.value)?,
        }
    }
    let Some((mut shared, operands)) = parser.finish() else { return Ok(None) };
    let operands = Operands::parse(operands)?;
    // A pipe has no format that could be recognised.
    let reads_well = operands.input.is_some() || shared.image.format.as_deref() == Some("raw");
    let writes_well = operands.output.is_some() || (output_format == "raw" && !std::io::stdout().is_terminal());
    if !reads_well || !writes_well {
        return Err(Failure::new("Must specify both input and output files"));
    }
    shared.image.name = operands.input.clone().unwrap_or_default();
    Ok(Some(Arguments { shared, output_format, create, snapshot, operands }))
}

/// The files that are copied from and to; pipes are open already.
fn needs(arguments: &Arguments) -> Needs {
    let Operands { input, output, .. } = &arguments.operands;
    let needs = Needs::of(COMMAND.name);
    let needs = if input.is_some() { needs.reads(&arguments.shared.image) } else { needs };
    match output {
        Some(name) if arguments.create => needs.creates(name, &OptionList::default()),
        Some(name) => needs.writes(&ImageArg { name: name.clone(), ..ImageArg::default() }),
        None => needs,
    }
}

fn run(words: Vec<String>) -> CommandResult {
    let Some(arguments) = parse(words)? else { return program::print(&COMMAND.help()) };
    needs(&arguments).confine()?;
    let session = Session::catching_signals()?.with_objects(&arguments.shared.objects);
    session.block_on(async {
        let input = open_input(&session, &arguments).await?;
        let copied = copy(&session, &arguments, &input).await;
        if let Input::Image(node) = input {
            // It was only read, so a failure to close loses nothing.
            drop(node.close().await);
        }
        copied.map(|()| Outcome::Success)
    })
}

async fn open_input(session: &Session, arguments: &Arguments) -> Result<Input, Failure> {
    if arguments.operands.input.is_none() {
        return Input::stdin().map_err(|error| Failure::block("Could not read standard input", &error));
    }
    arguments.shared.image.check_exclusive("--format")?;
    let node = session.open_image(&arguments.shared.image, OpenFlags::empty()).await?;
    arguments.snapshot.load(&[Arc::clone(&node)]).await?;
    Ok(Input::Image(node))
}

async fn copy(session: &Session, arguments: &Arguments, input: &Input) -> Result<(), Failure> {
    let input_len = match input {
        Input::Image(node) => Some(node.len()),
        Input::Pipe(_) => None,
    };
    let plan = Plan::new(&arguments.operands, input_len);
    let (output, file) = match &arguments.operands.output {
        Some(name) => open_output(session, arguments, name, input, &plan).await?,
        None => {
            let stdout = Output::stdout();
            let stdout = stdout.map_err(|error| Failure::block("Could not write to standard output", &error))?;
            (stdout, CreatedFile::none())
        }
    };
    if plan.skips_too_much {
        messages::print_error(&format!("qemu-img: {}: cannot skip to specified offset", arguments.shared.image.name));
    }
    let copied = Copy { session, input, output: &output, plan }.run().await;
    if let Output::Image(backend) = output {
        let closed = backend.close().await;
        copied?;
        let name = arguments.operands.output.as_deref().unwrap_or_default();
        closed.map_err(|error| Failure::block(format!("error while closing '{name}'"), &error))?;
    } else {
        copied?;
    }
    file.keep();
    Ok(())
}

/// Creates the output, if it is to be created, and opens it.
async fn open_output(
    session: &Session,
    arguments: &Arguments,
    name: &str,
    input: &Input,
    plan: &Plan,
) -> Result<(Output, CreatedFile), Failure> {
    let format = &arguments.output_format;
    let mut file = CreatedFile::none();
    if arguments.create {
        let schema = session.context().create_schema(format, Some(name)).map_err(|error| {
            let is_known = session.context().registry().driver(format).is_some();
            if is_known { Failure::new(error.chain()) } else { Failure::new("Unknown file format") }
        })?;
        let Some(len) = plan.output_len else {
            return Err(Failure::new("Output size must be known when reading from stdin"));
        };
        let failed = |error: &BlockError| Failure::block(format!("{name}: error while creating output image"), error);
        let mut options = check_create_options(&schema, &Options::new()).map_err(|error| failed(&error))?;
        options.set("size", len);
        check_not_the_input(name, input)?;
        session.context().create(format, name, options).await.map_err(|error| failed(&error))?;
        file = CreatedFile::find(local_path(name), session.signals());
    }
    let image = ImageArg { name: name.to_owned(), format: Some(format.clone()), ..ImageArg::default() };
    let backend = BlockBackend::new(session.open_image(&image, OpenFlags::WRITE).await?);
    if plan.end.is_some_and(|end| backend.len() < end - plan.start) {
        // Nothing has been written, so there is nothing to lose.
        drop(backend.close().await);
        return Err(Failure::new("output file is smaller than input file"));
    }
    Ok((Output::Image(backend), file))
}

/// Refuses to create the output where the input is stored, which would destroy it.
///
/// The reference does so only for formats that lock more than raw images do.
fn check_not_the_input(name: &str, input: &Input) -> Result<(), Failure> {
    let Input::Image(node) = input else { return Ok(()) };
    if !is_stored_in(name, &files_below(node)) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{name}: error while creating output image: Failed to get \"write\" lock\nIs another process using the image \
         [{name}]?"
    )))
}

fn files_below(node: &Node) -> Vec<qemu_block::driver::FileIdentity> {
    let mut files = Vec::new();
    files_of(node, &mut files);
    files
}

/// A copy under way.
struct Copy<'a> {
    session: &'a Session,
    input: &'a Input,
    output: &'a Output,
    plan: Plan,
}

impl Copy<'_> {
    /// Copies from the start to the end; the next piece is read while one is written.
    async fn run(&self) -> Result<(), Failure> {
        let Plan { start, end, .. } = self.plan;
        if let Input::Pipe(_) = self.input {
            self.skip(start).await?;
        }
        let mut at = start;
        let mut data = self.read(at).await?;
        while !data.is_empty() {
            let next = at + data.len() as u64;
            let is_last = end == Some(next) || (data.len() as u64) < self.wanted(at);
            let writing = self.output.write(at - start, data);
            let (written, read) =
                join(writing, async { if is_last { Ok(None) } else { self.read(next).await.map(Some) } }).await;
            written.map_err(|error| {
                Failure::new(format!("error while writing to output image file: {}", error.errno_text()))
            })?;
            at = next;
            match read? {
                Some(more) => data = more,
                None => break,
            }
        }
        match end {
            Some(end) if at < end && !self.plan.may_end_early => Err(Failure::new("Input ended unexpectedly")),
            _ => Ok(()),
        }
    }

    /// Reads what is to be skipped of a pipe.
    async fn skip(&self, bytes: u64) -> Result<(), Failure> {
        let mut skipped = 0;
        while skipped < bytes {
            let data = self.read_piece(skipped, STEP.min(bytes - skipped)).await?;
            if data.is_empty() {
                break;
            }
            skipped += data.len() as u64;
        }
        Ok(())
    }

    fn wanted(&self, at: u64) -> u64 {
        self.plan.end.map_or(STEP, |end| STEP.min(end - at))
    }

    async fn read(&self, at: u64) -> Result<IoBytes, Failure> {
        self.read_piece(at, self.wanted(at)).await
    }

    async fn read_piece(&self, at: u64, len: u64) -> Result<IoBytes, Failure> {
        self.session.signals().check()?;
        let len = usize::try_from(len).expect("a step");
        self.input
            .read(at, len, &self.session.services().buffers)
            .await
            .map_err(|error| Failure::new(format!("error while reading from input image file: {}", error.errno_text())))
    }
}
