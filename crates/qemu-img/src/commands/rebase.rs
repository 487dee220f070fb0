//! `qemu-img rebase`: gives an image another backing file. QEMU: `img_rebase` (qemu-img.c)
//!
//! In safe mode the disk shows afterwards what it showed before: what differs between the old and the new backing file is
//! copied into the image, and all of that is durable before the image names the new one. A failure of the last step, or
//! of closing, is a failure of the command.

use qemu_block::error::{BlockError, ErrorKind};
use qemu_block::io::block_status_above;
use qemu_block::manage::BackingLink;
use qemu_block::node::{ChildRole, Node};
use qemu_block::registry::{OpenSpec, resolve_backing_name};
use qemu_block::types::{CacheMode, OpenFlags, WriteFlags, ZeroFlags};
use qemu_util::buf::{IoBuf, IoVec};
use qemu_util::primitive::Arc;
use qemu_util::units::MIB;
use qemu_util::zero::is_zero;

use super::Command;
use crate::cli::common::{ImageArg, one_filename, parse_cache, permissions};
use crate::cli::getopt::{Flag, Parser};
use crate::cli::manual::docs;
use crate::cli::program;
use crate::cli::shared::{Shared, SharedArgs};
use crate::failure::{CommandResult, Failure, Outcome};
use crate::output::progress::Progress;
use crate::session::Session;
use crate::strict::Needs;

/// Bytes that are compared at once.
const STEP: u64 = 2 * MIB;
/// The grain of the comparison where the format has none.
const GRAIN: u64 = 64 << 10;

/// The command.
pub(crate) const COMMAND: Command = Command {
    name: "rebase",
    summary: "Gives an image another backing file.",
    synopsis: "[--object OBJDEF] [--image-opts | -f FMT] [-t CACHE] [-T CACHE] [-q] [-U] [-p] [-u] [-c] \
               -b BACKING [-F BACKING_FMT] FILENAME",
    options: || docs(FLAGS),
    operands: &[("FILENAME", "the image")],
    notes: "",
    run,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    Cache,
    Backing,
    BackingFormat,
    BackingCache,
    Unsafe,
    Compress,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::shared(Shared::Help),
    Flag::shared(Shared::Quiet),
    Flag::shared(Shared::Progress),
    Flag::shared(Shared::Object),
    Flag::shared(Shared::ImageOpts),
    Flag::shared(Shared::ForceShare),
    Flag::shared(Shared::Format),
    Flag::value(Id::Cache, Some('t'), &["cache"]).named("CACHE").doc("cache mode of the image (writeback)"),
    Flag::switch(Id::Compress, Some('c'), &["compress"]).doc("compress what is copied"),
    Flag::value(Id::Backing, Some('b'), &["backing"])
        .named("BACKING")
        .doc("the new backing file; an empty name for none"),
    Flag::value(Id::BackingFormat, Some('F'), &["backing-format"]).named("FMT").doc("its format"),
    Flag::value(Id::BackingFormat, Some('B'), &[]).named("BACKING_FMT").doc("an older name of -F"),
    Flag::value(Id::BackingCache, Some('T'), &["backing-cache"])
        .named("CACHE")
        .doc("cache mode of the backing files (writeback)"),
    Flag::switch(Id::Unsafe, Some('u'), &["backing-unsafe"])
        .doc("change the name only: the disk may show something else afterwards"),
];

#[derive(Debug, Default)]
struct Arguments {
    shared: SharedArgs,
    backing: Option<String>,
    backing_format: Option<String>,
    backing_cache: Option<CacheMode>,
    is_unsafe: bool,
    compress: bool,
}

impl Arguments {
    /// The new backing file's name, if there is to be one.
    fn new_backing(&self) -> Option<&str> {
        self.backing.as_deref().filter(|name| !name.is_empty())
    }
}

