//! `qemu-img convert`: copies one or more images into a new one, or into one that exists.
//!
//! ```text
//! options ─► what to do                target ─► created, opened; closed or removed
//! source  ─► the images, end to end    plan   ─► the next piece of work
//! copy    ─► the tasks                 piece  ─► what is written of a piece
//! sparse  ─► zeros inside data         order  ─► who may write next
//! sink    ─► image or stream           atomic ─► a target that appears when it is complete
//! pipes   ─► `-` as source or target   feed   ─► standard input as a source
//! checksum ─► a digest on the way      stdio  ─► the standard streams as tasks see them
//! ```
//!
//! QEMU: `img_convert` (qemu-img.c)

mod atomic;
mod bitmaps;
mod checksum;
mod copy;
mod feed;
mod options;
mod order;
mod piece;
mod pipes;
mod plan;
mod sink;
mod source;
mod sparse;
mod stdio;
pub(super) mod target;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use nix::sys::signal::Signal;
use qemu_block::error::{BlockError, ErrorKind};
use qemu_block::node::{ChildRole, Node};
use qemu_block::options::Options;
use qemu_block::types::{OpenFlags, Perm};
use qemu_util::primitive::atomic::{AtomicU64, Ordering};
use qemu_util::units::MIB;

use self::atomic::Replacement;
use self::checksum::Checksum;
use self::copy::{CopyRules, FailedStep, Finished, Origin, Watch, copy};
use self::options::{Arguments, Request};
use self::piece::Writer;
use self::plan::{PlanRules, StatusError, ZeroRule, count_data};
use self::sink::Sink;
use self::source::{OnUnreadable, SECTOR, Sources};
use self::sparse::ZeroDetection;
use self::target::{CreatePlan, CreatedFile, Target, can_compress, check_not_a_source, files_of, own_files_of};
use super::Command;
use super::create::option_help;
use crate::cli::common::ImageArg;
use crate::cli::program::print;
use crate::failure::{CommandResult, Failure, Outcome};
use crate::output::messages;
use crate::output::progress::Progress;
use crate::rate::RateLimit;
use crate::session::Session;
use crate::signals::Signals;
use crate::strict::Needs;

/// What the tasks read and write at once, in bytes, where nothing asks for more.
///
/// Measured with plain copies on two cores: 128 KiB costs clearly more processor time in hand-overs between threads, from
/// 512 KiB to 2 MiB there is no difference, and 1 MiB needs half the memory of the reference's 2 MiB.
const REQUEST: u64 = MIB;
/// The longest request, in bytes. The reference's requests have this length (QEMU: `IO_BUF_SIZE`), and what `-S` finds
/// depends on it where the size given is larger than a request.
const REQUEST_MAX: u64 = 2 * MIB;

/// The command.
pub(crate) const COMMAND: Command = Command {
    name: "convert",
    summary: "Copies images into another image, converting the format",
    synopsis: "[-f FMT | --image-opts] [-T CACHE] [-U] [-l SNAPSHOT] [-O FMT | --target-image-opts] [-o OPTIONS] [-t CACHE] \
               [-B BACKING [-F BACKING_FMT]] [-c [--compression-level N]] [--checksum ALGORITHM [--output FORM]] [--atomic] \
               [--bitmaps [--skip-broken-bitmaps]] [-n [--target-is-zero]] [-S SIZE] [-m TASKS] [-W] [-C] [--salvage] \
               [-p] [-q] SOURCE... TARGET",
    options: options::option_docs,
    operands: &[
        ("SOURCE", "an image to copy; several are joined; '-' is raw data from standard input"),
        ("TARGET", "the image to write; '-' is standard output, for the formats raw and qcow2"),
    ],
    notes: "A file of the name '-' is called './-'.\n",
    run,
};

