//! The header, its extensions and the backing file name: all that lives in the first cluster.

use std::ops::RangeInclusive;

use zerocopy::big_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::bitmap::BitmapsExtension;
use super::encryption::{self, Encryption};
use super::extension::{self, Extension, MAGIC_BACKING_FORMAT, MAGIC_BITMAPS, MAGIC_DATA_FILE, MAGIC_FEATURE_NAMES};
use super::features::{Autoclear, Compatible, Incompatible, unknown_features};
use super::subclusters::SUBCLUSTERS;
use crate::error::{FormatError, TableKind};
use crate::limits::{
    BACKING_NAME_BYTES_MAX, L1_BYTES_MAX, REFCOUNT_ORDER_MAX, REFCOUNT_ORDER_V2, REFTABLE_BYTES_MAX, SNAPSHOTS_MAX,
    VIRTUAL_SIZE_MAX,
};
use crate::units::{Geometry, HostOffset};

/// The first four bytes of every image.
pub const MAGIC: u32 = 0x5146_49fb;

/// The fields that both versions have, exactly as on disk.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawCommon {
    magic: U32,
    version: U32,
    backing_offset: U64,
    backing_len: U32,
    cluster_bits: U32,
    size: U64,
    crypt_method: U32,
    l1_entries: U32,
    l1_offset: U64,
    reftable_offset: U64,
    reftable_clusters: U32,
    snapshot_count: U32,
    snapshots_offset: U64,
}

/// The further fields of version 3, exactly as on disk, with those that an older header may lack.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawV3 {
    incompatible: U64,
    compatible: U64,
    autoclear: U64,
    refcount_order: U32,
    header_length: U32,
    compression_type: u8,
    padding: [u8; 7],
}

const _: () = assert!(size_of::<RawCommon>() == V2_BYTES);
const _: () = assert!(size_of::<RawV3>() == FULL_BYTES - V2_BYTES);

/// Length of a version 2 header in bytes.
pub const V2_BYTES: usize = 72;
/// Shortest version 3 header in bytes.
pub const V3_BYTES_MIN: usize = 104;
/// Length of the header that we write, in bytes: up to the compression type and its padding.
pub const FULL_BYTES: usize = 112;
/// Offset of the incompatible features, which are followed by the other two feature words, in bytes.
pub const FEATURES_OFFSET: u64 = 72;

/// The format's versions. QEMU: `compat` 0.10 and 1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Without feature bits and the zero flag.
    V2,
    /// With them.
    V3,
}

/// How clusters are compressed. QEMU: `Qcow2CompressionType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionType {
    /// Raw deflate streams.
    Zlib,
    /// Zstandard frames.
    Zstd,
}

impl CompressionType {
    /// QEMU's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
        }
    }

    /// The levels that can be asked for: from fast to small.
    #[must_use]
    pub fn levels(self) -> RangeInclusive<u64> {
        match self {
            Self::Zlib => 1..=12,
            Self::Zstd => 1..=22,
        }
    }
}

/// A table whose place the header states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TablePlace {
    /// Where it starts.
    pub offset: HostOffset,
    /// Its length: entries for L1 and snapshot tables, clusters for the refcount table.
    pub count: u32,
}

/// A validated header.
///
/// Offsets are aligned and, with the lengths, within the format's limits. Whether the tables lie after the header and
/// inside the file is [`Header::check_file_len`]'s business, because a consistency check wants to report that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version.
    pub version: Version,
    /// Cluster and refcount sizes.
    pub geometry: Geometry,
    /// Size of the virtual disk in bytes.
    pub virtual_size: u64,
    /// The active L1 table; the count is in entries.
    pub l1: TablePlace,
    /// The refcount table; the count is in clusters.
    pub reftable: TablePlace,
    /// The snapshot table; the count is in snapshots. The offset means nothing when there are none.
    pub snapshots: TablePlace,
    /// Features that must be known.
    pub incompatible: Incompatible,
    /// Features that may be ignored.
    pub compatible: Compatible,
    /// Features that must be cleared when not known.
    pub autoclear: Autoclear,
    /// How clusters are compressed.
    pub compression: CompressionType,
    /// Length of the header as stored, in bytes.
    pub header_length: u32,
    /// What the header has after the fields that we know.
    pub unknown_fields: Vec<u8>,
    /// The header extensions in order.
    pub extensions: Vec<Extension>,
    /// How guest data is encrypted, if it is.
    pub encryption: Option<Encryption>,
    /// The bitmaps extension, if it is there and marked consistent.
    pub bitmaps: Option<BitmapsExtension>,
    /// The backing file name as stored; none when it is empty.
    pub backing_name: Option<Vec<u8>>,
}

