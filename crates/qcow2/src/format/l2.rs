//! Entries of L2 tables.

use super::subclusters::Subclusters;
use crate::error::EntryFlaw;
use crate::limits::{COMPRESSED_SECTOR, HOST_OFFSET_END};
use crate::units::{Geometry, HostOffset};

/// Bits 9 to 55: the offset of a standard cluster.
const OFFSET_MASK: u64 = (HOST_OFFSET_END - 1) & !0x1ff;
/// Bit 63: the refcount of the cluster is exactly one.
const COPIED: u64 = 1 << 63;
/// Bit 62: the cluster is compressed.
const COMPRESSED: u64 = 1 << 62;
/// Bit 0 of standard clusters: the cluster reads as zeros. Reserved in extended entries, which have a bitmap for that.
const ZERO: u64 = 1 << 0;
/// Length of an entry, or of its first half if it is extended, in bytes.
const DESCRIPTOR_BYTES: usize = 8;

/// What an L2 entry means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L2Mapping {
    /// This image has no data here: the backing file decides, or it is zeros.
    Unallocated,
    /// The cluster reads as zeros.
    Zero {
        /// A host cluster that is reserved for it, if any; its content does not matter.
        host: Option<HostOffset>,
        /// Whether the refcount of the reserved cluster is exactly one.
        copied: bool,
    },
    /// The data is in a host cluster.
    Standard {
        /// Where it starts.
        host: HostOffset,
        /// Whether its refcount is exactly one.
        copied: bool,
    },
    /// The data is compressed.
    Compressed(CompressedExtent),
    /// The subclusters differ from one another, or a host cluster is reserved and has no data yet. Only in images with
    /// extended entries.
    Mixed {
        /// The host cluster that has the data, if there is any.
        host: Option<HostOffset>,
        /// Whether its refcount is exactly one.
        copied: bool,
        /// What each subcluster is.
        subclusters: Subclusters,
    },
}

impl L2Mapping {
    /// The host cluster that this refers to as a whole, whether it has data or is only reserved.
    #[inline]
    #[must_use]
    pub fn host(self) -> Option<HostOffset> {
        match self {
            Self::Standard { host, .. } => Some(host),
            Self::Zero { host, .. } | Self::Mixed { host, .. } => host,
            Self::Unallocated | Self::Compressed(_) => None,
        }
    }
}

/// Where a compressed cluster is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompressedExtent {
    /// First byte; on no boundary.
    pub host: HostOffset,
    /// Most bytes that it has: up to the end of its last sector, which another one may share.
    pub len_max: u64,
}

impl CompressedExtent {
    /// Offset just past the last sector, a multiple of 512.
    #[must_use]
    pub fn end(self) -> HostOffset {
        HostOffset::new(self.host.get().saturating_add(self.len_max))
    }
}

/// How the L2 entries of an image are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L2Layout {
    geometry: Geometry,
    zero_flag: bool,
    /// Whether data is in another file, where clusters can be at offset 0.
    data_file: bool,
    /// Where the sector count begins in a compressed descriptor: `62 - (cluster_bits - 8)`.
    sectors_shift: u32,
}

impl L2Layout {
    /// The layout for a geometry; `zero_flag` says whether clusters can read as zeros, as in version 3.
    #[must_use]
    pub fn new(geometry: Geometry, zero_flag: bool) -> Self {
        let sectors_shift = 70u32.saturating_sub(geometry.cluster_bits());
        Self { geometry, zero_flag, data_file: false, sectors_shift }
    }

    /// The same layout in an image whose data is in another file, or not.
    #[must_use]
    pub fn with_data_file(self, data_file: bool) -> Self {
        Self { data_file, ..self }
    }

    /// Whether data is in another file.
    #[must_use]
    pub fn has_data_file(self) -> bool {
        self.data_file
    }

    /// The geometry of the image.
    #[must_use]
    pub fn geometry(self) -> Geometry {
        self.geometry
    }

    /// Compressed clusters start below this offset: bits that the descriptor has for it, at most 56.
    #[must_use]
    pub fn compressed_offset_end(self) -> HostOffset {
        HostOffset::new(bit(self.sectors_shift).min(HOST_OFFSET_END))
    }

    /// The entry of a cluster that reads as zeros and has no host cluster; in version 2 nothing can say that.
    #[must_use]
    pub fn zero_plain(self) -> L2Entry {
        if self.geometry.is_extended_l2() {
            L2Entry { descriptor: 0, subclusters: Subclusters::ALL_ZERO }
        } else {
            L2Entry::from_raw(ZERO)
        }
    }