/// The arguments; none when the user asks for help.
fn parse(words: Vec<String>) -> Result<Option<Arguments>, Failure> {
    let mut parser = Parser::new(COMMAND.name, FLAGS, words);
    let mut arguments = Arguments::default();
    let (mut cache, mut backing_cache) = (None, None);
    while let Some(given) = parser.next()? {
        match given.id {
            Id::Cache => cache = Some(given.value),
            Id::Backing => arguments.backing = Some(given.value),
            Id::BackingFormat => arguments.backing_format = Some(given.value),
            Id::BackingCache => backing_cache = Some(given.value),
            Id::Unsafe => arguments.is_unsafe = true,
            Id::Compress => arguments.compress = true,
        }
    }
    let Some((shared, operands)) = parser.finish() else { return Ok(None) };
    arguments.shared = shared;
    arguments.shared.image.name = one_filename(COMMAND.name, operands)?;
    if arguments.backing.is_none() && !arguments.is_unsafe {
        return Err(Failure::usage(COMMAND.name, "Must specify backing file (-b) or use unsafe mode (-u)"));
    }
    arguments.shared.image.check_exclusive("--format")?;
    let parse = |name: String| parse_cache(&name, |name| format!("Invalid cache option: {name}"));
    arguments.shared.image.cache = cache.map(parse).transpose()?;
    let parse = |name: String| parse_cache(&name, |name| format!("Invalid source cache option: {name}"));
    arguments.backing_cache = backing_cache.map(parse).transpose()?;
    Ok(Some(arguments))
}

fn run(words: Vec<String>) -> CommandResult {
    let Some(arguments) = parse(words)? else { return program::print(&COMMAND.help()) };
    let image = &arguments.shared.image;
    let needs = Needs::of(COMMAND.name).writes(image);
    arguments.backing.iter().fold(needs, |needs, name| needs.reads_backing(&image.name, name)).confine()?;
    let session = Session::catching_signals()?.with_objects(&arguments.shared.objects);
    session.block_on(rebase(&session, &arguments))
}

async fn rebase(session: &Session, arguments: &Arguments) -> CommandResult {
    let mut flags = OpenFlags::WRITE | OpenFlags::RESIZE;
    flags.set(OpenFlags::NO_BACKING, arguments.is_unsafe);
    let progress =
        Progress::new(arguments.shared.progress, arguments.shared.quiet, session.signals().clone()).of("rebase");
    progress.start();
    // The image is written to and so cannot be shared; as in the reference -U is taken and means nothing.
    let image = ImageArg { force_share: false, ..arguments.shared.image.clone() };
    let node = match session.open_image(&image, flags).await {
        Ok(node) => node,
        Err(failure) => {
            progress.abandon();
            return Err(failure);
        }
    };
    let rebased = rebase_opened(session, arguments, &node, &progress).await;
    let closed = node.close().await;
    match &rebased {
        Ok(()) => progress.finish(),
        Err(_) => progress.abandon(),
    }
    rebased?;
    closed.map_err(|error| Failure::block(format!("Could not close '{}'", arguments.shared.image.name), &error))?;
    Ok(Outcome::Success)
}

async fn rebase_opened(
    session: &Session,
    arguments: &Arguments,
    node: &Arc<Node>,
    progress: &Progress,
) -> Result<(), Failure> {
    let format = arguments.backing_format.as_deref();
    if let Some(format) = format.filter(|format| session.context().registry().driver(format).is_none()) {
        return Err(Failure::new(format!("Invalid format name: '{format}'")));
    }
    if !arguments.is_unsafe {
        let new = open_new_backing(session, arguments, node).await?;
        let copied = Rebase { node, new: new.as_ref(), compress: arguments.compress, progress }.copy().await;
        if let Some(new) = new {
            // It was only read, so a failure to close loses nothing.
            drop(new.close().await);
        }
        copied?;
    }
    change_backing(arguments, node).await
}

