//! `qemu-img commit`: writes what an image has into its backing file. QEMU: `img_commit` (qemu-img.c)
//!
//! Nothing of the image is given up before the backing file has all of it, durably.

use std::fs;

use qemu_block::error::BlockError;
use qemu_block::io::block_status_above;
use qemu_block::node::{ChildRole, Node};
use qemu_block::registry::{path_has_protocol, resolve_backing_name};
use qemu_block::types::{OpenFlags, PreallocMode, WriteFlags, ZeroFlags};
use qemu_util::primitive::Arc;
use qemu_util::units::MIB;

use super::Command;
use crate::cli::common::{one_filename, parse_cache};
use crate::cli::getopt::{Flag, Parser};
use crate::cli::manual::docs;
use crate::cli::number::{SIZE_MAX, parse_number};
use crate::cli::program;
use crate::cli::shared::{Shared, SharedArgs};
use crate::failure::{CommandResult, Failure, Outcome};
use crate::output::messages;
use crate::output::progress::Progress;
use crate::rate::RateLimit;
use crate::session::Session;
use crate::strict::Needs;

/// Bytes that are copied at once.
const STEP: u64 = 2 * MIB;

/// The command.
pub(crate) const COMMAND: Command = Command {
    name: "commit",
    summary: "Writes what an image has into its backing file.",
    synopsis: "[--object OBJDEF] [--image-opts | -f FMT] [-t CACHE] [-b BASE] [-d] [-r RATE] [-p] [-q] FILENAME",
    options: || docs(FLAGS),
    operands: &[("FILENAME", "the image")],
    notes: "",
    run,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    Cache,
    Drop,
    Base,
    Rate,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::shared(Shared::Help),
    Flag::shared(Shared::Quiet),
    Flag::shared(Shared::Object),
    Flag::shared(Shared::Format),
    Flag::shared(Shared::ImageOpts),
    Flag::value(Id::Cache, Some('t'), &["cache"])
        .named("CACHE")
        .doc("none, writeback (the default), writethrough, directsync or unsafe"),
    Flag::switch(Id::Drop, Some('d'), &["drop"]).doc("do not empty the image afterwards"),
    Flag::value(Id::Base, Some('b'), &["base"])
        .named("BASE")
        .doc("the image of the backing chain to write into; implies -d"),
    Flag::shared(Shared::Progress),
    Flag::value(Id::Rate, Some('r'), &["rate"]).named("RATE").doc("write at most so many bytes per second"),
];

#[derive(Debug, Default)]
struct Arguments {
    shared: SharedArgs,
    base: Option<String>,
    keep: bool,
    /// Bytes per second; zero: no limit.
    rate: u64,
}

/// The arguments; none when the user asks for help.
fn parse(words: Vec<String>) -> Result<Option<Arguments>, Failure> {
    let mut parser = Parser::new(COMMAND.name, FLAGS, words);
    let mut arguments = Arguments::default();
    let mut cache = None;
    while let Some(given) = parser.next()? {
        match given.id {
            Id::Cache => cache = Some(given.value),
            Id::Drop => arguments.keep = true,
            Id::Base => {
                arguments.base = Some(given.value);
                arguments.keep = true;
            }
            Id::Rate => arguments.rate = parse_number("rate limit", &given.value, 0..=SIZE_MAX)?,
        }
    }
    let Some((shared, operands)) = parser.finish() else { return Ok(None) };
    arguments.shared = shared;
    arguments.shared.image.name = one_filename(COMMAND.name, operands)?;
    arguments.shared.image.check_exclusive("--format")?;
    let parse_cache = |name: String| parse_cache(&name, |name| format!("Invalid cache option: {name}"));
    arguments.shared.image.cache = cache.map(parse_cache).transpose()?;
    Ok(Some(arguments))
}

fn run(words: Vec<String>) -> CommandResult {
    let Some(arguments) = parse(words)? else { return program::print(&COMMAND.help()) };
    Needs::of(COMMAND.name).writes(&arguments.shared.image).confine()?;
    let session = Session::catching_signals()?.with_objects(&arguments.shared.objects);
    session.block_on(commit(&session, &arguments))
}

async fn commit(session: &Session, arguments: &Arguments) -> CommandResult {
    let name = &arguments.shared.image.name;
    let flags = OpenFlags::WRITE | OpenFlags::RESIZE;
    // At first as it is opened by everybody: what is wrong with the chain is found out before it is written to.
    let node = session.open_image(&arguments.shared.image, flags).await?;
    let progress =
        Progress::new(arguments.shared.progress, arguments.shared.quiet, session.signals().clone()).of("commit");
    progress.start();
    let depth = depth_of_base(arguments, &node).await;
    let closed = node.close().await.map_err(|error| Failure::block(format!("Could not close '{name}'"), &error));
    let committed = match (depth, closed) {
        (Ok(depth), Ok(())) => commit_into(session, arguments, depth, &progress).await,
        (Err(failure), _) | (Ok(_), Err(failure)) => Err(failure),
    };
    match &committed {
        Ok(()) => progress.finish(),
        Err(_) => progress.abandon(),
    }
    committed?;
    if !arguments.shared.quiet {
        messages::print("Image committed.\n")?;
    }
    Ok(Outcome::Success)
}

