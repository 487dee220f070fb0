//! One of the two images.

use std::cell::Cell;
use std::sync::Arc;

use qemu_block::error::Result;
use qemu_block::io::{ChainStatus, block_status_above};
use qemu_block::node::{ChildRole, Node};
use qemu_block::types::{InfoValue, StatusFlags};
use qemu_util::buf::{BufPool, IoBuf};
use qemu_util::units::KIB;

/// The unit in which the reference counts; an image ends with a whole one.
const SECTOR: u64 = 512;

/// The reference looks at no more of an image of format qcow2 at a time, in bytes. QEMU: `qcow2_co_block_status`
const REQUEST_MAX: u64 = i32::MAX as u64;

/// Extents are split as the reference splits them as long as that makes no more pieces than this.
const PIECES_MAX: u64 = 1 << 16;

/// What is known of a range of a disk: the same for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Its length in bytes.
    pub(super) len: u64,
    /// What is known.
    pub(super) kind: ExtentKind,
}

/// What a strict comparison compares. QEMU: the flags `BDRV_BLOCK_*`, those that leave the block layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExtentKind {
    flags: StatusFlags,
    has_offset: bool,
    is_last: bool,
}

impl ExtentKind {
    /// Whether the image or one of its backing files has something there.
    pub(super) fn is_allocated(self) -> bool {
        self.flags.contains(StatusFlags::ALLOCATED)
    }

    /// Whether it reads as zeros.
    pub(super) fn is_zero(self) -> bool {
        self.flags.contains(StatusFlags::ZERO)
    }
}

/// How the reference cuts what it tells about one layer of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cuts {
    /// Extents end where a multiple of so many bytes begins.
    every: u64,
    /// They are never longer.
    len_max: u64,
    /// Compressed data is told of in units that end at multiples of so many bytes.
    compressed_every: u64,
    /// Neighbours that are alike, and stored one behind the other, are one extent although the driver tells of two.
    merges: bool,
}

impl Cuts {
    /// Those of an image of `len` bytes.
    async fn of(node: &Node) -> Self {
        let uncut = Self { every: u64::MAX, len_max: u64::MAX, compressed_every: u64::MAX, merges: false };
        let Ok(info) = node.info().await else { return uncut };
        let (Some(cluster), true) = (info.cluster_size, node.driver().name() == "qcow2") else { return uncut };
        let is_extended = info
            .format_specific
            .is_some_and(|specific| specific.fields.contains(&("extended-l2", InfoValue::Bool(true))));
        // Tables are looked at in parts of at most 64 KiB, and what is told concerns one part.
        let entries = cluster.min(64 * KIB) / if is_extended { 16 } else { 8 };
        let cuts = Self::new(cluster.saturating_mul(entries), REQUEST_MAX, node.len());
        Self { compressed_every: cluster, merges: is_extended, ..cuts }
    }

    /// Cuts that may be coarser than asked for where the image is so long that there would be too many.
    fn new(every: u64, len_max: u64, len: u64) -> Self {
        let n_pieces = len.div_ceil(every.max(1));
        let every = every.saturating_mul(n_pieces.div_ceil(PIECES_MAX).max(1));
        let len_max = if len / len_max.max(1) < PIECES_MAX { len_max } else { u64::MAX };
        Self { every, len_max, compressed_every: u64::MAX, merges: false }
    }

    fn shorten(self, offset: u64, len: u64) -> u64 {
        let to_cut = self.every - offset % self.every;
        len.min(to_cut).min(self.len_max)
    }

    fn shorten_found(self, offset: u64, len: u64, flags: StatusFlags) -> u64 {
        let len = self.shorten(offset, len);
        if flags.contains(StatusFlags::COMPRESSED) {
            return len.min(self.compressed_every - offset % self.compressed_every);
        }
        len
    }
}

/// An image that is compared.
#[derive(Debug)]
pub(super) struct Side {
    name: String,
    node: Arc<Node>,
    /// For the image and each of its backing files.
    cuts: Vec<Cuts>,
    /// The extent that was found last, and where it begins.
    last: Cell<Option<(u64, Extent)>>,
}

impl Side {
    /// The image that the user calls `name`.
    pub(super) async fn new(name: String, node: Arc<Node>) -> Self {
        let mut cuts = Vec::new();
        let mut layer = Some(Arc::clone(&node));
        while let Some(current) = layer {
            cuts.push(Cuts::of(&current).await);
            layer = current.child(ChildRole::Backing);
        }
        Self { name, node, cuts, last: Cell::new(None) }
    }

