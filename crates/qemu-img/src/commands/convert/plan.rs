//! What to do with each part of the source: the cursor that all tasks of a conversion share.
//!
//! The cursor looks an extent up once and cuts it into pieces; parts that need no work are never handed out, so that
//! the cost of a conversion follows the extents that exist, not the size of the device.

use std::future::poll_fn;
use std::task::Poll;

use qemu_block::error::BlockError;

use super::source::{Content, Sources};

/// What happens to zeros that are known without reading. Those found inside data are treated alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ZeroRule {
    /// The target reads as zeros already.
    Skip,
    /// They are written with zero requests.
    Request,
    /// They are written like data, so that the target is fully allocated.
    Store,
}

/// How the source is cut into pieces.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlanRules {
    /// A piece of data is no longer than this, and ends where an offset is a multiple of it; in bytes.
    pub(super) data_max: u64,
    /// Data comes in whole clusters of this many bytes, because the target compresses them; divides `data_max`.
    pub(super) cluster: Option<u64>,
    /// What happens to zeros.
    pub(super) zeros: ZeroRule,
    /// Whether what the target inherits is read nevertheless, for somebody who wants to know all that the guest sees.
    pub(super) read_inherited: bool,
    /// Length of the target's backing file, where the target is new. Behind its end an unwritten target reads as zeros.
    pub(super) target_backing_len: Option<u64>,
}

/// The work that a piece means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Read it and write what is worth writing.
    Copy,
    /// Write buffers of zeros.
    StoreZeros,
    /// Write zeros with a zero request.
    Zero,
    /// Read it, and write nothing.
    Read,
}

/// A part of the source and what to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Position among the pieces: 0, 1, 2, … in the order of offsets.
    pub(super) ticket: u64,
    /// Guest offset in bytes.
    pub(super) offset: u64,
    /// Length in bytes.
    pub(super) len: u64,
    /// What to do.
    pub(super) work: Work,
}

/// A failed look-up.
#[derive(Debug)]
pub(super) struct StatusError {
    /// Where, in bytes.
    pub(super) offset: u64,
    /// Why.
    pub(super) error: BlockError,
}

#[derive(Clone, Copy, Debug)]
struct Extent {
    start: u64,
    end: u64,
    content: Content,
}

/// Walks over the source. QEMU: `convert_iteration_sectors` and the state it works on (qemu-img.c)
#[derive(Debug)]
pub(super) struct Cursor {
    rules: PlanRules,
    offset: u64,
    tickets: u64,
    /// The extent that was looked up last.
    known: Option<Extent>,
    lookups: u64,
}

/// The cursor lets others run after this many look-ups, for they may complete without ever waiting.
const LOOKUPS_PER_TURN: u64 = 256;

impl Cursor {
    /// A cursor at the start.
    pub(super) fn new(rules: PlanRules) -> Self {
        Self { rules, offset: 0, tickets: 0, known: None, lookups: 0 }
    }

    /// The next piece of work; none at the end.
    ///
    /// # Errors
    /// When the extent cannot be looked up; the cursor stays where it is.
    pub(super) async fn next(&mut self, sources: &Sources) -> Result<Option<Piece>, StatusError> {
        while self.offset < sources.total() {
            let start = self.offset;
            let extent = self.extent_at(start, sources).await?;
            let (work, end) = match self.work_for(extent) {
                Some(Work::Copy) => (Some(Work::Copy), self.data_end(extent.end, sources).await?),
                other => self.in_whole_clusters(other, extent.end, sources.total()),
            };
            self.offset = end;
            if let Some(work) = work {
                let ticket = self.tickets;
                self.tickets += 1;
                return Ok(Some(Piece { ticket, offset: start, len: end - start, work }));
            }
        }
        Ok(None)
    }

    /// What to do with an extent; none if nothing.
    fn work_for(&self, extent: Extent) -> Option<Work> {
        match (extent.content, self.rules.zeros) {
            (Content::Data, _) => Some(Work::Copy),
            (Content::Inherited, _) => self.rules.read_inherited.then_some(Work::Read),
            (Content::Zero, _) if self.rules.target_backing_len.is_some_and(|len| len <= extent.start) => None,
            (Content::Zero, ZeroRule::Skip) => None,
            (Content::Zero, ZeroRule::Request) => Some(Work::Zero),
            (Content::Zero, ZeroRule::Store) => Some(Work::StoreZeros),
        }
    }

    /// Where a piece of data ends that starts at the cursor and goes on until `end` at least: neighbouring extents are
    /// joined, so that they are read and written with one request.
    async fn data_end(&mut self, mut end: u64, sources: &Sources) -> Result<u64, StatusError> {
        let limit = self.piece_limit(sources.total());
        while end < limit {
            let next = self.extent_at(end, sources).await?;
            if next.content != Content::Data {
                break;
            }
            end = next.end;
        }
        let whole = self.rules.cluster.map_or(end, |cluster| end.next_multiple_of(cluster));
        Ok(whole.min(limit))
    }

    /// Cuts other work down to whole clusters. A cluster that is of one kind only in part has to be copied.
    fn in_whole_clusters(&self, work: Option<Work>, end: u64, total: u64) -> (Option<Work>, u64) {
        let needs_buffer = matches!(work, Some(Work::StoreZeros | Work::Read));
        let end = if needs_buffer { end.min(self.piece_limit(total)) } else { end };
        match self.rules.cluster {
            Some(cluster) if end < total => match end - end % cluster {
                whole if whole > self.offset => (work, whole),
                _ => (Some(Work::Copy), (self.offset + cluster).min(total)),
            },
            _ => (work, end),
        }
    }

    /// Where a piece that starts at the cursor ends at the latest when it needs a buffer.
    fn piece_limit(&self, total: u64) -> u64 {
        let data_max = self.rules.data_max;
        (self.offset - self.offset % data_max).saturating_add(data_max).min(total)
    }

    /// The extent that holds `offset`, from the look-up before or a new one.
    async fn extent_at(&mut self, offset: u64, sources: &Sources) -> Result<Extent, StatusError> {
        match self.known {
            Some(known) if known.start <= offset && offset < known.end => Ok(Extent { start: offset, ..known }),
            _ => self.look_up(offset, sources).await,
        }
    }

    async fn look_up(&mut self, offset: u64, sources: &Sources) -> Result<Extent, StatusError> {
        self.lookups += 1;
        if self.lookups.is_multiple_of(LOOKUPS_PER_TURN) {
            let_others_run().await;
        }
        // Zeros before and behind the end of the target's backing file are different, so extents end there.
        let len_max = match self.rules.target_backing_len {
            Some(len) if offset < len => len.min(sources.total()) - offset,
            _ => sources.total() - offset,
        };
        let (content, len) = sources.extent(offset, len_max).await.map_err(|error| StatusError { offset, error })?;
        let extent = Extent { start: offset, end: offset + len, content };
        self.known = Some(extent);
        Ok(extent)
    }
}

/// Gives the executor a chance to run other tasks and to look at signals.
async fn let_others_run() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// How many bytes will be read or written as data: what progress is measured against.
///
/// # Errors
/// As [`Cursor::next`].
pub(super) async fn count_data(rules: PlanRules, sources: &Sources) -> Result<u64, StatusError> {
    let mut cursor = Cursor::new(rules);
    let mut bytes = 0;
    while let Some(piece) = cursor.next(sources).await? {
        if piece.work != Work::Zero {
            bytes += piece.len;
        }
    }
    Ok(bytes)
}