/// The files that a conversion opens and creates.
fn needs(arguments: &Arguments) -> Needs {
    let Arguments { sources, source, target, output, .. } = arguments;
    let image = |name: &String, image_opts| ImageArg { name: name.clone(), image_opts, ..ImageArg::default() };
    let sources: Vec<_> = sources.iter().map(|name| image(name, source.image_opts)).collect();
    let needs = Needs::of(COMMAND.name).reads_all(&sources);
    let needs = output.backing.iter().fold(needs, |needs, name| needs.reads_backing(target, name));
    match (output.create, output.atomic) {
        (false, _) => needs.writes(&image(target, output.image_opts)),
        (true, false) => needs.creates(target, &output.options),
        (true, true) => needs.replaces(target, &output.options),
    }
}

fn run(words: Vec<String>) -> CommandResult {
    match Request::parse(words)? {
        Request::Help => print(&COMMAND.help()),
        Request::OptionHelp { format, filename } => {
            Needs::of(COMMAND.name).confine()?;
            let session = Session::new()?;
            print(&option_help(&session, &format, filename.as_deref())?)
        }
        Request::Convert(arguments) => {
            needs(&arguments).confine()?;
            let session = Session::catching_signals()?.with_objects(&arguments.objects);
            let checksum = arguments.checksum.map(|kind| Checksum::new(kind, session.services().cpu.clone()));
            session.block_on(convert_with_progress(&session, &arguments, checksum.as_ref()))?;
            if let Some(checksum) = &checksum {
                checksum.report(arguments.report, arguments.writes_stdout())?;
            }
            Ok(Outcome::Success)
        }
    }
}

/// Who learns of what is copied.
#[derive(Clone, Copy, Debug)]
struct Observers<'a> {
    arguments: &'a Arguments,
    progress: &'a Progress,
    checksum: Option<&'a Checksum>,
}

async fn convert_with_progress(
    session: &Session,
    arguments: &Arguments,
    checksum: Option<&Checksum>,
) -> Result<(), Failure> {
    let progress = Progress::new(arguments.progress, arguments.quiet, session.signals().clone());
    let progress = progress.of("copy").beside_output(arguments.writes_stdout());
    progress.start();
    let observers = Observers { arguments, progress: &progress, checksum };
    let converted = if arguments.reads_stdin() {
        pipes::from_stdin(session, arguments, observers).await
    } else {
        convert(session, arguments, observers).await
    };
    match converted {
        Ok(()) => progress.finish(),
        Err(_) => progress.abandon(),
    }
    converted
}

async fn convert(session: &Session, arguments: &Arguments, observers: Observers<'_>) -> Result<(), Failure> {
    let nodes = open_sources(session, arguments).await?;
    let converted = match arguments.snapshot.load(&nodes).await {
        Ok(()) => convert_opened(session, arguments, &nodes, observers).await,
        Err(failure) => Err(failure),
    };
    for node in &nodes {
        let closed = node.close().await;
        if let (Ok(()), Err(error)) = (&converted, closed) {
            return Err(Failure::block(format!("error while closing '{}'", node.filename()), &error));
        }
    }
    converted
}

async fn open_sources(session: &Session, arguments: &Arguments) -> Result<Vec<Arc<Node>>, Failure> {
    let mut nodes = Vec::with_capacity(arguments.sources.len());
    for name in &arguments.sources {
        let image = ImageArg {
            name: name.clone(),
            format: arguments.source.format.clone(),
            image_opts: arguments.source.image_opts,
            force_share: arguments.source.force_share,
            cache: Some(arguments.source.cache),
        };
        let mut spec = image.open_spec(qemu_block::types::OpenFlags::empty())?;
        // Nobody may change a source while it is copied, this program's own target included.
        spec.shared = Perm::CONSISTENT_READ;
        nodes.push(session.open_spec(&image.name, spec).await?);
    }
    Ok(nodes)
}