impl Header {
    /// How many bytes from the start of the file [`Header::parse`] wants, judged by the first [`V2_BYTES`]: one
    /// cluster.
    ///
    /// # Errors
    /// When this is no image of a version that we know, or its cluster size is out of range.
    pub fn wanted_len(start: &[u8]) -> Result<u64, FormatError> {
        let Ok((raw, _)) = RawCommon::ref_from_prefix(start) else { return Err(too_short(start)) };
        raw.check_magic()?;
        let geometry = raw.geometry(REFCOUNT_ORDER_V2)?;
        Ok(geometry.cluster_size())
    }

    /// Parses and validates the first cluster of an image; `first_cluster` is shorter only if the file, which has
    /// `file_len` bytes, is.
    ///
    /// # Errors
    /// When the bytes are not a header that we can use. Images with the dirty or the corrupt bit parse; what to do
    /// about those is up to the opener.
    pub fn parse(first_cluster: &[u8], file_len: u64) -> Result<Self, FormatError> {
        let Ok((raw, _)) = RawCommon::ref_from_prefix(first_cluster) else { return Err(too_short(first_cluster)) };
        let version = raw.check_magic()?;
        let early = raw.geometry(REFCOUNT_ORDER_V2)?;
        let extra = RawV3::of(version, first_cluster)?;
        let header_length = extra.header_length.get();
        if u64::from(header_length) > early.cluster_size() {
            return Err(FormatError::HeaderTooLong { length: u64::from(header_length) });
        }
        if header_length % 8 != 0 {
            return Err(FormatError::HeaderUnaligned { length: u64::from(header_length) });
        }
        let layout = FirstCluster::new(raw, header_length, early, first_cluster, file_len)?;
        let incompatible = Incompatible::from_bits_retain(extra.incompatible.get());
        layout.check_features(incompatible)?;
        let compression = extra.compression(incompatible)?;
        if extra.refcount_order.get() > REFCOUNT_ORDER_MAX {
            return Err(FormatError::RefcountOrder { refcount_order: extra.refcount_order.get() });
        }
        encryption::check_method(raw.crypt_method.get())?;
        let mut geometry = raw.geometry(extra.refcount_order.get())?;
        if incompatible.contains(Incompatible::EXTENDED_L2) {
            let size = geometry.cluster_size().checked_div(u64::from(SUBCLUSTERS)).unwrap_or(0);
            let too_small = FormatError::SubclusterSize { size };
            geometry = geometry.with_extended_l2().ok_or(too_small)?;
        }
        raw.check_tables(geometry)?;
        let autoclear = Autoclear::from_bits_retain(extra.autoclear.get());
        let extensions = extension::parse(layout.extensions)?;
        let encryption = Encryption::parse(raw.crypt_method.get(), &extensions, geometry)?;
        let bitmaps = find_bitmaps(&extensions, autoclear, geometry)?;
        Ok(Self {
            version,
            geometry,
            virtual_size: raw.size.get(),
            l1: TablePlace { offset: HostOffset::new(raw.l1_offset.get()), count: raw.l1_entries.get() },
            reftable: TablePlace {
                offset: HostOffset::new(raw.reftable_offset.get()),
                count: raw.reftable_clusters.get(),
            },
            snapshots: TablePlace {
                offset: HostOffset::new(raw.snapshots_offset.get()),
                count: raw.snapshot_count.get(),
            },
            incompatible,
            compatible: Compatible::from_bits_retain(extra.compatible.get()),
            autoclear,
            compression,
            header_length,
            unknown_fields: layout.unknown_fields.to_vec(),
            encryption,
            extensions,
            bitmaps,
            backing_name: layout.backing_name()?,
        })
    }

