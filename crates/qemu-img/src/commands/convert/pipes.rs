//! `-` as source or target: raw data from standard input, raw data or a qcow2 image to standard output.
//!
//! A qcow2 image goes out in two passes over the source. The first one asks only where there is data; then the metadata
//! of the image is known and written, and the second pass writes the data behind it.

use qcow2::stream::{Content, Run, StreamSettings};
use qemu_util::buf::IoBuf;

use super::copy::{CopyRules, Origin};
use super::feed::{Room, StreamFeed};
use super::options::Arguments;
use super::piece::Writer;
use super::plan::{Cursor, PlanRules, Work, ZeroRule, count_data};
use super::sink::{OutStream, Sink};
use super::source::Sources;
use super::stdio::StdStream;
use super::target::{CreatePlan, Target};
use super::{
    Observers, copy_rules, finish_checksum, make_target, request_len, run_copy, status_failure, write_failure,
};
use crate::failure::{Code, Failure};
use crate::session::Session;

/// Copies the sources to standard output, as an image that was planned.
///
/// # Errors
/// What reading and writing fail with, and what cannot be streamed.
pub(super) async fn to_stdout(
    session: &Session,
    arguments: &Arguments,
    sources: &Sources,
    plan: Option<CreatePlan>,
    observers: Observers<'_>,
) -> Result<(), Failure> {
    let out = StdStream::stdout()?;
    let is_qcow2 = plan.as_ref().is_some_and(|plan| plan.format() == "qcow2");
    let (stream, rules) = match plan {
        Some(plan) if is_qcow2 => start_qcow2(session, arguments, sources, plan, out).await?,
        _ => {
            let data_max = request_len(Some(sources), None, None).await;
            let everything = OutStream::new(out, std::iter::once(0..sources.total()).collect());
            (everything, stream_rules(arguments, data_max, None, ZeroRule::Request))
        }
    };
    let total = if arguments.progress {
        count_data(rules.plan, sources).await.map_err(|error| status_failure(&error))?
    } else {
        sources.total()
    };
    run_copy(session, Origin::Images(sources), Sink::Stream(&stream), rules, observers, Some(total)).await?;
    stream.finish().await.map_err(|error| write_failure(sources.total(), &error))?;
    finish_checksum(session, observers, sources.total()).await?;
    sources.check_not_shrunk().map_err(|error| Failure::new(error.chain()).of_kind(&error))
}

/// How pieces go to a stream: each as it is, one after the other.
fn stream_rules(arguments: &Arguments, data_max: u64, cluster: Option<u64>, zeros: ZeroRule) -> CopyRules {
    CopyRules {
        plan: PlanRules {
            data_max,
            cluster,
            zeros,
            read_inherited: arguments.checksum.is_some(),
            target_backing_len: None,
        },
        writer: Writer { detection: None, compressed_cluster: None, zeros },
        tasks: arguments.tasks,
        in_order: true,
        copy_range: false,
    }
}

/// Plans a qcow2 image and writes its metadata: all that comes before the data.
async fn start_qcow2(
    session: &Session,
    arguments: &Arguments,
    sources: &Sources,
    plan: CreatePlan,
    out: StdStream,
) -> Result<(OutStream, CopyRules), Failure> {
    let plain = |error: qemu_block::error::BlockError| Failure::new(error.chain()).of_kind(&error);
    let has_backing = plan.backing_file().is_some();
    let settings = StreamSettings::take(plan.into_options(), session.context()).map_err(plain)?;
    let cluster = settings.cluster_size();
    let data_max = request_len(Some(sources), Some(cluster), None).await;
    // What a target without a backing file does not hold is zeros.
    let zeros = if has_backing { ZeroRule::Request } else { ZeroRule::Skip };
    let rules = stream_rules(arguments, data_max, Some(cluster), zeros);
    let zero_content = if settings.can_mark_zeros() { Content::Zero } else { Content::Data };
    let runs = find_runs(session, sources, rules.plan, cluster, zero_content).await?;
    let data = runs.iter().filter(|run| run.content == Content::Data);
    let ranges = data.map(|run| run.first * cluster..(run.first + run.count) * cluster).collect();
    let image = settings.plan(runs).map_err(plain)?;
    let mut at = 0;
    for chunk in image.metadata() {
        session.signals().check()?;
        let bytes = IoBuf::copy_of(&chunk).freeze();
        out.write(bytes).await.map_err(|error| write_failure(at, &error))?;
        at += chunk.len() as u64;
    }
    Ok((OutStream::new(out, ranges), rules))
}

