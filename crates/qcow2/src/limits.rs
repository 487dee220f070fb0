//! Every maximum of the format, with its source.
//!
//! "Specification" is QEMU's docs/interop/qcow2; "QEMU" is a limit of the reference implementation that we share, so
//! that both accept the same images; "ours" is a bound that neither has and that keeps hostile images cheap.

use qemu_util::units::{KIB, MIB};

/// Smallest `cluster_bits`: clusters of 512 bytes. Specification.
pub const CLUSTER_BITS_MIN: u32 = 9;

/// Largest `cluster_bits`: clusters of 2 MiB. QEMU: `MAX_CLUSTER_BITS`.
pub const CLUSTER_BITS_MAX: u32 = 21;

/// Smallest cluster in bytes.
pub const CLUSTER_SIZE_MIN: u64 = 1 << CLUSTER_BITS_MIN;

/// Largest cluster in bytes.
pub const CLUSTER_SIZE_MAX: u64 = 1 << CLUSTER_BITS_MAX;

/// Smallest cluster with extended L2 entries in bytes: 32 subclusters of 512. Specification.
pub const EXTENDED_L2_CLUSTER_SIZE_MIN: u64 = 32 * CLUSTER_SIZE_MIN;

/// Largest `refcount_order`: counts of 64 bits. Specification.
pub const REFCOUNT_ORDER_MAX: u32 = 6;

/// The `refcount_order` of version 2 images, and the usual one: counts of 16 bits. Specification.
pub const REFCOUNT_ORDER_V2: u32 = 4;

/// Largest L1 table in bytes, of the active state and of snapshots. QEMU: `QCOW_MAX_L1_SIZE`.
pub const L1_BYTES_MAX: u64 = 32 * MIB;

/// Largest refcount table in bytes. QEMU: `QCOW_MAX_REFTABLE_SIZE`.
pub const REFTABLE_BYTES_MAX: u64 = 8 * MIB;

/// Most internal snapshots. QEMU: `QCOW_MAX_SNAPSHOTS`.
pub const SNAPSHOTS_MAX: u32 = 65536;

/// Largest snapshot table in bytes. QEMU: `QCOW_MAX_SNAPSHOTS_SIZE`.
pub const SNAPSHOT_TABLE_BYTES_MAX: u64 = 64 * MIB;

/// Most bytes of extra data in one snapshot table entry. QEMU: `QCOW_MAX_SNAPSHOT_EXTRA_DATA`.
pub const SNAPSHOT_EXTRA_BYTES_MAX: u32 = 1024;

/// Longest backing file name in bytes. Specification.
pub const BACKING_NAME_BYTES_MAX: u32 = 1023;

/// Longest backing format name in bytes. QEMU: the size of `BlockDriverState::backing_format` less its terminator.
pub const BACKING_FORMAT_BYTES_MAX: u32 = 15;

/// Host offsets in L1 and L2 entries are below this. Specification: bits 9 to 55.
pub const HOST_OFFSET_END: u64 = 1 << 56;

/// Largest virtual disk in bytes: QEMU's offsets are signed. QEMU: `BDRV_MAX_LENGTH`, rounded down to 2 MiB.
pub const VIRTUAL_SIZE_MAX: u64 = (1 << 63) - (2 * MIB);

/// Grain of compressed clusters on the host, in bytes. Specification.
pub const COMPRESSED_SECTOR: u64 = 512;

/// Most persistent bitmaps. QEMU: `QCOW2_MAX_BITMAPS`.
pub const BITMAPS_MAX: u32 = 65535;

/// Bytes of a bitmap directory entry before extra data and name. Specification.
pub const BITMAP_ENTRY_FIXED_BYTES: u64 = 24;

/// Largest bitmap directory entry in bytes. QEMU: `BME_MAX_NAME_SIZE` and its fixed part, rounded up to 8.
pub const BITMAP_ENTRY_BYTES_MAX: u64 = BITMAP_ENTRY_FIXED_BYTES + 1024;

/// Largest bitmap directory in bytes. QEMU: `QCOW2_MAX_BITMAP_DIRECTORY_SIZE`.
pub const BITMAP_DIRECTORY_BYTES_MAX: u64 = BITMAPS_MAX as u64 * BITMAP_ENTRY_BYTES_MAX;

/// Most entries in one bitmap's table. QEMU: `BME_MAX_TABLE_SIZE`.
pub const BITMAP_TABLE_ENTRIES_MAX: u32 = 0x0800_0000;

/// log2 of the guest bytes that one bit of a bitmap may stand for. QEMU: `BME_MIN_GRANULARITY_BITS` and its counterpart.
pub const BITMAP_GRANULARITY_BITS: std::ops::RangeInclusive<u8> = 9..=31;

/// Longest name of a bitmap in bytes. QEMU: `BME_MAX_NAME_SIZE`.
pub const BITMAP_NAME_BYTES_MAX: usize = 1023;

/// Most bytes that the bits of one bitmap take when all of them are stored. QEMU: `BME_MAX_PHYS_SIZE`.
pub const BITMAP_BYTES_MAX: u64 = 512 * MIB;

/// Most header extensions. Ours: the reference is bounded by the first cluster alone, which holds 262144 empty ones.
pub const EXTENSIONS_MAX: usize = 4096;

/// Most check messages of one class that are kept. Ours.
pub const CHECK_MESSAGES_PER_CLASS_MAX: u64 = 100;

/// Bytes of a table that are read or written with one request. Ours: bounds the memory of table walks.
pub const TABLE_CHUNK_BYTES: u64 = 512 * KIB;