    /// What the user calls it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The image.
    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    /// Length of the disk in bytes, whole sectors.
    pub(super) fn len(&self) -> u64 {
        // Lengths are below 2^63.
        self.node.len().next_multiple_of(SECTOR)
    }

    /// What the disk has at `offset`, which lies below its end.
    ///
    /// # Errors
    /// What the drivers report.
    pub(super) async fn extent(&self, offset: u64) -> Result<Extent> {
        // Most steps are shorter than the extents that they are taken from.
        if let Some((start, Extent { len, kind })) = self.last.get()
            && start <= offset
            && offset - start < len
        {
            return Ok(Extent { len: len - (offset - start), kind });
        }
        let extent = self.find_extent(offset).await?;
        self.last.set(Some((offset, extent)));
        Ok(extent)
    }

    async fn find_extent(&self, offset: u64) -> Result<Extent> {
        let stored = self.node.len();
        if offset >= stored {
            let kind = ExtentKind { flags: StatusFlags::ZERO, has_offset: false, is_last: true };
            return Ok(Extent { len: self.len() - offset, kind });
        }
        let wanted = self.cuts.first().map_or(stored - offset, |cuts| cuts.shorten(offset, stored - offset));
        let found = block_status_above(&self.node, None, offset, wanted).await?;
        let depth = usize::try_from(found.depth).unwrap_or(usize::MAX);
        let flags = found.status.flags & !StatusFlags::RECURSE;
        let layers = self.cuts.iter().take(depth.saturating_add(1));
        let cut = |len: u64| layers.clone().fold(len, |len, cuts| cuts.shorten_found(offset, len, flags));
        let mut len = cut(found.status.len.max(1));
        if self.cuts.get(depth).is_some_and(|cuts| cuts.merges) {
            len = cut(self.merge(offset, wanted, &found).await?);
        }
        // The rest of the last sector goes with what stands before it.
        let is_last = offset + len >= stored;
        if is_last {
            len = self.len() - offset;
        }
        Ok(Extent { len, kind: ExtentKind { flags, has_offset: found.status.host_offset.is_some(), is_last } })
    }

    /// The length of an extent together with those behind it that are alike.
    async fn merge(&self, offset: u64, wanted: u64, first: &ChainStatus) -> Result<u64> {
        let mut len = first.status.len.max(1);
        while len < wanted {
            let next = block_status_above(&self.node, None, offset + len, wanted - len).await?;
            let behind = first.status.host_offset.map(|host| host.saturating_add(len));
            let is_alike = next.status.flags == first.status.flags && next.depth == first.depth;
            if !is_alike || next.status.host_offset != behind || next.status.len == 0 {
                break;
            }
            len += next.status.len;
        }
        Ok(len)
    }

    /// The bytes of a range that lies below the end.
    ///
    /// # Errors
    /// What the drivers report.
    pub(super) async fn read(&self, offset: u64, len: usize, buffers: &BufPool) -> Result<IoBuf> {
        let stored = self.node.len().saturating_sub(offset);
        let stored = usize::try_from(stored).map_or(len, |stored| stored.min(len));
        let filled = self.node.read(offset, buffers.take(stored).into()).await?;
        match filled.into_single() {
            Ok(whole) if stored == len => Ok(whole),
            filled => {
                let mut whole = buffers.take_zeroed(len);
                let bytes = filled.map_or_else(|parts| parts.to_vec(), |single| single.to_vec());
                whole[..stored].copy_from_slice(&bytes);
                Ok(whole)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_cut_where_the_reference_cuts_them() {
        let cuts = Cuts::new(32 << 10, REQUEST_MAX, 1 << 20);
        assert_eq!(cuts.shorten(0, 1 << 20), 32 << 10);
        assert_eq!(cuts.shorten(31 << 10, 1 << 20), 1 << 10);
        assert_eq!(cuts.shorten(0, 5), 5);
        let cuts = Cuts::new(16 << 30, REQUEST_MAX, 1 << 40);
        assert_eq!(cuts.shorten(0, 1 << 40), REQUEST_MAX);
    }

    #[test]
    fn huge_images_are_not_cut_into_many_pieces() {
        let len = 1 << 60;
        let cuts = Cuts::new(32 << 10, REQUEST_MAX, len);
        assert!(len.div_ceil(cuts.every) <= PIECES_MAX);
        assert_eq!(cuts.len_max, u64::MAX);
        assert_eq!(cuts.every % (32 << 10), 0);
    }
}