    /// Checks that the tables that the header names lie after the first cluster and inside the file. All opens but
    /// those for a consistency check must call this.
    ///
    /// # Errors
    /// When a table overlaps the header, or ends after `file_len` bytes.
    pub fn check_file_len(&self, file_len: u64) -> Result<(), FormatError> {
        let reftable_len = u64::from(self.reftable.count).saturating_mul(self.geometry.cluster_size());
        let ends = [
            (TableKind::ActiveL1, self.l1, u64::from(self.l1.count).saturating_mul(8)),
            (TableKind::Refcount, self.reftable, reftable_len),
            // Entries have no fixed length, so this is the least that there must be.
            (TableKind::Snapshots, self.snapshots, u64::from(self.snapshots.count).saturating_mul(40)),
        ];
        for (table, place, len) in ends {
            if place.count == 0 {
                continue;
            }
            if place.offset.get() < self.geometry.cluster_size() {
                return Err(FormatError::TableOffset { table, offset: place.offset.get() });
            }
            let end = place.offset.get().saturating_add(len);
            if end > file_len {
                return Err(FormatError::TableTruncated { table, end, file_len });
            }
        }
        Ok(())
    }

    /// The backing file's name as text, cut at a NUL as the reference does.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn backing_name_text(&self) -> Result<Option<&str>, FormatError> {
        let Some(name) = &self.backing_name else { return Ok(None) };
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        std::str::from_utf8(name).map(Some).map_err(|_| FormatError::BackingNameText)
    }

    /// The backing file's format as the image names it; bytes that are not UTF-8 are replaced, which no format's name
    /// matches.
    #[must_use]
    pub fn backing_format(&self) -> Option<String> {
        let name = extension::find(&self.extensions, MAGIC_BACKING_FORMAT)?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(String::from_utf8_lossy(name).into_owned())
    }

    /// Whether guest data is in another file.
    #[must_use]
    pub fn has_data_file(&self) -> bool {
        self.incompatible.contains(Incompatible::DATA_FILE)
    }

    /// Whether the other file can be read as a raw image.
    #[must_use]
    pub fn is_data_file_raw(&self) -> bool {
        self.autoclear.contains(Autoclear::DATA_FILE_RAW)
    }

    /// The data file's name as the image has it; bytes that are not UTF-8 are replaced, which no file's name matches.
    #[must_use]
    pub fn data_file_name(&self) -> Option<String> {
        let name = extension::find(&self.extensions, MAGIC_DATA_FILE)?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(String::from_utf8_lossy(name).into_owned())
    }

    /// Puts the data of an extension in the place of what the header has of that type, or removes it.
    ///
    /// A new one goes before the feature names, which are the longest and never change: then what changes from one
    /// header to the next often lies in the file's first sector alone.
    pub fn set_extension(&mut self, magic: u32, data: Option<Vec<u8>>) {
        let names = |list: &[Extension]| list.iter().position(|extension| extension.magic == MAGIC_FEATURE_NAMES);
        let found = self.extensions.iter().position(|extension| extension.magic == magic);
        self.extensions.retain(|extension| extension.magic != magic);
        if let Some(data) = data {
            let at = found.or_else(|| names(&self.extensions)).unwrap_or(self.extensions.len());
            self.extensions.insert(at.min(self.extensions.len()), Extension { magic, data });
        }
    }

    /// Brings what is parsed of the extensions up to date with them.
    ///
    /// # Errors
    /// When an extension has fields that it cannot have.
    pub(crate) fn reparse_extensions(&mut self) -> Result<(), FormatError> {
        self.bitmaps = find_bitmaps(&self.extensions, self.autoclear, self.geometry)?;
        Ok(())
    }

    /// The bytes from the start of the first cluster up to the end of the backing file name. Whoever overwrites a
    /// longer header fills the rest of the cluster with zeros.
    ///
    /// # Errors
    /// When they do not fit into one cluster.
    pub fn serialize(&self) -> Result<Vec<u8>, FormatError> {
        self.serialize_with_name_from(0)
    }

    /// As [`Header::serialize`], with the backing file name at `earliest` or after it.
    pub(super) fn serialize_with_name_from(&self, earliest: usize) -> Result<Vec<u8>, FormatError> {
        let mut out = vec![0; V2_BYTES];
        if self.version >= Version::V3 {
            out.extend_from_slice(self.raw_v3().as_bytes());
            out.extend_from_slice(&self.unknown_fields);
            // A header without the compression type, as old programs write, stays as short as it was.
            out.truncate(usize::try_from(self.header_length).unwrap_or(usize::MAX));
        }
        extension::serialize(&self.extensions, &mut out)?;
        let backing_name = self.backing_name.as_deref().unwrap_or_default();
        let mut backing_offset = 0;
        if self.backing_name.is_some() {
            backing_offset = out.len().max(earliest);
            let end = backing_offset.saturating_add(backing_name.len());
            self.check_fits(end)?;
            out.resize(backing_offset, 0);
            out.extend_from_slice(backing_name);
        }
        self.check_fits(out.len())?;
        let common = self.raw_common(backing_offset, backing_name.len());
        if let Some(start) = out.first_chunk_mut::<V2_BYTES>() {
            start.copy_from_slice(common.as_bytes());
        }
        debug_assert_eq!(Self::parse(&out, len_u64(out.len())).as_ref(), Ok(self), "what we write, we can read");
        Ok(out)
    }

    fn check_fits(&self, len: usize) -> Result<(), FormatError> {
        if len > self.geometry.cluster_len() {
            return Err(FormatError::HeaderNoSpace { length: len_u64(len) });
        }
        Ok(())
    }

    fn raw_common(&self, backing_offset: usize, backing_len: usize) -> RawCommon {
        RawCommon {
            magic: U32::new(MAGIC),
            version: U32::new(if self.version == Version::V2 { 2 } else { 3 }),
            backing_offset: U64::new(len_u64(backing_offset)),
            backing_len: U32::new(u32::try_from(backing_len).unwrap_or(u32::MAX)),
            cluster_bits: U32::new(self.geometry.cluster_bits()),
            size: U64::new(self.virtual_size),
            crypt_method: U32::new(Encryption::method(self.encryption)),
            l1_entries: U32::new(self.l1.count),
            l1_offset: U64::new(self.l1.offset.get()),
            reftable_offset: U64::new(self.reftable.offset.get()),
            reftable_clusters: U32::new(self.reftable.count),
            snapshot_count: U32::new(self.snapshots.count),
            snapshots_offset: U64::new(self.snapshots.offset.get()),
        }
    }

    fn raw_v3(&self) -> RawV3 {
        RawV3 {
            incompatible: U64::new(self.incompatible.bits()),
            compatible: U64::new(self.compatible.bits()),
            autoclear: U64::new(self.autoclear.bits()),
            refcount_order: U32::new(self.geometry.refcount_order()),
            header_length: U32::new(self.header_length),
            compression_type: if self.compression == CompressionType::Zlib { 0 } else { 1 },
            padding: [0; 7],
        }
    }
}

