//! The sources of a conversion, laid end to end.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use qemu_block::driver::FileIdentity;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::io::block_status_above;
use qemu_block::node::{ChildRole, Node};
use qemu_block::types::StatusFlags;
use qemu_util::buf::{BufPool, IoBuf, IoVecMut};

/// The unit in which the reference counts: every source is padded with zeros to a multiple of it. QEMU: `BDRV_SECTOR_SIZE`.
pub(super) const SECTOR: u64 = 512;

/// What a part of the source holds. QEMU: `ImgConvertBlockStatus` (qemu-img.c)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Data that has to be read.
    Data,
    /// Zeros, known without reading.
    Zero,
    /// What the backing file of the source holds, where the target is to have the same backing file.
    Inherited,
}

/// Told about each sector that cannot be read: its offset in its source, and why.
pub(super) type OnUnreadable = dyn Fn(u64, &BlockError) + Send + Sync;

/// A file that a source, or a backing file of it, is stored in.
struct StoredIn {
    path: String,
    identity: FileIdentity,
    /// Length as found when it was opened, in bytes.
    len: u64,
}

impl StoredIn {
    /// All files below `node`, itself included.
    fn collect(node: &Node, files: &mut Vec<Self>) {
        if let Some(identity) = node.identity() {
            files.push(Self { path: node.filename().to_owned(), identity, len: node.len() });
        }
        node.children().iter().for_each(|edge| Self::collect(&edge.node, files));
    }

    /// Whether the file is shorter now. One that has gone, or was replaced, is whole in the hands of those who have it
    /// open.
    fn has_shrunk(&self) -> bool {
        let Ok(now) = fs::metadata(&self.path) else { return false };
        let identity = FileIdentity { device: now.dev(), inode: now.ino() };
        now.is_file() && identity == self.identity && now.len() < self.len
    }
}

/// One source and its place in the whole.
struct Part {
    node: Arc<Node>,
    /// The backing file below which nothing counts as the source's own.
    base: Option<Arc<Node>>,
    start: u64,
    /// Length as found when the source was opened.
    bytes: u64,
    /// The same, rounded up to sectors.
    padded: u64,
}

/// The concatenation of all sources.
pub(super) struct Sources {
    parts: Vec<Part>,
    files: Vec<StoredIn>,
    total: u64,
    buffers: BufPool,
    on_unreadable: Option<Box<OnUnreadable>>,
}

impl Sources {
    /// Puts `nodes` one after the other. With `keep_inherited`, what comes from a backing file is reported as
    /// [`Content::Inherited`]. With `on_unreadable`, sectors that cannot be read become zeros after it was told.
    ///
    /// # Errors
    /// When the sum of the lengths is more than a device can have.
    pub(super) fn new(
        nodes: Vec<Arc<Node>>,
        keep_inherited: bool,
        buffers: BufPool,
        on_unreadable: Option<Box<OnUnreadable>>,
    ) -> Result<Self> {
        let mut parts = Vec::with_capacity(nodes.len());
        let mut files = Vec::new();
        let mut total = 0_u64;
        for node in nodes {
            StoredIn::collect(&node, &mut files);
            let bytes = node.len();
            let (padded, end) = padded_len(bytes)
                .and_then(|padded| Some((padded, total.checked_add(padded)?)))
                .filter(|&(_, end)| i64::try_from(end).is_ok())
                .ok_or_else(|| {
                    BlockError::new(ErrorKind::InvalidArgument, "The input images are too large together")
                })?;
            let base = if keep_inherited { node.child(ChildRole::Backing) } else { None };
            parts.push(Part { node, base, start: total, bytes, padded });
            total = end;
        }
        Ok(Self { parts, files, total, buffers, on_unreadable })
    }

    /// Length of all sources together in bytes, a multiple of [`SECTOR`].
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The content at `offset` and how long it stays the same, `len_max` at most and never past the end of a source.
    ///
    /// # Errors
    /// What looking it up fails with.
    pub(super) async fn extent(&self, offset: u64, len_max: u64) -> Result<(Content, u64)> {
        let part = self.part_at(offset);
        let at = offset - part.start;
        if at >= part.bytes {
            return Ok((Content::Zero, len_max.min(part.padded - at)));
        }
        let (flags, len) = self.status(part, at, len_max.min(part.bytes - at)).await?;
        let content = if flags.contains(StatusFlags::ZERO) {
            Content::Zero
        } else if part.base.is_some() && !flags.contains(StatusFlags::DATA) {
            Content::Inherited
        } else {
            Content::Data
        };
        // The padding of the last sector goes with what stands before it.
        let len = if at + len >= part.bytes { len_max.min(part.padded - at) } else { len };
        Ok((content, len))
    }

