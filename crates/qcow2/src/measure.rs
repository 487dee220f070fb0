//! How large an image will be. QEMU: `qcow2_measure`, `qcow2_calc_prealloc_size` (block/qcow2.c).
//!
//! The source is asked where it has data, and nothing is read from it: the work is that of looking at its tables.

use std::sync::Arc;

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::io::block_status_above;
use qemu_block::manage::Measurement;
use qemu_block::node::Node;
use qemu_block::options::Options;
use qemu_block::types::{FormatSpecific, InfoValue, PreallocMode};

use crate::format::header::Version;
use crate::limits::{
    BITMAP_ENTRY_FIXED_BYTES, CLUSTER_SIZE_MAX, CLUSTER_SIZE_MIN, EXTENDED_L2_CLUSTER_SIZE_MIN, L1_BYTES_MAX,
    REFCOUNT_ORDER_V2,
};

/// Bytes of an entry of an L1 or refcount table, and of a plain L2 table.
const ENTRY_BYTES: u64 = 8;
/// Bytes of an extended L2 entry.
const EXTENDED_ENTRY_BYTES: u64 = 16;

/// How large an image created with `options` will be.
///
/// # Errors
/// With the reference's text when options are wrong; what asking the source reports.
pub(crate) async fn measure(mut options: Options, source: Option<&Arc<Node>>) -> Result<Measurement> {
    let plan = Plan::take(&mut options)?;
    let size = options.take_size("size")?.unwrap_or(0);
    let mut virtual_size = plan.round_up(size)?;
    if virtual_size / plan.cluster_size * plan.l2_entry_bytes / plan.cluster_size > L1_BYTES_MAX / ENTRY_BYTES {
        return Err(invalid("The image size is too large (try using a larger cluster size)"));
    }
    let mut required = 0;
    if let Some(source) = source {
        virtual_size = plan.round_up(source.len())?;
        // How much the source has in common with a backing file nobody knows: maybe nothing.
        required = if plan.has_backing { virtual_size } else { plan.data_bytes(source).await? };
    }
    if matches!(plan.preallocation, PreallocMode::Full | PreallocMode::Falloc) {
        required = virtual_size;
    }
    let fully_allocated = plan.all_bytes(virtual_size).ok_or_else(too_large)?;
    let bitmaps = match source {
        Some(source) if plan.version >= Version::V3 => plan.bitmap_bytes(source).await?,
        _ => None,
    };
    // Data that is not there is left out; its tables are not, so this is more than will be needed.
    Ok(Measurement { required: fully_allocated - virtual_size + required, fully_allocated, bitmaps })
}

/// What the creation options say about sizes.
struct Plan {
    cluster_size: u64,
    l2_entry_bytes: u64,
    version: Version,
    refcount_bits: u64,
    preallocation: PreallocMode,
    has_backing: bool,
    /// Bytes of an encryption header, in whole clusters.
    encryption_bytes: u64,
}

impl Plan {
    /// Takes the options out that matter here.
    fn take(options: &mut Options) -> Result<Self> {
        let is_extended = options.take_bool("extended_l2")?.unwrap_or(false);
        let cluster_size = options.take_size("cluster_size")?.unwrap_or(65536);
        if !cluster_size.is_power_of_two() || !(CLUSTER_SIZE_MIN..=CLUSTER_SIZE_MAX).contains(&cluster_size) {
            return Err(invalid("Cluster size must be a power of two between 512 and 2048k"));
        }
        if is_extended && cluster_size < EXTENDED_L2_CLUSTER_SIZE_MIN {
            return Err(invalid(format!(
                "Extended L2 entries are only supported with cluster sizes of at least {EXTENDED_L2_CLUSTER_SIZE_MIN} \
                 bytes"
            )));
        }
        let version = match options.take_str("compat").as_deref() {
            None | Some("1.1" | "v3") => Version::V3,
            Some("0.10" | "v2") => Version::V2,
            Some(other) => return Err(invalid(format!("Invalid compatibility level: '{other}'"))),
        };
        let refcount_bits = options.take_number("refcount_bits")?.unwrap_or(16);
        if !refcount_bits.is_power_of_two() || refcount_bits > 64 {
            return Err(invalid("Refcount width must be a power of two and may not exceed 64 bits"));
        }
        if version < Version::V3 && refcount_bits != 1 << REFCOUNT_ORDER_V2 {
            return Err(invalid(
                "Different refcount widths than 16 bits require compatibility level 1.1 or above (use compat=1.1 or \
                 greater)",
            ));
        }
        let preallocation = options.take_str("preallocation").unwrap_or_else(|| "off".to_owned());
        let preallocation = PreallocMode::parse(&preallocation)
            .ok_or_else(|| invalid(format!("invalid parameter value: {preallocation}")))?;
        let l2_entry_bytes = if is_extended { EXTENDED_ENTRY_BYTES } else { ENTRY_BYTES };
        let has_backing = options.take_str("backing_file").is_some();
        let encryption_bytes = encryption_header_bytes(options)?.next_multiple_of(cluster_size);
        Ok(Self { cluster_size, l2_entry_bytes, version, refcount_bits, preallocation, has_backing, encryption_bytes })
    }

    fn round_up(&self, bytes: u64) -> Result<u64> {
        bytes.checked_next_multiple_of(self.cluster_size).ok_or_else(too_large)
    }

