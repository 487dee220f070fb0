//! The copying itself: tasks that share one cursor, each of which reads and then writes.

use futures_util::future::{BoxFuture, try_join};
use futures_util::stream::{FuturesUnordered, StreamExt};
use qemu_block::error::{BlockError, Result};
use qemu_util::buf::{BufPool, IoBytes};
use qemu_util::primitive::Mutex;
use qemu_util::primitive::atomic::{AtomicBool, Ordering};
use qemu_util::sync::CoMutex;
use qemu_util::task::yield_now;

use super::checksum::Checksum;
use super::feed::StreamFeed;
use super::order::WriteOrder;
use super::piece::{Step, Writer};
use super::plan::{Cursor, Piece, PlanRules, StatusError, Work};
use super::sink::Sink;
use super::source::Sources;

/// Somebody who watches the copy.
pub(super) trait Watch: Sync {
    /// So many bytes of data more have been copied.
    fn copied(&self, bytes: u64);

    /// Whether to give up.
    fn interrupted(&self) -> bool;

    /// Waits until so many bytes may be written.
    fn may_write(&self, bytes: u64) -> BoxFuture<'_, ()>;
}

/// What a copy consists of.
#[derive(Clone, Copy, Debug)]
pub(super) struct CopyRules {
    /// How the source is cut into pieces, and what happens to known zeros.
    pub(super) plan: PlanRules,
    /// How pieces of data are written.
    pub(super) writer: Writer,
    /// How many tasks work at the same time.
    pub(super) tasks: usize,
    /// Whether pieces are written in the order of their offsets.
    pub(super) in_order: bool,
    /// Whether to let the kernel copy, as long as it can.
    pub(super) copy_range: bool,
}

/// Where and how a copy failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// Guest offset of the request, in bytes.
    pub(super) offset: u64,
    /// What was being done.
    pub(super) step: FailedStep,
    /// Why it failed.
    pub(super) error: BlockError,
}

/// What was being done when a copy failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailedStep {
    /// Finding out what the source holds.
    BlockStatus,
    /// Reading the source.
    Read,
    /// Writing the target.
    Write,
}

/// How a copy ended without a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finished {
    /// Everything is copied.
    Completely,
    /// Somebody asked to stop.
    Interrupted,
}

/// Where a copy comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin<'a> {
    /// Images, of which it is known where they have data.
    Images(&'a Sources),
    /// A stream, which is read as it comes.
    Stream(&'a StreamFeed<'a>),
}

/// Copies `origin` to `target`, and adds all data that passes by to `checksum`.
///
/// All requests have completed when this returns, also after a failure.
///
/// # Errors
/// The failure with the lowest offset, of those that happened before the tasks could be stopped.
///
/// QEMU: `convert_do_copy` (qemu-img.c)
pub(super) async fn copy(
    origin: Origin<'_>,
    target: Sink<'_>,
    rules: CopyRules,
    buffers: &BufPool,
    checksum: Option<&Checksum>,
    watch: &dyn Watch,
) -> Result<Finished, Failure> {
    let job = Job {
        origin,
        target,
        rules,
        checksum,
        watch,
        zeros: rules.writer.needs_zeros().then(|| zero_buffer(rules.plan.data_max, buffers)),
        cursor: CoMutex::new(Cursor::new(rules.plan)),
        order: rules.in_order.then(WriteOrder::new),
        copy_range: AtomicBool::new(rules.copy_range),
        stopped: AtomicBool::new(false),
        failure: Mutex::new(None),
    };
    let mut tasks: FuturesUnordered<_> = (0..rules.tasks).map(|_| job.task()).collect();
    while tasks.next().await.is_some() {}
    drop(tasks);
    let failure = job.failure.lock().take();
    match failure {
        Some(failure) => Err(failure),
        None if job.stopped() => Ok(Finished::Interrupted),
        None => Ok(Finished::Completely),
    }
}

fn zero_buffer(len: u64, buffers: &BufPool) -> IoBytes {
    let len = usize::try_from(len).expect("pieces are at most some MiB long");
    buffers.take_zeroed(len).freeze()
}

/// What the tasks share.
struct Job<'a> {
    origin: Origin<'a>,
    target: Sink<'a>,
    rules: CopyRules,
    checksum: Option<&'a Checksum>,
    watch: &'a dyn Watch,
    /// A piece full of zeros, where zeros are written like data.
    zeros: Option<IoBytes>,
    cursor: CoMutex<Cursor>,
    order: Option<WriteOrder>,
    copy_range: AtomicBool,
    stopped: AtomicBool,
    failure: Mutex<Option<Failure>>,
}