async fn open_new_backing(
    session: &Session,
    arguments: &Arguments,
    node: &Arc<Node>,
) -> Result<Option<Arc<Node>>, Failure> {
    let Some(name) = arguments.new_backing() else { return Ok(None) };
    let mut flags = OpenFlags::empty();
    if let Some(cache) = arguments.backing_cache {
        flags |= cache.open_flags();
    }
    let (perm, shared) = permissions(flags);
    let spec = OpenSpec {
        driver: arguments.backing_format.clone(),
        flags,
        perm,
        shared,
        ..OpenSpec::file(resolve_backing_name(node.filename(), name))
    };
    let opened = session.context().open(spec).await;
    opened.map(Some).map_err(|error| Failure::block(format!("Could not open new backing file '{name}'"), &error))
}

/// Writes the new link into the image.
async fn change_backing(arguments: &Arguments, node: &Arc<Node>) -> Result<(), Failure> {
    let shown = arguments.backing.as_deref().unwrap_or_default();
    let failed = |reason: &str| Failure::new(format!("Could not change the backing file to '{shown}': {reason}"));
    let Some(amending) = node.amending() else { return Err(failed("Operation not supported")) };
    let link = match (arguments.new_backing(), &arguments.backing_format) {
        (None, _) => None,
        (Some(_), None) => return Err(failed("backing format must be specified")),
        (Some(name), Some(format)) => Some(BackingLink { name: name.to_owned(), format: Some(format.clone()) }),
    };
    amending.change_backing(link).await.map_err(|error| match error.kind() {
        ErrorKind::NoSpace if error.errno() == libc::ENOSPC => failed("No space left in the file header"),
        _ => failed(&error.errno_text()),
    })
}

/// The comparison of the two backing files.
struct Rebase<'a> {
    node: &'a Arc<Node>,
    new: Option<&'a Arc<Node>>,
    compress: bool,
    progress: &'a Progress,
}

/// What is known of a range of a backing chain.
enum Below {
    Zeros,
    Data,
}

