//! Reading the content of a bitmap. QEMU: `bitmap_table_load`, `load_bitmap_data` (block/qcow2-bitmap.c).

use std::collections::HashSet;

use qemu_block::bitmap::DirtyBitmap;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::node::Node;

use super::directory::{corrupt, shown};
use crate::format::bitmap::{BitmapDirectoryEntry, BitmapTableEntry};
use crate::image::Image;
use crate::units::{Geometry, HostOffset};

/// Bits in one cluster of bitmap data.
pub(super) fn bits_per_cluster(geo: Geometry) -> u64 {
    geo.cluster_size() * 8
}

/// Clusters, and table entries, that the bits of a bitmap take.
pub(super) fn clusters_for(bits: &DirtyBitmap, geo: Geometry) -> u64 {
    bits.n_bits().div_ceil(bits_per_cluster(geo))
}

/// More memory than the image file occupies that all bitmaps of an image may take, in bytes. Those that say the same over
/// and over again need no space on disk, but some in memory.
const MEMORY_BYTES_MORE: u64 = 64 << 20;

impl Image {
    /// What a bitmap marks, as long as memory does not get out of proportion to what is really on disk (rule R2).
    pub(super) async fn load(&self, entry: &BitmapDirectoryEntry) -> Result<DirtyBitmap> {
        let bits = read_content(&self.storage, self.geo, self.size(), entry).await?;
        let allocated = self.storage.allocated_bytes().await?.unwrap_or(self.storage.len());
        let loaded: u64 = self.bitmaps.loaded.lock().values().map(|bitmap| bitmap.bits.memory_bytes()).sum();
        if loaded.saturating_add(bits.memory_bytes()) > allocated.saturating_add(MEMORY_BYTES_MORE) {
            return Err(corrupt(format!("Bitmap '{}' takes more memory than the image justifies", shown(&entry.name))));
        }
        Ok(bits)
    }
}

/// What the bitmap of `entry` marks on a disk of `size` bytes.
///
/// Memory follows what is on disk: bits that are all the same take none, and each cluster of bits may be named once.
///
/// # Errors
/// `Corrupt` or `Truncated` when the table or its data make no sense; else those of reading.
async fn read_content(storage: &Node, geo: Geometry, size: u64, entry: &BitmapDirectoryEntry) -> Result<DirtyBitmap> {
    let table = read_table(storage, geo, entry).await?;
    let doing = || format!("Could not read bitmap '{}' from image", shown(&entry.name));
    let mut bits = DirtyBitmap::new(size, u32::from(entry.granularity_bits));
    if clusters_for(&bits, geo) != table.len() as u64 {
        return Err(corrupt("Invalid argument".to_owned()).context(doing()));
    }
    let mut known = HashSet::new();
    for (number, raw) in (0..).zip(table) {
        let first = number * bits_per_cluster(geo);
        match raw {
            BitmapTableEntry::ZEROS => {}
            BitmapTableEntry::ONES => bits.fill_bits(first..first + bits_per_cluster(geo)),
            data => {
                let at = data.raw();
                if !known.insert(at) {
                    let text = format!("two table entries name the cluster at {at:#x}");
                    return Err(corrupt(text).context(doing()));
                }
                let cluster = read_inside(storage, HostOffset::new(at), geo.cluster_size()).await;
                bits.add_bits(first, &cluster.map_err(|error| error.context(doing()))?);
            }
        }
    }
    Ok(bits)
}

/// The table of a bitmap, every entry of which is valid.
pub(super) async fn read_table(
    storage: &Node,
    geo: Geometry,
    entry: &BitmapDirectoryEntry,
) -> Result<Vec<BitmapTableEntry>> {
    let doing = || format!("Could not read bitmap_table table from image for bitmap '{}'", shown(&entry.name));
    let len = u64::from(entry.table_entries) * 8;
    let bytes = read_inside(storage, entry.table_offset, len).await.map_err(|error| error.context(doing()))?;
    let (raw, _) = bytes.as_chunks::<8>();
    let mut table = Vec::with_capacity(raw.len());
    for raw in raw {
        let entry = BitmapTableEntry::from_raw(u64::from_be_bytes(*raw));
        entry.decode(geo).map_err(|flaw| corrupt(flaw.to_string()).context(doing()))?;
        table.push(entry);
    }
    Ok(table)
}

/// Reads what must lie inside the file, which also bounds the memory.
async fn read_inside(storage: &Node, offset: HostOffset, len: u64) -> Result<Vec<u8>> {
    if offset.checked_add(len).is_none_or(|end| end.get() > storage.len()) {
        let text = format!("it lies at {:#x}, past the end of the image file ({:#x})", offset.get(), storage.len());
        return Err(BlockError::new(ErrorKind::Truncated, text));
    }
    let len = usize::try_from(len).expect("inside a file that can be read");
    Ok(storage.read_bytes(offset.get(), len).await?.to_vec())
}
