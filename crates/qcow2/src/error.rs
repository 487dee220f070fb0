//! What can be wrong with the bytes of an image.

use std::fmt;

use qemu_block::error::{BlockError, ErrorKind};

use crate::limits::BACKING_FORMAT_BYTES_MAX;

/// A table in the image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TableKind {
    /// The L1 table of the active state.
    ActiveL1,
    /// The L1 table of a snapshot.
    SnapshotL1,
    /// An L2 table.
    L2,
    /// The refcount table.
    Refcount,
    /// A refcount block.
    RefcountBlock,
    /// The snapshot table.
    Snapshots,
    /// The table of a bitmap.
    BitmapTable,
    /// The bitmap directory.
    BitmapDirectory,
    /// The LUKS header with its key slots.
    EncryptionHeader,
}

impl fmt::Display for TableKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ActiveL1 => "Active L1 table",
            Self::SnapshotL1 => "Snapshot L1 table",
            Self::L2 => "L2 table",
            Self::Refcount => "Reference count table",
            Self::RefcountBlock => "Reference count block",
            Self::Snapshots => "Snapshot table",
            Self::BitmapDirectory => "Bitmap directory",
            Self::BitmapTable => "Bitmap table",
            Self::EncryptionHeader => "Encryption header",
        })
    }
}

/// What is wrong with a table entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum EntryFlaw {
    /// Bits that the format reserves are set.
    #[error("reserved bits are set")]
    ReservedBits,
    /// The offset is not the start of a cluster.
    #[error("the offset is not aligned to a cluster")]
    Unaligned,
    /// A version 2 image has no zero flag, but the entry does.
    #[error("the zero flag is set in a version 2 image")]
    ZeroFlagInV2,
    /// The subclusters of an extended entry contradict one another, or have data without a host cluster.
    #[error("the subcluster bitmap is invalid")]
    Subclusters,
}

impl EntryFlaw {
    /// The error of the entry that has this flaw: the `index`-th of the table at `table_offset`.
    #[cold]
    pub fn at(self, table: TableKind, table_offset: u64, index: usize, value: u64) -> FormatError {
        FormatError::Entry { table, table_offset, index, value, flaw: self }
    }
}