impl Rebase<'_> {
    /// Copies what differs, and makes it durable.
    async fn copy(&self) -> Result<(), Failure> {
        let size = self.node.len();
        let old = self.node.child(ChildRole::Backing);
        // Where the new backing file is part of the old chain, only what lies above it can differ.
        let common = old.as_ref().and_then(|old| self.in_chain(old));
        let mut offset = 0;
        while offset < size {
            self.progress.check_stop()?;
            self.progress.set(offset, size);
            let wanted = STEP.min(size - offset);
            let own = self.node.block_status(offset, wanted).await.map_err(|error| status_failed(offset, &error))?;
            let mut len = own.len.min(wanted);
            if !own.is_allocated() {
                if let (Some(old), Some(common)) = (&old, &common) {
                    let above = block_status_above(old, Some(common), offset, len).await;
                    let above = above.map_err(|error| status_failed(offset, &error))?;
                    let alike = if above.status.len == 0 { len } else { above.status.len.min(len) };
                    if above.node.is_none() {
                        let skipped = self.whole(offset, alike);
                        offset += skipped;
                        if skipped > 0 {
                            continue;
                        }
                    }
                    len = self.up_to_whole(offset, alike, len);
                }
                len = self.copy_range(old.as_ref(), offset, len).await?;
            }
            offset += len;
        }
        self.node.flush().await.map_err(|error| Failure::block("error while writing to the image", &error))
    }

    /// The node of the old chain that is the new backing file.
    fn in_chain(&self, old: &Arc<Node>) -> Option<Arc<Node>> {
        let identity = |node: &Arc<Node>| node.child(ChildRole::Storage).and_then(|storage| storage.identity());
        let wanted = identity(self.new?)?;
        let mut current = Some(Arc::clone(old));
        while let Some(node) = current {
            if identity(&node) == Some(wanted) {
                return Some(node);
            }
            current = node.child(ChildRole::Backing);
        }
        None
    }

    /// Compares the two backing files and copies what differs; returns how far it got.
    async fn copy_range(&self, old: Option<&Arc<Node>>, offset: u64, len: u64) -> Result<u64, Failure> {
        let (old_below, alike) = below(old, offset, len).await?;
        let (new_below, alike) = below(self.new, offset, alike).await?;
        if matches!((&old_below, &new_below), (Below::Zeros, Below::Zeros)) && self.whole(offset, alike) > 0 {
            return Ok(self.whole(offset, alike));
        }
        let len = self.up_to_whole(offset, alike, len);
        let old_data = read_below(old, offset, len, "old").await?;
        let new_data = read_below(self.new, offset, len, "new").await?;
        let grain = self.grain();
        let mut at = 0;
        while at < len {
            let end = ((offset + at) / grain + 1) * grain - offset;
            let piece = usize::try_from(at).expect("small")..usize::try_from(end.min(len)).expect("small");
            if old_data[piece.clone()] != new_data[piece.clone()] {
                self.write(offset + at, &old_data[piece])
                    .await
                    .map_err(|error| Failure::block("Error while writing to COW image", &error))?;
            }
            at = end.min(len);
        }
        Ok(len)
    }

    /// How many of `len` bytes are whole clusters. What is behind the end of the disk is missing nowhere.
    fn whole(&self, offset: u64, len: u64) -> u64 {
        let end = offset + len;
        let end = if end == self.node.len() { end } else { end - end % self.grain() };
        end.saturating_sub(offset)
    }

    /// So many bytes and the rest of their last cluster, but no more than `len_max`.
    fn up_to_whole(&self, offset: u64, len: u64, len_max: u64) -> u64 {
        let end = (offset + len).checked_next_multiple_of(self.grain()).unwrap_or(u64::MAX);
        (end - offset).min(len_max)
    }

    /// The clusters of the image, which are copied as a whole.
    fn grain(&self) -> u64 {
        let zero = u64::from(self.node.limits().zero_alignment);
        if zero > 1 { zero } else { GRAIN }
    }

    async fn write(&self, offset: u64, data: &[u8]) -> Result<(), BlockError> {
        let len = u64::try_from(data.len()).unwrap_or(u64::MAX);
        if is_zero(data) {
            return self.node.write_zeroes(offset, len, ZeroFlags::empty()).await;
        }
        let data = IoVec::from(IoBuf::copy_of(data));
        let is_whole = offset.is_multiple_of(self.grain());
        if self.compress && is_whole && (len == self.grain() || offset + len == self.node.len()) {
            let run = self.node.compress(offset, data).await?;
            return self.node.write_compressed(run).await;
        }
        self.node.write(offset, data, WriteFlags::empty()).await
    }
}

/// What a chain has at a range, and for how many of its bytes; past its end it has zeros.
async fn below(node: Option<&Arc<Node>>, offset: u64, len: u64) -> Result<(Below, u64), Failure> {
    let Some(node) = node.filter(|node| offset < node.len()) else { return Ok((Below::Zeros, len)) };
    let len = len.min(node.len() - offset);
    let found = block_status_above(node, None, offset, len).await.map_err(|error| status_failed(offset, &error))?;
    let below = if found.status.is_zero() { Below::Zeros } else { Below::Data };
    Ok((below, if found.status.len == 0 { len } else { found.status.len.min(len) }))
}

async fn read_below(node: Option<&Arc<Node>>, offset: u64, len: u64, which: &str) -> Result<Vec<u8>, Failure> {
    let n_bytes = usize::try_from(len).expect("a step");
    let mut data = vec![0; n_bytes];
    let Some(node) = node.filter(|node| offset < node.len()) else { return Ok(data) };
    let there = usize::try_from(len.min(node.len() - offset)).expect("a step");
    let read = node.read_bytes(offset, there).await;
    let read =
        read.map_err(|error| Failure::block(format!("error while reading from {which} backing file"), &error))?;
    data[..there].copy_from_slice(&read);
    Ok(data)
}

fn status_failed(offset: u64, error: &BlockError) -> Failure {
    Failure::block(format!("error while reading image metadata at offset {offset}"), error)
}