impl RawCommon {
    fn check_magic(&self) -> Result<Version, FormatError> {
        match (self.magic.get(), self.version.get()) {
            (MAGIC, 2) => Ok(Version::V2),
            (MAGIC, 3) => Ok(Version::V3),
            (MAGIC, version) => Err(FormatError::Version { version }),
            _ => Err(FormatError::NotQcow2),
        }
    }

    fn geometry(&self, refcount_order: u32) -> Result<Geometry, FormatError> {
        let cluster_bits = self.cluster_bits.get();
        Geometry::new(cluster_bits, refcount_order).ok_or(FormatError::ClusterSize { cluster_bits })
    }

    fn check_tables(&self, geometry: Geometry) -> Result<(), FormatError> {
        let reftable_clusters = u64::from(self.reftable_clusters.get());
        if reftable_clusters == 0 {
            return Err(FormatError::NoRefcountTable);
        }
        let reftable_entries = geometry.reftable_entries(self.reftable_clusters.get());
        let reftable = (TableKind::Refcount, self.reftable_offset.get(), reftable_entries, REFTABLE_BYTES_MAX / 8);
        let snapshots = u64::from(self.snapshot_count.get());
        let snapshots = (TableKind::Snapshots, self.snapshots_offset.get(), snapshots, u64::from(SNAPSHOTS_MAX));
        let l1_entries = u64::from(self.l1_entries.get());
        let l1 = (TableKind::ActiveL1, self.l1_offset.get(), l1_entries, L1_BYTES_MAX / 8);
        for (table, offset, entries, entries_max) in [reftable, snapshots, l1] {
            check_table(geometry, table, HostOffset::new(offset), entries, entries_max)?;
        }
        let size = self.size.get();
        if size > VIRTUAL_SIZE_MAX {
            return Err(FormatError::VirtualSize { size });
        }
        let needed = geometry.l1_entries_for(size);
        if i32::try_from(needed).is_err() {
            return Err(FormatError::VirtualSize { size });
        }
        if l1_entries < needed {
            return Err(FormatError::L1TooSmall { entries: self.l1_entries.get(), needed });
        }
        Ok(())
    }
}

