//! How much memory the caches may take: the open options and what follows from them. QEMU: `read_cache_sizes`
//! (block/qcow2.c).

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::options::Options;

use crate::limits::CLUSTER_SIZE_MIN;
use crate::units::Geometry;

/// Bytes of L2 tables kept in memory at most, unless an option says otherwise: 32 MiB map 256 GiB of 64 KiB clusters.
const L2_BYTES: u64 = 32 << 20;
/// Bytes of refcount blocks kept in memory at most, unless an option says otherwise.
const REFBLOCK_BYTES: u64 = 4 << 20;
/// Tables are cached in slices of at most this many bytes, unless an option says otherwise.
const SLICE_BYTES_MAX: u64 = 4096;
/// The fewest slices of L2 tables, and the fewest refcount blocks, that a cache holds. QEMU: `MIN_L2_CACHE_SIZE`,
/// `MIN_REFCOUNT_CACHE_SIZE`.
const L2_SLICES_MIN: u64 = 2;
const REFBLOCKS_MIN: u64 = 4;
/// The most slices that the reference accepts.
const SLICES_MAX: u64 = i32::MAX as u64;

const CACHE_SIZE: &str = "cache-size";
const L2_CACHE_SIZE: &str = "l2-cache-size";
const REFCOUNT_CACHE_SIZE: &str = "refcount-cache-size";
const L2_CACHE_ENTRY_SIZE: &str = "l2-cache-entry-size";

/// The size of one cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheSize {
    pub(crate) slice_bytes: usize,
    pub(crate) slices_max: usize,
}

/// The sizes of the two caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheSizes {
    pub(crate) l2: CacheSize,
    pub(crate) refblocks: CacheSize,
}

impl CacheSizes {
    /// Takes the options for caches; those that are missing have their defaults.
    ///
    /// # Errors
    /// `InvalidArgument` with the reference's text.
    pub(crate) fn take(options: &mut Options, geo: Geometry, disk_size: u64) -> Result<Self> {
        let combined = options.take_size(CACHE_SIZE)?;
        let l2 = options.take_size(L2_CACHE_SIZE)?;
        let refblocks = options.take_size(REFCOUNT_CACHE_SIZE)?;
        let l2_entry = options.take_size(L2_CACHE_ENTRY_SIZE)?;
        // Tables for the whole disk, all that a cache can hold unless the disk grows. Memory is taken when it is needed.
        let l2_max = geo.l1_entries_for(disk_size).saturating_mul(geo.cluster_size());
        let (l2_bytes, refblock_bytes) = match combined {
            None => (l2.unwrap_or(L2_BYTES), refblocks.unwrap_or(REFBLOCK_BYTES)),
            Some(combined) => divide(combined, l2, refblocks, l2_max, REFBLOCKS_MIN * geo.cluster_size())?,
        };
        let l2_slice = l2_entry.unwrap_or_else(|| geo.cluster_size().min(SLICE_BYTES_MAX));
        if !l2_slice.is_power_of_two() || !(CLUSTER_SIZE_MIN..=geo.cluster_size()).contains(&l2_slice) {
            let cluster = geo.cluster_size();
            return Err(invalid(format!(
                "L2 cache entry size must be a power of two between {CLUSTER_SIZE_MIN} and the cluster size ({cluster})"
            )));
        }
        let refblock_slice = geo.cluster_size().min(SLICE_BYTES_MAX);
        if l2_bytes.min(l2_max) / l2_slice > SLICES_MAX {
            return Err(invalid("L2 cache size too big"));
        }
        if refblock_bytes / geo.cluster_size() > SLICES_MAX {
            return Err(invalid("Refcount cache size too big"));
        }
        Ok(Self {
            l2: cache_size(l2_bytes, l2_slice, L2_SLICES_MIN),
            refblocks: cache_size(refblock_bytes, refblock_slice, REFBLOCKS_MIN),
        })
    }
}