async fn convert_opened(
    session: &Session,
    arguments: &Arguments,
    nodes: &[Arc<Node>],
    observers: Observers<'_>,
) -> Result<(), Failure> {
    let size = total_len(nodes)?;
    let output = &arguments.output;
    let plan = output.create.then(|| CreatePlan::new(session, arguments.target_name(), output, size)).transpose()?;
    let backing = plan.as_ref().map_or_else(|| output.backing.clone(), CreatePlan::backing_file);
    if backing.is_some() && output.is_zero {
        return Err(Failure::new("Cannot use --target-is-zero when the destination image has a backing file"));
    }
    if backing.is_some() && nodes.len() > 1 {
        let message = "Having a backing file for the target makes no sense when concatenating multiple input images";
        return Err(Failure::new(message));
    }
    bitmaps::check_sources(arguments.bitmaps, nodes).await?;
    let has_backing = backing.is_some();
    let sources = make_sources(session, arguments, nodes, has_backing)?;
    if arguments.writes_stdout() {
        return pipes::to_stdout(session, arguments, &sources, plan, observers).await;
    }
    let target = make_target(session, arguments, nodes, plan).await?;
    let filled = match fill(session, arguments, &sources, &target, has_backing, observers).await {
        Ok(()) => bitmaps::copy(arguments.bitmaps, nodes, target.backend.node()).await,
        Err(failure) => Err(failure),
    };
    match filled {
        Ok(()) => target.finish(&arguments.target).await,
        Err(failure) => {
            target.abandon().await;
            Err(failure)
        }
    }
}

fn total_len(nodes: &[Arc<Node>]) -> Result<u64, Failure> {
    let add = |sum: u64, node: &Arc<Node>| sum.checked_add(node.len().checked_next_multiple_of(SECTOR)?);
    let total = nodes.iter().try_fold(0, add).filter(|&total| i64::try_from(total).is_ok());
    total.ok_or_else(|| Failure::new("The input images are too large together"))
}

fn make_sources(
    session: &Session,
    arguments: &Arguments,
    nodes: &[Arc<Node>],
    keep_inherited: bool,
) -> Result<Sources, Failure> {
    let quiet = arguments.quiet;
    let on_unreadable: Option<Box<OnUnreadable>> = arguments.salvage.then(|| {
        Box::new(move |offset: u64, error: &qemu_block::error::BlockError| {
            if !quiet {
                messages::warn(&format!("error while reading offset {offset}: {}", error.errno_text()));
            }
        }) as Box<OnUnreadable>
    });
    let buffers = session.services().buffers.clone();
    Sources::new(nodes.to_vec(), keep_inherited, buffers, on_unreadable).map_err(|error| Failure::new(error.chain()))
}

/// Creates the target if it is to be created, and opens it.
async fn make_target(
    session: &Session,
    arguments: &Arguments,
    nodes: &[Arc<Node>],
    plan: Option<CreatePlan>,
) -> Result<Target, Failure> {
    let (name, output) = (&arguments.target, &arguments.output);
    let mut read_from = Vec::new();
    nodes.iter().for_each(|node| files_of(node, &mut read_from));
    let check =
        |name: &str| check_not_a_source(name, output.format.as_deref().unwrap_or("raw"), &read_from, output.create);
    if !output.image_opts {
        check(name)?;
    }
    session.signals().check()?;
    let secrets = plan.as_ref().map_or_else(Options::new, CreatePlan::key_secrets);
    let replacement = if output.atomic { Some(Replacement::reserve(session, name).await?) } else { None };
    let file = match plan {
        Some(plan) => plan.create(session, name, replacement.as_ref()).await?,
        None => CreatedFile::none(),
    };
    let mut flags = OpenFlags::empty();
    flags.set(OpenFlags::UNMAP, arguments.sparse_size > 0);
    // What comes from a stream is of a length that is not known yet.
    flags.set(OpenFlags::RESIZE, arguments.reads_stdin() && output.create);
    let target = Target::open(session, name, output, flags, secrets, (file, replacement)).await?;
    let mut written_to = Vec::new();
    own_files_of(target.backend.node(), &mut written_to);
    // An existing image may be stored in a file that its name does not show.
    if !output.create && written_to.iter().any(|file| read_from.contains(file)) {
        target.abandon().await;
        let message = format!(
            "Could not open '{name}': Failed to get \"write\" lock\nIs another process using the image [{name}]?"
        );
        return Err(Failure::new(message));
    }
    Ok(target)
}