/// Opens the image once more, the file that is written into writable, and commits.
async fn commit_into(session: &Session, arguments: &Arguments, depth: u32, progress: &Progress) -> Result<(), Failure> {
    let name = &arguments.shared.image.name;
    let spec = arguments.shared.image.open_spec(OpenFlags::WRITE | OpenFlags::RESIZE)?;
    // The image could be opened before, so the failure is that of the base alone.
    let node = session.context().with_writable_backing(depth).open(spec).await.map_err(|error| {
        let chain = error.chain();
        let own = chain.rfind("Could not open '").unwrap_or(0);
        Failure::new(&chain[own..]).of_kind(&error)
    })?;
    let limit = session.rate_limit(arguments.rate);
    let committed = commit_opened(arguments, &node, depth, &limit, progress).await;
    let closed = node.close().await;
    committed?;
    closed.map_err(|error| Failure::block(format!("Could not close '{name}'"), &error))
}

/// How many links down the chain the image is that is written into.
async fn depth_of_base(arguments: &Arguments, node: &Arc<Node>) -> Result<u32, Failure> {
    let Some(wanted) = &arguments.base else {
        let backing = node.child(ChildRole::Backing);
        return backing.map(|_| 1).ok_or_else(|| Failure::new("Image does not have a backing file"));
    };
    let mut depth = 0;
    let mut overlay = Arc::clone(node);
    while let Some(backing) = overlay.child(ChildRole::Backing) {
        depth += 1;
        if is_called(&overlay, &backing, wanted).await {
            return Ok(depth);
        }
        overlay = backing;
    }
    let name = &arguments.shared.image.name;
    Err(Failure::new(format!("Did not find '{wanted}' in the backing chain of '{name}'")))
}

/// Whether `wanted` is a name of the backing file of `overlay`.
///
/// Files are recognised by where their paths lead, seen from the folder of the overlay; everything else by its name.
///
/// QEMU: `bdrv_find_backing_image` (block.c)
async fn is_called(overlay: &Node, backing: &Node, wanted: &str) -> bool {
    let stored = overlay.info().await.ok().and_then(|info| info.backing_filename);
    if path_has_protocol(wanted) || path_has_protocol(backing.filename()) {
        return wanted == backing.filename() || stored.is_some_and(|stored| stored == wanted);
    }
    let lead = |path: &str| fs::canonicalize(path).ok();
    let wanted = lead(&resolve_backing_name(overlay.filename(), wanted));
    wanted.is_some() && wanted == lead(backing.filename())
}

async fn commit_opened(
    arguments: &Arguments,
    node: &Arc<Node>,
    depth: u32,
    limit: &RateLimit,
    progress: &Progress,
) -> Result<(), Failure> {
    let mut base = Arc::clone(node);
    for _ in 0..depth {
        let backing = base.child(ChildRole::Backing);
        base = backing.ok_or_else(|| Failure::new("Image does not have a backing file"))?;
    }
    copy_down(node, &base, limit, progress).await?;
    progress.check_stop()?;
    if arguments.keep {
        return Ok(());
    }
    let Some(amending) = node.amending() else { return Ok(()) };
    let emptied = amending.make_empty().await;
    emptied.map_err(|error| Failure::block(format!("Could not empty {}", arguments.shared.image.name), &error))
}

/// Writes what lies above `base` into it, and makes that durable.
async fn copy_down(node: &Arc<Node>, base: &Arc<Node>, limit: &RateLimit, progress: &Progress) -> Result<(), Failure> {
    let plain = |error: BlockError| Failure::new(error.chain()).of_kind(&error);
    let size = node.len();
    if base.len() < size {
        base.truncate(size, PreallocMode::Off).await.map_err(plain)?;
    }
    let mut offset = 0;
    while offset < size {
        progress.check_stop()?;
        progress.set(offset, size);
        let found = block_status_above(node, Some(base), offset, size - offset).await.map_err(plain)?;
        let len = if found.status.len == 0 { size - offset } else { found.status.len };
        if found.node.is_none() {
            offset += len;
            continue;
        }
        if found.status.is_zero() {
            base.write_zeroes(offset, len, ZeroFlags::MAY_UNMAP).await.map_err(plain)?;
            offset += len;
            continue;
        }
        let len = len.min(STEP);
        let data = node.read_bytes(offset, usize::try_from(len).expect("a step")).await.map_err(plain)?;
        base.write(offset, data.into(), WriteFlags::empty()).await.map_err(plain)?;
        limit.pass(len).await;
        offset += len;
    }
    base.flush().await.map_err(plain)
}