    /// The entry of a cluster that reads as zeros, while the cluster at `host` stays reserved for it.
    #[must_use]
    pub fn zero_allocated(self, host: HostOffset, copied: bool) -> L2Entry {
        let standard = L2Entry::standard(host, copied);
        if self.geometry.is_extended_l2() {
            L2Entry { subclusters: Subclusters::ALL_ZERO, ..standard }
        } else {
            L2Entry::from_raw(standard.descriptor | ZERO)
        }
    }

    /// Length of an entry in bytes.
    #[inline]
    #[must_use]
    pub const fn entry_bytes(self) -> usize {
        self.geometry.l2_entry_len()
    }

    /// The entries of a table or a part of one; a last one that is cut off counts as unallocated.
    pub fn entries(self, table: &[u8]) -> impl Iterator<Item = L2Entry> + '_ {
        table.chunks(self.entry_bytes()).map(move |bytes| self.load(bytes).unwrap_or(L2Entry::UNALLOCATED))
    }

    /// The entry that `bytes` begin with, if they are long enough.
    #[inline]
    #[must_use]
    pub fn load(self, bytes: &[u8]) -> Option<L2Entry> {
        let descriptor = number_at(bytes, 0)?;
        let subclusters = if self.geometry.is_extended_l2() {
            Subclusters::from_raw(number_at(bytes, DESCRIPTOR_BYTES)?)
        } else {
            Subclusters::NONE
        };
        Some(L2Entry { descriptor, subclusters })
    }

    /// Stores an entry in `bytes`, which are as long as one.
    #[inline]
    pub fn store(self, bytes: &mut [u8], entry: L2Entry) {
        let (descriptor, subclusters) = bytes.split_at_mut(DESCRIPTOR_BYTES);
        descriptor.copy_from_slice(&entry.descriptor.to_be_bytes());
        if self.geometry.is_extended_l2() {
            subclusters.copy_from_slice(&entry.subclusters.raw().to_be_bytes());
        }
    }

    /// Most 512-byte sectors that a compressed cluster can span: twice the cluster.
    #[must_use]
    pub fn compressed_sectors_max(self) -> u64 {
        bit(self.geometry.cluster_bits().saturating_sub(8))
    }
}

fn bit(number: u32) -> u64 {
    1u64.checked_shl(number).unwrap_or(0)
}

/// The big-endian number at `start` in `bytes`.
#[inline]
fn number_at(bytes: &[u8], start: usize) -> Option<u64> {
    bytes.get(start..)?.first_chunk().map(|number| u64::from_be_bytes(*number))
}

/// An entry of an L2 table as it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct L2Entry {
    descriptor: u64,
    /// The second half of extended entries; others do not store it, and it means nothing there.
    subclusters: Subclusters,
}

impl L2Entry {
    /// No data at this level.
    pub const UNALLOCATED: Self = Self { descriptor: 0, subclusters: Subclusters::NONE };

    /// A standard cluster at `host`, the start of a cluster below 2^56; 0 only if data is in another file. All of its
    /// subclusters have data.
    #[must_use]
    pub fn standard(host: HostOffset, copied: bool) -> Self {
        debug_assert!(host.get() & !OFFSET_MASK == 0, "data starts at clusters");
        let descriptor = host.get() & OFFSET_MASK | if copied { COPIED } else { 0 };
        Self { descriptor, subclusters: Subclusters::ALL_DATA }
    }

    /// The same entry with other subclusters.
    #[inline]
    #[must_use]
    pub const fn with_subclusters(self, subclusters: Subclusters) -> Self {
        Self { subclusters, ..self }
    }

    /// The second half of an extended entry.
    #[inline]
    #[must_use]
    pub const fn subclusters(self) -> Subclusters {
        self.subclusters
    }

    /// A compressed cluster of `len` bytes at `host`; none when the descriptor cannot express it.
    #[must_use]
    pub fn compressed(layout: L2Layout, host: HostOffset, len: u64) -> Option<Self> {
        let last = host.get().checked_add(len.checked_sub(1)?)?;
        let additional = (last / COMPRESSED_SECTOR).checked_sub(host.get() / COMPRESSED_SECTOR)?;
        if host >= layout.compressed_offset_end() || additional >= layout.compressed_sectors_max() {
            return None;
        }
        Some(Self::from_raw(COMPRESSED | host.get() | additional.checked_shl(layout.sectors_shift)?))
    }