/// Copies the sources into the opened target.
async fn fill(
    session: &Session,
    arguments: &Arguments,
    sources: &Sources,
    target: &Target,
    has_backing: bool,
    observers: Observers<'_>,
) -> Result<(), Failure> {
    if !arguments.output.create && target.backend.len() < sources.total() {
        return Err(Failure::new("output file is smaller than input file"));
    }
    bitmaps::check_target(arguments.bitmaps, target.backend.node())?;
    let rules = copy_rules(arguments, Some(sources), target, has_backing).await?;
    // Counting reads metadata, so it is done only for those who watch.
    let total = if arguments.progress {
        count_data(rules.plan, sources).await.map_err(|error| status_failure(&error))?
    } else {
        sources.total()
    };
    run_copy(session, Origin::Images(sources), Sink::Image(&target.backend), rules, observers, Some(total)).await?;
    finish_checksum(session, observers, sources.total()).await?;
    sources.check_not_shrunk().map_err(|error| Failure::new(error.chain()).of_kind(&error))
}

/// Copies, with `total` bytes of data ahead if that is known.
async fn run_copy(
    session: &Session,
    origin: Origin<'_>,
    sink: Sink<'_>,
    rules: CopyRules,
    observers: Observers<'_>,
    total: Option<u64>,
) -> Result<(), Failure> {
    let Observers { arguments, progress, checksum } = observers;
    let watch = Watcher {
        progress,
        signals: session.signals().clone(),
        limit: session.rate_limit(arguments.rate),
        total,
        copied: AtomicU64::new(0),
    };
    let buffers = &session.services().buffers;
    match copy(origin, sink, rules, buffers, checksum, &watch).await {
        Ok(Finished::Completely | Finished::Interrupted) => session.signals().check(),
        Err(failure) => Err(copy_failure(&failure, arguments)),
    }
}

/// Adds the zeros at the end of a disk of `total` bytes to the checksum.
async fn finish_checksum(session: &Session, observers: Observers<'_>, total: u64) -> Result<(), Failure> {
    if let Some(checksum) = observers.checksum {
        // It is given up for one reason only, which is checked next.
        let _ = checksum.finish(total, || session.signals().stopped_by().is_some()).await;
    }
    session.signals().check()
}

/// Decides how to copy from what is known about both sides.
async fn copy_rules(
    arguments: &Arguments,
    sources: Option<&Sources>,
    target: &Target,
    has_backing: bool,
) -> Result<CopyRules, Failure> {
    let output = &arguments.output;
    let node = target.backend.node();
    let info = node.info().await;
    let cluster = if output.compress {
        if !can_compress(node.driver().create_options()) {
            return Err(Failure::new("Compression not supported for this file format"));
        }
        let cluster = info.as_ref().ok().and_then(|info| info.cluster_size).unwrap_or(0);
        if !(SECTOR..=REQUEST_MAX).contains(&cluster) || !cluster.is_power_of_two() {
            return Err(Failure::new("invalid cluster size"));
        }
        Some(cluster)
    } else {
        None
    };
    let detection = ZeroDetection::new(arguments.sparse_size, u64::from(node.limits().request_alignment));
    let is_zero = output.is_zero || (output.create && !has_backing && info.is_ok_and(|info| info.zero_init));
    let zeros = match detection {
        None => ZeroRule::Store,
        Some(_) if is_zero => ZeroRule::Skip,
        Some(_) => ZeroRule::Request,
    };
    let target_backing = if has_backing && output.create { node.child(ChildRole::Backing) } else { None };
    let plan = PlanRules {
        data_max: request_len(sources, cluster, detection).await,
        cluster,
        zeros,
        read_inherited: arguments.checksum.is_some(),
        target_backing_len: target_backing.map(|backing| backing.len().next_multiple_of(SECTOR)),
    };
    let writer = Writer { detection, compressed_cluster: cluster, zeros };
    Ok(CopyRules {
        plan,
        writer,
        tasks: arguments.tasks,
        in_order: arguments.in_order,
        copy_range: arguments.copy_range,
    })
}