    async fn status(&self, part: &Part, at: u64, mut len: u64) -> Result<(StatusFlags, u64)> {
        loop {
            let error = match block_status_above(&part.node, part.base.as_ref(), at, len).await {
                Ok(found) if found.status.len > 0 => return Ok((found.status.flags, found.status.len)),
                Ok(_) => shrunk(part.node.filename()),
                Err(error) => error,
            };
            if self.on_unreadable.is_none() {
                return Err(error);
            }
            if len <= SECTOR {
                // Perhaps it can be read although nobody knows what it is.
                return Ok((StatusFlags::DATA, len));
            }
            len = (len / 4).next_multiple_of(SECTOR);
        }
    }

    /// Reads `len` bytes from `offset` on, across sources if need be, into one contiguous buffer.
    ///
    /// # Errors
    /// What reading fails with.
    pub(super) async fn read(&self, offset: u64, len: usize) -> Result<IoBuf> {
        let mut rest = self.buffers.take(len);
        let mut filled = IoVecMut::default();
        while !rest.is_empty() {
            let at = offset + filled.len() as u64;
            let part = self.part_at(at);
            let in_part = part.start + part.padded - at;
            let n = usize::try_from(in_part).map_or(rest.len(), |in_part| in_part.min(rest.len()));
            let tail = rest.split_off(n);
            filled.append(self.read_part(part, at - part.start, rest).await?);
            rest = tail;
        }
        Ok(match filled.into_single() {
            Ok(single) => single,
            Err(pieces) => self.gather(&pieces),
        })
    }

    /// Reads from one source; what lies in the padding becomes zeros.
    async fn read_part(&self, part: &Part, at: u64, mut buf: IoBuf) -> Result<IoVecMut> {
        let stored = part.bytes.saturating_sub(at);
        let stored = usize::try_from(stored).map_or(buf.len(), |stored| stored.min(buf.len()));
        let mut padding = buf.split_off(stored);
        let len = buf.len();
        let mut filled = IoVecMut::default();
        if len > 0 {
            filled = match (part.node.read(at, buf.into()).await, &self.on_unreadable) {
                (Ok(read), _) => read,
                (Err(error), None) => return Err(error),
                (Err(_), Some(tell)) => self.salvage(part, at, len, tell).await.into(),
            };
        }
        if !padding.is_empty() {
            padding.fill(0);
            filled.push(padding);
        }
        Ok(filled)
    }

    /// Reads sector by sector and leaves zeros where that fails.
    async fn salvage(&self, part: &Part, at: u64, len: usize, tell: &OnUnreadable) -> IoBuf {
        let mut whole = self.buffers.take_zeroed(len);
        let sector = usize::try_from(SECTOR).expect("512 fits");
        for (index, piece) in whole.chunks_mut(sector).enumerate() {
            let offset = at + index as u64 * SECTOR;
            match part.node.read(offset, self.buffers.take(piece.len()).into()).await {
                Ok(read) => piece.copy_from_slice(&read.to_vec()),
                Err(error) => tell(offset, &error),
            }
        }
        whole
    }

    fn gather(&self, pieces: &IoVecMut) -> IoBuf {
        let mut whole = self.buffers.take(pieces.len());
        let mut at = 0;
        for piece in pieces.parts() {
            whole[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }
        whole
    }

    /// Copies a range to the same offset of `target` without moving it through this process.
    ///
    /// # Errors
    /// `Unsupported` where that is not possible; otherwise what copying fails with.
    pub(super) async fn copy_range(&self, offset: u64, len: u64, target: &Node) -> Result<()> {
        let mut done = 0;
        while done < len {
            let part = self.part_at(offset + done);
            let at = offset + done - part.start;
            let n = part.bytes.saturating_sub(at).min(len - done);
            if n == 0 {
                return Err(BlockError::new(ErrorKind::Unsupported, "the padding of a source is stored nowhere"));
            }
            part.node.copy_range(at, target, offset + done, n).await?;
            done += n;
        }
        Ok(())
    }

    /// Refuses to call it a success when a source has become shorter than it was, for what was missing then has been
    /// read as zeros (rule R11).
    ///
    /// # Errors
    /// `Truncated`, naming the source.
    pub(super) fn check_not_shrunk(&self) -> Result<()> {
        if let Some(part) = self.parts.iter().find(|part| part.node.len() < part.bytes) {
            return Err(shrunk(part.node.filename()));
        }
        // Nodes remember the length with which they were opened, so the files are looked at as well.
        match self.files.iter().find(|file| file.has_shrunk()) {
            Some(file) => Err(shrunk(&file.path)),
            None => Ok(()),
        }
    }

    /// The images, in order.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.parts.iter().map(|part| &part.node)
    }

    fn part_at(&self, offset: u64) -> &Part {
        let index = self.parts.partition_point(|part| part.start + part.padded <= offset);
        self.parts.get(index).expect("offsets below the total lie in a source")
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("parts", &self.parts.len()).field("total", &self.total).finish_non_exhaustive()
    }
}

fn padded_len(bytes: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(SECTOR)
}

fn shrunk(name: &str) -> BlockError {
    BlockError::new(ErrorKind::Truncated, format!("'{name}' has become shorter while it was read"))
}