impl Job<'_> {
    /// Copies piece after piece. QEMU: `convert_co_do_copy` (qemu-img.c)
    async fn task(&self) {
        while !self.must_stop() {
            match self.next_piece().await {
                Ok(Some((piece, data))) => {
                    self.run(piece, data).await.unwrap_or_else(|failure| self.fail(failure));
                    if self.order.is_some() {
                        // Whoever writes next is on the critical path, so its request goes out before our next read.
                        yield_now().await;
                    }
                }
                Ok(None) => return,
                Err(failure) => self.fail(failure),
            }
        }
    }

    /// The next piece, with its data where that is known already.
    async fn next_piece(&self) -> Result<Option<(Piece, Option<IoBytes>)>, Failure> {
        match self.origin {
            Origin::Images(sources) => {
                let mut cursor = self.cursor.lock().await;
                // Whoever waited for the cursor may have been stopped in the meantime.
                if self.stopped() {
                    return Ok(None);
                }
                let failed = |StatusError { offset, error }| Failure { offset, step: FailedStep::BlockStatus, error };
                let next = cursor.next(sources).await.map_err(failed)?;
                Ok(next.map(|piece| (piece, None)))
            }
            Origin::Stream(feed) => Ok(feed.next().await?.map(|(piece, data)| (piece, Some(data)))),
        }
    }

    async fn run(&self, piece: Piece, data: Option<IoBytes>) -> Result<(), Failure> {
        let failed = |step| move |error| Failure { offset: piece.offset, step, error };
        // Relaxed: the flag only saves attempts that would fail.
        if let Origin::Images(sources) = self.origin
            && piece.work == Work::Copy
            && self.copy_range.load(Ordering::Relaxed)
        {
            let copying = self.target.copy_range(sources, piece.offset, piece.len);
            match self.in_turn(piece, copying).await {
                Some(Err(_)) => self.copy_range.store(false, Ordering::Relaxed),
                Some(Ok(())) => {
                    self.watch.copied(piece.len);
                    return Ok(());
                }
                None => return Ok(()),
            }
        }
        let data = match (self.origin, piece.work) {
            (Origin::Images(sources), Work::Copy | Work::Read) => {
                let len = usize::try_from(piece.len).expect("pieces are at most some MiB long");
                let data = sources.read(piece.offset, len).await.map_err(failed(FailedStep::Read))?;
                Some(data.freeze())
            }
            _ => data,
        };
        // Hashing and writing use the same bytes at the same time. A failure to write gives the turn to hash up, too,
        // which sends everybody else away.
        try_join(self.hash(piece, data.clone()), self.plan_and_write(piece, data)).await.map(drop)
    }

    /// Adds the piece to the checksum when it is its turn.
    async fn hash(&self, piece: Piece, data: Option<IoBytes>) -> Result<(), Failure> {
        let Some(checksum) = self.checksum else { return Ok(()) };
        // A copy that is stopped has its reason elsewhere.
        let _ = match data {
            Some(data) => checksum.add(piece.ticket, piece.offset, data, || self.must_stop()).await,
            None => checksum.pass(piece.ticket).await,
        };
        Ok(())
    }

    async fn plan_and_write(&self, piece: Piece, data: Option<IoBytes>) -> Result<(), Failure> {
        let failed = |step| move |error| Failure { offset: piece.offset, step, error };
        let steps = match (piece.work, data) {
            (Work::Zero, _) => vec![Step::Zero { offset: piece.offset, len: piece.len }],
            (Work::Copy, Some(data)) => {
                let planning = self.rules.writer.plan(self.target, piece.offset, data);
                planning.await.map_err(failed(FailedStep::Write))?
            }
            // Data comes with what is copied; what is only read is not written.
            (Work::Read, _) | (Work::Copy, None) => Vec::new(),
            (Work::StoreZeros, _) => {
                let zeros = self.zeros.as_ref().expect("made when zeros are stored");
                let len = usize::try_from(piece.len).expect("limited to the length of the buffer");
                let writing = self.rules.writer.plan_stored(self.target, piece.offset, zeros.slice(0..len));
                writing.await.map_err(failed(FailedStep::Write))?
            }
        };
        match self.in_turn(piece, self.write(steps)).await {
            Some(Err(error)) => return Err(failed(FailedStep::Write)(error)),
            Some(Ok(())) if piece.work != Work::Zero => self.watch.copied(piece.len),
            _ => {}
        }
        Ok(())
    }

    /// Waits until the piece may be written, writes it, and lets the next one through. None when there will be no turn.
    ///
    /// A piece whose turn fails keeps it: either the copy stops or the caller tries again in another way.
    async fn in_turn(&self, piece: Piece, writing: impl Future<Output = Result<()>>) -> Option<Result<()>> {
        let Some(order) = &self.order else { return Some(writing.await) };
        let turn = order.turn(piece.ticket).await.ok()?;
        let result = writing.await;
        match result {
            Ok(()) => turn.done(),
            Err(_) => turn.keep(),
        }
        Some(result)
    }

    async fn write(&self, steps: Vec<Step>) -> Result<()> {
        self.watch.may_write(steps.iter().map(Step::stored_len).sum()).await;
        for step in steps {
            match step {
                Step::Data { offset, data } => self.target.write(offset, data).await?,
                Step::Compressed(run) => self.target.write_compressed(run).await?,
                Step::Zero { offset, len } => self.write_zeroes(offset, len).await?,
            }
        }
        Ok(())
    }

    async fn write_zeroes(&self, mut offset: u64, mut len: u64) -> Result<()> {
        while len > 0 && !self.must_stop() {
            let n = len.min(self.target.zero_request_max());
            self.target.write_zeroes(offset, n).await?;
            offset += n;
            len -= n;
        }
        Ok(())
    }

    /// Remembers a failure, unless one at a lower offset is known, and stops the other tasks.
    fn fail(&self, failure: Failure) {
        {
            let mut first = self.failure.lock();
            if first.as_ref().is_none_or(|known| failure.offset < known.offset) {
                *first = Some(failure);
            }
        }
        self.stop();
    }

    fn must_stop(&self) -> bool {
        if self.watch.interrupted() {
            self.stop();
        }
        self.stopped()
    }

    fn stopped(&self) -> bool {
        // Relaxed: stopping late by one piece is fine; what else is shared has its own lock.
        self.stopped.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(order) = &self.order {
            order.stop();
        }
        if let Some(checksum) = self.checksum {
            checksum.stop();
        }
    }
}