/// The clusters that the image has to map, as the cursor of the copy will find them.
async fn find_runs(
    session: &Session,
    sources: &Sources,
    rules: PlanRules,
    cluster: u64,
    zero_content: Content,
) -> Result<Vec<Run>, Failure> {
    let mut cursor = Cursor::new(rules);
    let mut runs: Vec<Run> = Vec::new();
    while let Some(piece) = cursor.next(sources).await.map_err(|error| status_failure(&error))? {
        session.signals().check()?;
        let content = match piece.work {
            Work::Copy => Content::Data,
            Work::Zero => zero_content,
            Work::Read | Work::StoreZeros => continue,
        };
        let (first, count) = (piece.offset / cluster, piece.len.div_ceil(cluster));
        match runs.last_mut() {
            Some(last) if last.content == content && last.first + last.count == first => last.count += count,
            _ => runs.push(Run { first, count, content }),
        }
    }
    Ok(runs)
}

/// Copies standard input to the target.
///
/// # Errors
/// What reading and writing fail with, and what a stream does not go together with.
pub(super) async fn from_stdin(
    session: &Session,
    arguments: &Arguments,
    observers: Observers<'_>,
) -> Result<(), Failure> {
    let input = StdStream::stdin()?;
    if arguments.writes_stdout() {
        return through(session, arguments, input, observers).await;
    }
    let output = &arguments.output;
    let plan = output.create.then(|| CreatePlan::new(session, arguments.target_name(), output, 0)).transpose()?;
    if plan.as_ref().is_some_and(CreatePlan::preallocates) {
        let text = "Preallocation needs a source of known size, not standard input ('-')";
        return Err(Failure::new(text).with_code(Code::InvalidArgument));
    }
    if plan.as_ref().and_then(CreatePlan::backing_file).is_some() {
        let text = "The target cannot have a backing file when standard input ('-') is read";
        return Err(Failure::new(text).with_code(Code::InvalidArgument));
    }
    let target = make_target(session, arguments, &[], plan).await?;
    match fill_from(session, arguments, input, &target, observers).await {
        Ok(()) => target.finish(&arguments.target).await,
        Err(failure) => {
            target.abandon().await;
            Err(failure)
        }
    }
}

async fn fill_from(
    session: &Session,
    arguments: &Arguments,
    input: StdStream,
    target: &Target,
    observers: Observers<'_>,
) -> Result<(), Failure> {
    let rules = copy_rules(arguments, None, target, false).await?;
    let backend = &target.backend;
    let room = if arguments.output.create { Room::Grows(backend) } else { Room::Fixed(backend) };
    let feed = feed(session, input, rules.plan.data_max, room);
    run_copy(session, Origin::Stream(&feed), Sink::Image(backend), rules, observers, None).await?;
    finish_checksum(session, observers, feed.total().await).await
}

/// Standard input to standard output: for its digest, its progress, or the padding to whole sectors.
async fn through(
    session: &Session,
    arguments: &Arguments,
    input: StdStream,
    observers: Observers<'_>,
) -> Result<(), Failure> {
    drop(CreatePlan::new(session, None, &arguments.output, 0)?);
    let out = OutStream::new(StdStream::stdout()?, std::iter::once(0..u64::MAX).collect());
    let data_max = request_len(None, None, None).await;
    let rules = stream_rules(arguments, data_max, None, ZeroRule::Request);
    let feed = feed(session, input, data_max, Room::Endless);
    run_copy(session, Origin::Stream(&feed), Sink::Stream(&out), rules, observers, None).await?;
    finish_checksum(session, observers, feed.total().await).await
}

fn feed<'a>(session: &Session, input: StdStream, piece_len: u64, room: Room<'a>) -> StreamFeed<'a> {
    let piece_len = usize::try_from(piece_len).expect("pieces are at most some MiB long");
    StreamFeed::new(input, piece_len, room, &session.services().buffers, session.signals())
}