/// A way in which bytes are not a qcow2 image that we can use.
///
/// The texts are what the user of the reference tool knows, where it has one for the case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The magic number is missing.
    #[error("Image is not in qcow2 format")]
    NotQcow2,
    /// A version that nobody has defined.
    #[error("Unsupported qcow2 version {version}")]
    Version {
        /// The version.
        version: u32,
    },
    /// Clusters are too small to have subclusters.
    #[error("Unsupported subcluster size: {size}")]
    SubclusterSize {
        /// Bytes in a subcluster.
        size: u64,
    },
    /// `cluster_bits` is out of range.
    #[error("Unsupported cluster size: 2^{cluster_bits}")]
    ClusterSize {
        /// The value.
        cluster_bits: u32,
    },
    /// The header ends before the fields that its version has.
    #[error("qcow2 header too short")]
    HeaderTooShort {
        /// Its length in bytes.
        length: u64,
    },
    /// The header does not fit into the first cluster.
    #[error("qcow2 header exceeds cluster size")]
    HeaderTooLong {
        /// Its length in bytes.
        length: u64,
    },
    /// The header's length is not a multiple of eight.
    #[error("qcow2 header length {length} is not a multiple of 8")]
    HeaderUnaligned {
        /// Its length in bytes.
        length: u64,
    },
    /// The file ends inside the header, its extensions or the backing file name.
    #[error("Image is too short for its header: {needed} bytes needed, {available} available")]
    HeaderTruncated {
        /// Bytes that the header needs.
        needed: u64,
        /// Bytes that there are.
        available: u64,
    },
    /// Incompatible features that we do not know.
    #[error("Unsupported qcow2 feature(s): {names}")]
    Features {
        /// Their names or bits, as a list.
        names: String,
    },
    /// A feature that we know and cannot use yet.
    #[error("Unsupported qcow2 feature(s): {name}")]
    NotImplemented {
        /// Its name.
        name: &'static str,
    },
    /// The compression bit and the compression type contradict each other.
    #[error("qcow2: Compression type incompatible feature bit must {}be set", if *.is_zlib { "not " } else { "" })]
    CompressionBit {
        /// Whether the type is zlib, which needs no bit.
        is_zlib: bool,
    },
    /// The compression type is unknown.
    #[error("qcow2: unknown compression type: {value}")]
    CompressionType {
        /// The type.
        value: u8,
    },
    /// The method of encryption is unknown.
    #[error("Unsupported encryption method {method}")]
    EncryptionMethod {
        /// The method.
        method: u32,
    },
    /// `refcount_order` is out of range.
    #[error("Reference count entry width too large; may not exceed 64 bits")]
    RefcountOrder {
        /// The value.
        refcount_order: u32,
    },
    /// The virtual disk is larger than its tables can ever describe.
    #[error("Image is too big")]
    VirtualSize {
        /// Size in bytes.
        size: u64,
    },
    /// The active L1 table has no entry for the end of the virtual disk.
    #[error("L1 table is too small")]
    L1TooSmall {
        /// Entries that it has.
        entries: u32,
        /// Entries that the virtual disk needs.
        needed: u64,
    },
    /// A table has more entries than the format allows.
    #[error("{table} too large")]
    TableTooLarge {
        /// Which table.
        table: TableKind,
        /// Its entries.
        entries: u64,
    },
    /// A table starts where no table can.
    #[error("{table} offset invalid")]
    TableOffset {
        /// Which table.
        table: TableKind,
        /// Where it starts, in bytes.
        offset: u64,
    },
    /// There is no refcount table.
    #[error("Image does not contain a reference count table")]
    NoRefcountTable,
    /// The image file ends before a table does.
    #[error("{table} lies outside the image file: it ends at {end}, the file at {file_len}")]
    TableTruncated {
        /// Which table.
        table: TableKind,
        /// Where the table ends, in bytes.
        end: u64,
        /// Where the file ends, in bytes.
        file_len: u64,
    },
    /// A header extension does not fit before the backing file name or the end of the first cluster.
    #[error("Header extension too large")]
    ExtensionTooLarge {
        /// Its type.
        magic: u32,
        /// Its length in bytes.
        length: u32,
    },
    /// There are more extensions than any program writes.
    #[error("Too many header extensions")]
    ExtensionCount,
    /// The extension that says where the LUKS header is, is missing.
    #[error("Missing CRYPTO header for crypt method {method}")]
    EncryptionMissing {
        /// The method.
        method: u32,
    },
    /// The encryption extension has a length that it cannot have.
    #[error("CRYPTO header extension size {length}, but expected size 16")]
    EncryptionLength {
        /// Its length in bytes.
        length: u32,
    },
    /// The encryption header does not start at a cluster.
    #[error("Encryption header offset '{offset}' is not a multiple of cluster size '{cluster_size}'")]
    EncryptionOffset {
        /// Where it starts, in bytes.
        offset: u64,
        /// Bytes of a cluster.
        cluster_size: u64,
    },
    /// A part of the encryption header lies after its end.
    #[error("Request for data outside of extension header")]
    EncryptionBounds {
        /// Where the part ends, in bytes from the start of the encryption header.
        end: u64,
        /// Length of the encryption header in bytes.
        len: u64,
    },
    /// An encryption header is named although the image is not encrypted by LUKS.
    #[error("CRYPTO header extension only expected with LUKS encryption method")]
    UnexpectedEncryption,
    /// The bitmaps extension has a length that it cannot have.
    #[error("bitmaps_ext: Invalid extension length")]
    BitmapsLength {
        /// Its length in bytes.
        length: u64,
    },
    /// The name of the backing format is too long.
    #[error("ERROR: ext_backing_format: len={length} too large (>={})", BACKING_FORMAT_BYTES_MAX + 1)]
    BackingFormatTooLong {
        /// Its length in bytes.
        length: u32,
    },
    /// The backing file name starts outside the first cluster.
    #[error("Invalid backing file offset")]
    BackingOffset {
        /// Where it starts, in bytes.
        offset: u64,
    },
    /// The backing file name is too long, or does not fit into the first cluster.
    #[error("Backing file name too long")]
    BackingNameTooLong {
        /// Its length in bytes.
        length: u32,
    },
    /// The backing file name is not UTF-8, so that no path can be made of it.
    #[error("Backing file name is not valid UTF-8")]
    BackingNameText,
    /// A field of the bitmaps extension is out of range.
    #[error("bitmaps_ext: {flaw}")]
    Bitmaps {
        /// What is wrong.
        flaw: &'static str,
        /// The field's value.
        value: u64,
    },
    /// A snapshot table entry has more extra data than any program writes.
    #[error("Too much extra metadata in snapshot table entry {index}")]
    SnapshotExtra {
        /// Which entry.
        index: u32,
        /// Bytes of extra data.
        length: u32,
    },
    /// The file ends inside the snapshot table.
    #[error("Snapshot table entry {index} lies outside the image file")]
    SnapshotTruncated {
        /// Which entry.
        index: u32,
    },
    /// A table entry is malformed.
    #[error("{table} entry {index} (table offset {table_offset:#x}) is invalid: {value:#x}: {flaw}")]
    Entry {
        /// Which table.
        table: TableKind,
        /// Where the table starts, in bytes.
        table_offset: u64,
        /// Which entry.
        index: usize,
        /// Its raw value.
        value: u64,
        /// What is wrong with it.
        flaw: EntryFlaw,
    },
    /// An entry of an image with an external data file names another place than its own.
    #[error("{}", data_file_place(*.guest, *.host, *.is_compressed))]
    DataFilePlace {
        /// The guest offset of the cluster.
        guest: u64,
        /// The host offset that the entry names.
        host: u64,
        /// Whether the cluster is compressed, which none can be.
        is_compressed: bool,
    },
    /// A refcount does not fit its width or its block.
    #[error("Reference count {value} does not fit at index {index}")]
    RefcountRange {
        /// Index in the refcount block.
        index: usize,
        /// The count.
        value: u64,
    },
    /// A header cannot be written because it does not fit into the first cluster.
    #[error("The image header does not fit into one cluster: {length} bytes")]
    HeaderNoSpace {
        /// The bytes that it would need.
        length: u64,
    },
    /// The bytes of a compressed cluster do not decompress to a cluster.
    #[error("Compressed cluster is damaged")]
    Decompress,
}

fn data_file_place(guest: u64, host: u64, is_compressed: bool) -> String {
    if is_compressed {
        format!("Compressed cluster entry found in image with external data file (guest offset: {guest:#x})")
    } else {
        format!("External data file host cluster offset {host:#x} does not match guest cluster offset: {guest:#x}")
    }
}

impl FormatError {
    /// What the error means for control flow.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotQcow2 => ErrorKind::NotThisFormat,
            Self::Version { .. }
            | Self::Features { .. }
            | Self::NotImplemented { .. }
            | Self::CompressionType { .. }
            | Self::EncryptionMethod { .. } => ErrorKind::Unsupported,
            Self::HeaderTruncated { .. } | Self::TableTruncated { .. } | Self::SnapshotTruncated { .. } => {
                ErrorKind::Truncated
            }
            Self::HeaderNoSpace { .. } => ErrorKind::NoSpace,
            Self::ClusterSize { .. } | Self::VirtualSize { .. } => ErrorKind::InvalidArgument,
            _ => ErrorKind::Corrupt,
        }
    }
}

impl From<FormatError> for BlockError {
    fn from(error: FormatError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}