/// Checks the place of a table: its size against the format's limit, its start for alignment, its end against that of
/// all offsets.
///
/// # Errors
/// When the table is too large or cannot start there.
pub fn check_table(
    geometry: Geometry,
    table: TableKind,
    offset: HostOffset,
    entries: u64,
    entries_max: u64,
) -> Result<(), FormatError> {
    if entries > entries_max {
        return Err(FormatError::TableTooLarge { table, entries });
    }
    let end = offset.checked_add(entries.saturating_mul(8)).map_or(u64::MAX, HostOffset::get);
    if !geometry.is_aligned(offset) || (entries != 0 && i64::try_from(end).is_err()) {
        return Err(FormatError::TableOffset { table, offset: offset.get() });
    }
    Ok(())
}

impl RawV3 {
    /// The fields of this header; version 2 has none, so it gets what they are taken to be.
    fn of(version: Version, header: &[u8]) -> Result<Self, FormatError> {
        let mut raw = Self::new_zeroed();
        if version == Version::V2 {
            raw.refcount_order = U32::new(REFCOUNT_ORDER_V2);
            raw.header_length = U32::new(72);
            return Ok(raw);
        }
        let stored = header.get(V2_BYTES..).unwrap_or_default();
        for (to, from) in raw.as_mut_bytes().iter_mut().zip(stored) {
            *to = *from;
        }
        let length = usize::try_from(raw.header_length.get()).unwrap_or(usize::MAX);
        if header.len() < V3_BYTES_MIN || length < V3_BYTES_MIN {
            return Err(FormatError::HeaderTooShort { length: len_u64(length.min(header.len())) });
        }
        if length <= V3_BYTES_MIN {
            raw.compression_type = 0;
        }
        Ok(raw)
    }

    fn compression(&self, incompatible: Incompatible) -> Result<CompressionType, FormatError> {
        let compression = match self.compression_type {
            0 => CompressionType::Zlib,
            1 => CompressionType::Zstd,
            value => return Err(FormatError::CompressionType { value }),
        };
        let is_zlib = compression == CompressionType::Zlib;
        if is_zlib == incompatible.contains(Incompatible::COMPRESSION) {
            return Err(FormatError::CompressionBit { is_zlib });
        }
        Ok(compression)
    }
}

