//! From version 2 to 3 and back. QEMU: `qcow2_upgrade`, `qcow2_downgrade` (block/qcow2.c).
//!
//! Version 2 has no features, no zero flag and one width of refcounts. Whatever an image has of those is removed first,
//! or it stays version 3.

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::io::RangeMode;

use crate::format::extension::{Extension, MAGIC_FEATURE_NAMES};
use crate::format::features::{Autoclear, Compatible, Incompatible};
use crate::format::header::{CompressionType, FULL_BYTES, Header, V2_BYTES, Version};
use crate::format::l2::L2Mapping;
use crate::image::Image;
use crate::limits::REFCOUNT_ORDER_V2;
use crate::snapshots::read_snapshots;

impl Image {
    /// Makes a version 2 image one of version 3.
    pub(super) async fn upgrade(&self) -> Result<()> {
        let mut meta = self.meta.lock().await;
        let snapshots = read_snapshots(&self.storage, &meta.header).await?;
        if snapshots.iter().any(|entry| entry.disk_size.is_none()) {
            let text = "Failed to update the snapshot table: Operation not supported";
            return Err(BlockError::new(ErrorKind::Unsupported, text));
        }
        meta.flush().await?;
        meta.rewrite_header(Header::upgrade).await?;
        meta.adopt_header();
        self.set_version(Version::V3);
        Ok(())
    }

    /// Makes a version 3 image one of version 2, if that can express it.
    pub(super) async fn downgrade(&self) -> Result<()> {
        self.check_downgrade().await?;
        // No zero flag may be set again until the header forbids it.
        let _disk = self.ranges.lock(self.cluster_range(0, self.size()), RangeMode::Exclusive).await;
        self.expand_zeros().await.map_err(|error| error.context("Failed to turn zero into data clusters"))?;
        let mut meta = self.meta.lock().await;
        if meta.header.compression != CompressionType::Zlib && self.has_compressed(&mut meta).await? {
            let text = "Cannot downgrade an image with zstd compression type and existing compressed clusters";
            return Err(BlockError::new(ErrorKind::Unsupported, text));
        }
        meta.flush().await?;
        meta.keep_promise().await?;
        if meta.snapshots_have_zeros().await? {
            let text = "Cannot downgrade an image with internal snapshots that have zero clusters";
            return Err(BlockError::new(ErrorKind::Unsupported, text));
        }
        meta.lazy_refcounts = false;
        meta.rewrite_header(Header::downgrade).await?;
        meta.adopt_header();
        self.set_version(Version::V2);
        self.set_compression(CompressionType::Zlib);
        Ok(())
    }

    async fn check_downgrade(&self) -> Result<()> {
        let header = self.meta.lock().await.header.clone();
        let unsupported = |text: String| Err(BlockError::new(ErrorKind::Unsupported, text));
        if header.geometry.refcount_order() != REFCOUNT_ORDER_V2 {
            return unsupported("compat=0.10 requires refcount_bits=16".to_owned());
        }
        if header.has_data_file() {
            return unsupported("Cannot downgrade an image with a data file".to_owned());
        }
        let snapshots = read_snapshots(&self.storage, &header).await?;
        let fits = |size: Option<u64>, vm_state: u64| {
            u32::try_from(vm_state).is_ok() && size.is_none_or(|size| size == self.size())
        };
        if !snapshots.iter().all(|entry| fits(entry.disk_size, entry.vm_state_bytes)) {
            return unsupported("Internal snapshots prevent downgrade of image".to_owned());
        }
        let hindrances = header.incompatible - Incompatible::COMPRESSION - Incompatible::DIRTY;
        if !hindrances.is_empty() {
            let bits = hindrances.bits();
            return unsupported(format!("Cannot downgrade an image with incompatible features {bits:#x} set"));
        }
        Ok(())
    }

    async fn has_compressed(&self, meta: &mut crate::meta::Meta) -> Result<bool> {
        let (mut at, end) = self.clusters_of(0, self.size());
        while at < end && self.size() != 0 {
            let run = meta.lookup_run(at, end).await?;
            if matches!(run.mapping, L2Mapping::Compressed(_)) {
                return Ok(true);
            }
            at = run.end();
        }
        Ok(false)
    }
}

impl Header {
    fn upgrade(&mut self) {
        self.version = Version::V3;
        self.header_length = u32::try_from(FULL_BYTES).expect("short");
        self.set_extension(MAGIC_FEATURE_NAMES, Some(Extension::feature_names().data));
    }

    fn downgrade(&mut self) {
        self.version = Version::V2;
        self.header_length = u32::try_from(V2_BYTES).expect("short");
        self.incompatible = Incompatible::empty();
        self.compatible = Compatible::empty();
        self.autoclear = Autoclear::empty();
        self.compression = CompressionType::Zlib;
        self.unknown_fields.clear();
        self.set_extension(MAGIC_FEATURE_NAMES, None);
    }
}