    /// The entry whose descriptor these bytes, read as a big-endian number, are; no subcluster is described.
    #[inline]
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self { descriptor: raw, subclusters: Subclusters::NONE }
    }

    /// The descriptor, which is the whole entry if it is not extended.
    #[inline]
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.descriptor
    }

    /// Whether the entry says that the cluster's refcount is exactly one.
    #[inline]
    #[must_use]
    pub const fn is_copied(self) -> bool {
        self.descriptor & COPIED != 0
    }

    /// The same entry saying that the cluster's refcount is, or is not, exactly one.
    #[inline]
    #[must_use]
    pub const fn with_copied(self, copied: bool) -> Self {
        Self { descriptor: if copied { self.descriptor | COPIED } else { self.descriptor & !COPIED }, ..self }
    }

    /// Whether the cluster is compressed.
    #[inline]
    #[must_use]
    pub const fn is_compressed(self) -> bool {
        self.descriptor & COMPRESSED != 0
    }

    /// The offset bits of a standard descriptor, whatever else is set.
    #[inline]
    #[must_use]
    pub const fn offset_bits(self) -> HostOffset {
        HostOffset::new(self.descriptor & OFFSET_MASK)
    }

    /// Whether reserved bits are set; `layout` decides for compressed clusters.
    #[inline]
    #[must_use]
    pub fn has_reserved_bits(self, layout: L2Layout) -> bool {
        if self.is_compressed() {
            let offset = self.descriptor & bit(layout.sectors_shift).wrapping_sub(1);
            return offset >= HOST_OFFSET_END;
        }
        let zero = if layout.geometry.is_extended_l2() { 0 } else { ZERO };
        self.descriptor & !(OFFSET_MASK | COPIED | COMPRESSED | zero) != 0
    }

    /// What the entry means.
    ///
    /// The "copied" bit of compressed clusters, which should be clear, changes nothing about where the data is and is
    /// left to the consistency check. So is an entry with that bit and no offset, which is unallocated, unless data is in
    /// another file: then it is a cluster at offset 0.
    ///
    /// # Errors
    /// When reserved bits are set, the offset of a standard cluster is not aligned, a version 2 image has the zero flag,
    /// or the subclusters contradict themselves.
    #[inline]
    pub fn decode(self, layout: L2Layout) -> Result<L2Mapping, EntryFlaw> {
        if self.has_reserved_bits(layout) {
            return Err(EntryFlaw::ReservedBits);
        }
        if self.is_compressed() {
            return Ok(L2Mapping::Compressed(self.compressed_extent(layout)));
        }
        let host = self.offset_bits();
        if !layout.geometry.is_aligned(host) {
            return Err(EntryFlaw::Unaligned);
        }
        let copied = self.is_copied();
        let host = (host != HostOffset::ZERO || (layout.data_file && copied)).then_some(host);
        if layout.geometry.is_extended_l2() {
            return self.decode_subclusters(host, copied);
        }
        match (self.descriptor & ZERO != 0, host) {
            (true, _) if !layout.zero_flag => Err(EntryFlaw::ZeroFlagInV2),
            (true, host) => Ok(L2Mapping::Zero { host, copied }),
            (false, Some(host)) => Ok(L2Mapping::Standard { host, copied }),
            (false, None) => Ok(L2Mapping::Unallocated),
        }
    }

    /// What an extended entry means that is not compressed.
    fn decode_subclusters(self, host: Option<HostOffset>, copied: bool) -> Result<L2Mapping, EntryFlaw> {
        let subclusters = self.subclusters;
        if !subclusters.is_consistent() || (host.is_none() && subclusters.data() != 0) {
            return Err(EntryFlaw::Subclusters);
        }
        Ok(match (subclusters, host) {
            (Subclusters::ALL_DATA, Some(host)) => L2Mapping::Standard { host, copied },
            (Subclusters::ALL_ZERO, host) => L2Mapping::Zero { host, copied },
            (Subclusters::NONE, None) => L2Mapping::Unallocated,
            (subclusters, host) => L2Mapping::Mixed { host, copied, subclusters },
        })
    }

    /// Where a compressed descriptor says that its data is, reserved bits of the offset included.
    #[must_use]
    pub fn compressed_extent(self, layout: L2Layout) -> CompressedExtent {
        let offset = self.descriptor & bit(layout.sectors_shift).wrapping_sub(1);
        let additional = self.descriptor.checked_shr(layout.sectors_shift).unwrap_or(0)
            & layout.compressed_sectors_max().wrapping_sub(1);
        // The count is below 2^13, the offset below 2^61.
        let len = additional.saturating_add(1).saturating_mul(COMPRESSED_SECTOR);
        CompressedExtent { host: HostOffset::new(offset), len_max: len.saturating_sub(offset % COMPRESSED_SECTOR) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layout(cluster_bits: u32) -> L2Layout {
        L2Layout::new(Geometry::new(cluster_bits, 4).expect("valid"), true)
    }

    #[test]
    fn standard_and_zero_clusters() {
        let host = HostOffset::new(0x5_0000);
        let layout = layout(16);
        let decode = |entry: L2Entry| entry.decode(layout);
        assert_eq!(decode(L2Entry::standard(host, true)), Ok(L2Mapping::Standard { host, copied: true }));
        assert_eq!(decode(layout.zero_allocated(host, false)), Ok(L2Mapping::Zero { host: Some(host), copied: false }));
        assert_eq!(decode(layout.zero_plain()), Ok(L2Mapping::Zero { host: None, copied: false }));
        assert_eq!(decode(L2Entry::UNALLOCATED), Ok(L2Mapping::Unallocated));
    }

    fn extended(cluster_bits: u32) -> L2Layout {
        let geometry = Geometry::new(cluster_bits, 4).expect("valid");
        L2Layout::new(geometry.with_extended_l2().expect("large enough"), true)
    }

    #[test]
    fn extended_entries() {
        let layout = extended(16);
        let host = HostOffset::new(0x5_0000);
        let standard = L2Entry::standard(host, true);
        assert_eq!(standard.decode(layout), Ok(L2Mapping::Standard { host, copied: true }));
        let zero = layout.zero_allocated(host, true);
        assert_eq!(zero.decode(layout), Ok(L2Mapping::Zero { host: Some(host), copied: true }));
        assert_eq!(layout.zero_plain().decode(layout), Ok(L2Mapping::Zero { host: None, copied: false }));
        let reserved = standard.with_subclusters(Subclusters::NONE);
        let mixed = L2Mapping::Mixed { host: Some(host), copied: true, subclusters: Subclusters::NONE };
        assert_eq!(reserved.decode(layout), Ok(mixed));
        assert_eq!(mixed.host(), Some(host));
        let mut bytes = [0xff; 16];
        layout.store(&mut bytes, zero);
        assert_eq!(bytes, [0x80, 0, 0, 0, 0, 5, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(layout.load(&bytes), Some(zero));
        assert_eq!(layout.entries(&bytes[..12]).collect::<Vec<_>>(), [L2Entry::UNALLOCATED]);
    }

    #[test]
    fn bad_extended_entries_are_refused() {
        let layout = extended(16);
        let host = HostOffset::new(0x5_0000);
        let both = L2Entry::standard(host, true).with_subclusters(Subclusters::from_raw(1 << 32 | 1));
        assert_eq!(both.decode(layout), Err(EntryFlaw::Subclusters));
        let nowhere = L2Entry::UNALLOCATED.with_subclusters(Subclusters::from_raw(1));
        assert_eq!(nowhere.decode(layout), Err(EntryFlaw::Subclusters));
        assert_eq!(L2Entry::from_raw(ZERO).decode(layout), Err(EntryFlaw::ReservedBits));
    }

    #[test]
    fn bad_entries_are_refused() {
        let decode = |raw: u64| L2Entry::from_raw(raw).decode(layout(16));
        assert_eq!(decode(0x5_0200), Err(EntryFlaw::Unaligned));
        assert_eq!(decode(0x5_0002), Err(EntryFlaw::ReservedBits));
        assert_eq!(decode(1 << 56), Err(EntryFlaw::ReservedBits));
        let v2 = L2Layout::new(Geometry::new(16, 4).expect("valid"), false);
        assert_eq!(layout(16).zero_plain().decode(v2), Err(EntryFlaw::ZeroFlagInV2));
        // With 512-byte clusters the offset field reaches bit 60, of which only 56 may be used.
        assert_eq!(L2Entry::from_raw(COMPRESSED | 1 << 56).decode(layout(9)), Err(EntryFlaw::ReservedBits));
    }

    #[test]
    fn compressed_limits() {
        assert_eq!(layout(21).compressed_offset_end().get(), 1 << 49);
        assert_eq!(layout(9).compressed_offset_end().get(), 1 << 56);
        assert_eq!(L2Entry::compressed(layout(21), HostOffset::new(1 << 49), 10), None);
        assert_eq!(L2Entry::compressed(layout(9), HostOffset::new(0x1ff), 515), None);
        assert_eq!(L2Entry::compressed(layout(9), HostOffset::new(0x1ff), 0), None);
    }

    proptest! {
        #[test]
        fn compressed_round_trip(cluster_bits in 9u32..=21, host in 0u64..1 << 48, len in 1u64..1 << 21) {
            let layout = layout(cluster_bits);
            let len = len.min(layout.geometry().cluster_size());
            let entry = L2Entry::compressed(layout, HostOffset::new(host), len).expect("in range");
            let Ok(L2Mapping::Compressed(extent)) = entry.decode(layout) else { panic!("compressed") };
            prop_assert_eq!(extent.host.get(), host);
            prop_assert!(len <= extent.len_max && extent.len_max < len + 512);
            prop_assert_eq!(extent.end().get() % 512, 0);
        }

        #[test]
        fn decode_never_panics(cluster_bits in 9u32..=21, raw: u64, subclusters: u64) {
            let entry = L2Entry::from_raw(raw).with_subclusters(Subclusters::from_raw(subclusters));
            let _ = entry.decode(layout(cluster_bits));
            let _ = entry.decode(extended(cluster_bits.max(14)));
        }
    }
}