/// The parts of the first cluster after the known fields.
struct FirstCluster<'a> {
    cluster: &'a [u8],
    unknown_fields: &'a [u8],
    extensions: &'a [u8],
    backing_offset: usize,
    backing_len: u32,
    cluster_len: usize,
}

impl<'a> FirstCluster<'a> {
    fn new(
        raw: &RawCommon,
        header_length: u32,
        geometry: Geometry,
        cluster: &'a [u8],
        file_len: u64,
    ) -> Result<Self, FormatError> {
        let cluster_len = geometry.cluster_len();
        let backing_offset = usize::try_from(raw.backing_offset.get()).unwrap_or(usize::MAX);
        let header_end = usize::try_from(header_length).unwrap_or(usize::MAX);
        if backing_offset > cluster_len || (backing_offset != 0 && backing_offset < header_end) {
            return Err(FormatError::BackingOffset { offset: raw.backing_offset.get() });
        }
        let needed = header_end.max(backing_offset);
        if cluster.len() < needed {
            return Err(FormatError::HeaderTruncated { needed: len_u64(needed), available: file_len });
        }
        // Without a backing file the extensions may fill the cluster.
        let extensions_end = if backing_offset == 0 { cluster_len.min(cluster.len()) } else { backing_offset };
        Ok(Self {
            cluster,
            unknown_fields: cluster.get(FULL_BYTES..header_end).unwrap_or_default(),
            extensions: cluster.get(header_end..extensions_end).unwrap_or_default(),
            backing_offset,
            backing_len: raw.backing_len.get(),
            cluster_len,
        })
    }

    fn check_features(&self, incompatible: Incompatible) -> Result<(), FormatError> {
        let unknown = incompatible.difference(Incompatible::KNOWN);
        if !unknown.is_empty() {
            // The names are a courtesy: damaged extensions must not hide why the image is refused.
            let extensions = extension::parse(self.extensions).unwrap_or_default();
            return Err(unknown_features(
                unknown,
                extension::find(&extensions, MAGIC_FEATURE_NAMES).unwrap_or_default(),
            ));
        }
        Ok(())
    }

    fn backing_name(&self) -> Result<Option<Vec<u8>>, FormatError> {
        if self.backing_offset == 0 {
            return Ok(None);
        }
        let length = self.backing_len;
        let len = usize::try_from(length).unwrap_or(usize::MAX);
        let end = self.backing_offset.saturating_add(len);
        if length > BACKING_NAME_BYTES_MAX || end > self.cluster_len {
            return Err(FormatError::BackingNameTooLong { length });
        }
        let truncated = FormatError::HeaderTruncated { needed: len_u64(end), available: len_u64(self.cluster.len()) };
        let name = self.cluster.get(self.backing_offset..end).ok_or(truncated)?;
        // An empty name, which ends at a NUL as all do, means no backing file.
        Ok(name.first().is_some_and(|byte| *byte != 0).then(|| name.to_vec()))
    }
}

/// The bitmaps extension, unless the header says that it is out of date.
fn find_bitmaps(
    extensions: &[Extension],
    autoclear: Autoclear,
    geometry: Geometry,
) -> Result<Option<BitmapsExtension>, FormatError> {
    match extension::find(extensions, MAGIC_BITMAPS) {
        Some(data) if autoclear.contains(Autoclear::BITMAPS) => BitmapsExtension::parse(data, geometry).map(Some),
        _ => Ok(None),
    }
}

/// The error for bytes that do not even hold a version 2 header.
fn too_short(bytes: &[u8]) -> FormatError {
    if bytes.first_chunk() == Some(&MAGIC.to_be_bytes()) {
        FormatError::HeaderTooShort { length: len_u64(bytes.len()) }
    } else {
        FormatError::NotQcow2
    }
}

fn len_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