    /// Bytes of an image in which all of `virtual_size` bytes, whole clusters, are allocated.
    fn all_bytes(&self, virtual_size: u64) -> Option<u64> {
        let l2_entries = virtual_size / self.cluster_size;
        let l2_bytes = l2_entries.checked_mul(self.l2_entry_bytes)?.checked_next_multiple_of(self.cluster_size)?;
        let l1_bytes = (l2_bytes / self.cluster_size * ENTRY_BYTES).next_multiple_of(self.cluster_size);
        let counted = self.cluster_size.checked_add(l2_bytes)?.checked_add(l1_bytes)?.checked_add(virtual_size)?;
        let refcounts = self.refcount_bytes(counted / self.cluster_size)?;
        counted.checked_add(refcounts)?.checked_add(self.encryption_bytes)
    }

    /// Bytes of refcount table and blocks that count `others` clusters and themselves.
    /// QEMU: `qcow2_refcount_metadata_size`.
    fn refcount_bytes(&self, others: u64) -> Option<u64> {
        let per_block = self.cluster_size * 8 / self.refcount_bits;
        let (mut table, mut blocks, mut total) = (0u64, 0u64, 0);
        loop {
            let last = total;
            blocks = others.checked_add(table)?.checked_add(blocks)?.div_ceil(per_block);
            table = blocks.div_ceil(self.cluster_size / ENTRY_BYTES);
            total = others.checked_add(blocks)?.checked_add(table)?;
            if total == last {
                return blocks.checked_add(table)?.checked_mul(self.cluster_size);
            }
        }
    }

    /// Bytes of the clusters in which the source, with its backing files, has data.
    async fn data_bytes(&self, source: &Arc<Node>) -> Result<u64> {
        let (mut at, mut bytes) = (0, 0u64);
        while at < source.len() {
            let status = block_status_above(source, None, at, source.len() - at).await?.status;
            let mut end = at.saturating_add(status.len.max(1));
            if status.is_data() && status.is_allocated() {
                end = self.round_up(end)?;
                bytes = bytes.saturating_add(end - at / self.cluster_size * self.cluster_size);
            }
            at = end;
        }
        Ok(bytes)
    }

    /// Bytes that the persistent bitmaps of the source will take; none if it cannot have any.
    /// QEMU: `qcow2_get_persistent_dirty_bitmap_size` (block/qcow2-bitmap.c).
    async fn bitmap_bytes(&self, source: &Arc<Node>) -> Result<Option<u64>> {
        let Some(FormatSpecific { type_name: "qcow2", fields }) = source.info().await?.format_specific else {
            return Ok(None);
        };
        let field = |name: &str| fields.iter().find(|(key, _)| *key == name).map(|(_, value)| value);
        if field("compat") != Some(&InfoValue::Text("1.1".to_owned())) {
            return Ok(None);
        }
        let Some(InfoValue::List(bitmaps)) = field("bitmaps") else { return Ok(Some(0)) };
        let (mut bytes, mut directory) = (0u64, 0u64);
        for bitmap in bitmaps {
            let InfoValue::Object(members) = bitmap else { continue };
            let member = |name: &str| members.iter().find(|(key, _)| *key == name).map(|(_, value)| value);
            let (Some(InfoValue::Text(name)), Some(InfoValue::Int(granularity))) =
                (member("name"), member("granularity"))
            else {
                continue;
            };
            let in_use = InfoValue::Text("in-use".to_owned());
            if *granularity == 0 || matches!(member("flags"), Some(InfoValue::List(flags)) if flags.contains(&in_use)) {
                continue;
            }
            let clusters = source.len().div_ceil(*granularity).div_ceil(8).div_ceil(self.cluster_size);
            bytes = bytes.saturating_add(clusters.saturating_mul(self.cluster_size));
            bytes = bytes.saturating_add(self.round_up(clusters.saturating_mul(ENTRY_BYTES))?);
            let name_bytes = u64::try_from(name.len()).unwrap_or(u64::MAX);
            directory =
                directory.saturating_add(BITMAP_ENTRY_FIXED_BYTES.saturating_add(name_bytes).next_multiple_of(8));
        }
        Ok(Some(bytes.saturating_add(self.round_up(directory)?)))
    }
}

/// Bytes of a LUKS header, with its eight key slots; none for other or no encryption.
fn encryption_header_bytes(options: &mut Options) -> Result<u64> {
    /// The header proper, and what key slots are aligned to.
    const GRAIN: u64 = 4096;
    const SLOTS: u64 = 8;
    const STRIPES: u64 = 4000;
    if options.take_str("encrypt.format").as_deref() != Some("luks") {
        return Ok(0);
    }
    if options.take_str("encrypt.key-secret").is_none() {
        return Err(invalid("Parameter 'encrypt.key-secret' is required for cipher"));
    }
    let key_bytes = match options.take_str("encrypt.cipher-alg").as_deref() {
        Some("aes-128") => 16,
        Some("aes-192") => 24,
        _ => 32,
    };
    let is_xts = options.take_str("encrypt.cipher-mode").is_none_or(|mode| mode == "xts");
    // XTS has two keys.
    let key_bytes = if is_xts { 2 * key_bytes } else { key_bytes };
    Ok(GRAIN + SLOTS * (key_bytes * STRIPES).next_multiple_of(GRAIN))
}

fn too_large() -> BlockError {
    invalid("The image size is too large (try using a larger cluster size)")
}

fn invalid(message: impl Into<String>) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, message)
}