/// How much is read and written at once, in bytes.
///
/// At least a cluster of each side, because a compressed cluster is unpacked and packed as a whole; and as much as zero
/// detection needs to decide as the reference does.
async fn request_len(sources: Option<&Sources>, cluster: Option<u64>, detection: Option<ZeroDetection>) -> u64 {
    let mut len = REQUEST.max(cluster.unwrap_or(0));
    for node in sources.into_iter().flat_map(Sources::nodes) {
        // What a source does not tell is not needed to read it.
        let cluster = node.info().await.ok().and_then(|info| info.cluster_size);
        len = len.max(cluster.unwrap_or(0));
    }
    let decided_at = detection.map_or(Some(SECTOR), ZeroDetection::independent_at);
    len.max(decided_at.unwrap_or(REQUEST_MAX)).min(REQUEST_MAX)
}

/// Turns what the tasks do into progress, and signals into interruption.
struct Watcher<'a> {
    progress: &'a Progress,
    signals: Signals,
    limit: RateLimit,
    /// How many bytes there are to copy, if that is known.
    total: Option<u64>,
    copied: AtomicU64,
}

impl Watch for Watcher<'_> {
    fn copied(&self, bytes: u64) {
        // Relaxed: only the sum counts.
        let copied = self.copied.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        match self.total {
            Some(total) => self.progress.set(copied, total),
            None => self.progress.set_open_ended(copied),
        }
    }

    fn interrupted(&self) -> bool {
        self.signals.stopped_by().is_some()
    }

    fn may_write(&self, bytes: u64) -> BoxFuture<'_, ()> {
        self.limit.pass(bytes).boxed()
    }
}

fn status_failure(error: &StatusError) -> Failure {
    let text = format!("error while reading block status at offset {}: {}", error.offset, reason(&error.error));
    Failure::new(text).of_kind(&error.error).at(error.offset)
}

fn copy_failure(failure: &copy::Failure, arguments: &Arguments) -> Failure {
    let (offset, reason) = (failure.offset, reason(&failure.error));
    let text = match failure.step {
        FailedStep::BlockStatus => format!("error while reading block status at offset {offset}: {reason}"),
        FailedStep::Read => format!("error while reading at byte {offset}: {reason}"),
        FailedStep::Write => return write_failure(offset, &failure.error).about(&arguments.target),
    };
    let told = Failure::new(text).of_kind(&failure.error).at(offset);
    match &arguments.sources[..] {
        [source] => told.about(source),
        // It is one of several.
        _ => told,
    }
}

fn write_failure(offset: u64, error: &BlockError) -> Failure {
    if error.errno() == nix::errno::Errno::EPIPE as i32 {
        // Only streams say that. Whoever reads has seen enough, and needs no telling.
        return Failure::Interrupted(Signal::SIGPIPE);
    }
    Failure::new(format!("error while writing at byte {offset}: {}", reason(error))).of_kind(error).at(offset)
}

/// The text of the errno, as the reference prints it, and more where the errno alone says nothing about the image.
fn reason(error: &BlockError) -> String {
    let errno = error.errno_text();
    match error.kind() {
        ErrorKind::Corrupt | ErrorKind::Truncated | ErrorKind::BadRequest => format!("{errno} ({})", error.chain()),
        _ => errno,
    }
}