/// Divides the memory for both caches between them.
fn divide(
    combined: u64,
    l2: Option<u64>,
    refblocks: Option<u64>,
    l2_max: u64,
    refblocks_min: u64,
) -> Result<(u64, u64)> {
    match (l2, refblocks) {
        (Some(_), Some(_)) => Err(invalid(format!(
            "{CACHE_SIZE}, {L2_CACHE_SIZE} and {REFCOUNT_CACHE_SIZE} may not be set at the same time"
        ))),
        (Some(l2), None) if l2 > combined => Err(invalid(format!("{L2_CACHE_SIZE} may not exceed {CACHE_SIZE}"))),
        (None, Some(refblocks)) if refblocks > combined => {
            Err(invalid(format!("{REFCOUNT_CACHE_SIZE} may not exceed {CACHE_SIZE}")))
        }
        (Some(l2), None) => {
            let l2 = l2.min(l2_max);
            Ok((l2, combined - l2))
        }
        (None, Some(refblocks)) => Ok((combined - refblocks, refblocks)),
        // L2 tables come first: each look-up needs one, and counts are only looked at to allocate.
        (None, None) if combined >= l2_max.saturating_add(refblocks_min) => Ok((l2_max, combined - l2_max)),
        (None, None) => {
            let refblocks = combined.min(refblocks_min);
            Ok((combined - refblocks, refblocks))
        }
    }
}

fn cache_size(bytes: u64, slice_bytes: u64, slices_min: u64) -> CacheSize {
    let in_memory = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    CacheSize { slice_bytes: in_memory(slice_bytes), slices_max: in_memory((bytes / slice_bytes).max(slices_min)) }
}

fn invalid(message: impl Into<String>) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: u64 = 1 << 40;

    fn sizes(options: &str) -> Result<CacheSizes> {
        let mut options = Options::parse_keyval(options, None)?;
        let sizes = CacheSizes::take(&mut options, Geometry::new(16, 4).expect("valid"), DISK);
        assert!(sizes.is_err() || options.is_empty(), "all are taken");
        sizes
    }

    fn bytes(options: &str) -> (usize, usize) {
        let sizes = sizes(options).expect("valid");
        let bytes = |cache: CacheSize| cache.slice_bytes * cache.slices_max;
        (bytes(sizes.l2), bytes(sizes.refblocks))
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let error = |options: &str| sizes(options).expect_err("refused").message().to_owned();
        let all = "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time";
        assert_eq!(error("cache-size=1M,l2-cache-size=512k,refcount-cache-size=512k"), all);
        assert_eq!(error("cache-size=1M,l2-cache-size=2M"), "l2-cache-size may not exceed cache-size");
        assert_eq!(error("cache-size=1M,refcount-cache-size=2M"), "refcount-cache-size may not exceed cache-size");
        for entry in ["256", "128k", "3000"] {
            let text = "L2 cache entry size must be a power of two between 512 and the cluster size (65536)";
            assert_eq!(error(&format!("l2-cache-entry-size={entry}")), text);
        }
        assert_eq!(error("refcount-cache-size=1E"), "Refcount cache size too big");
        assert!(sizes("l2-cache-size=7E,l2-cache-entry-size=512").is_ok(), "more than the disk has tables for");
    }

    #[test]
    fn the_rest_goes_to_the_other_cache() {
        assert_eq!(bytes(""), (32 << 20, 4 << 20));
        assert_eq!(bytes("cache-size=1M"), (768 << 10, 256 << 10));
        assert_eq!(bytes("cache-size=1M,l2-cache-size=128k"), (128 << 10, 896 << 10));
        assert_eq!(bytes("cache-size=1M,refcount-cache-size=128k"), (896 << 10, 128 << 10));
        assert_eq!(bytes("cache-size=256M"), (128 << 20, 128 << 20), "1 TiB has 128 MiB of L2 tables");
        assert_eq!(bytes("cache-size=0"), (8 << 10, 16 << 10), "two and four slices");
        assert_eq!(bytes("l2-cache-size=0,l2-cache-entry-size=512"), (1024, 4 << 20));
    }
}
