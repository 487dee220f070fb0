//! An open image: the state that requests share.

use std::fmt;
use std::sync::Arc;

use qemu_block::aio::Services;
use qemu_block::debug::DebugEvent;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::io::RangeLock;
use qemu_block::node::Node;
use qemu_block::types::{OpenFlags, WriteFlags};
use qemu_util::buf::{IoBuf, IoBytes};
use qemu_util::primitive::atomic::{AtomicBool, AtomicU64, Ordering};
use qemu_util::sync::CoMutex;

use crate::bitmaps::Bitmaps;
use crate::cache::file::MetaFile;
use crate::cache::sizes::CacheSizes;
use crate::compress::Level;
use crate::encryption::Encryption;
use crate::format::features::Incompatible;
use crate::format::header::{CompressionType, FEATURES_OFFSET, Header, Version};
use crate::health::Health;
use crate::io::crypt::DataCipher;
use crate::io::data::{DataKind, DataStore};
use crate::meta::Meta;
use crate::units::{Geometry, GuestCluster, GuestOffset};

/// Zeros that writes of padding share, in bytes.
pub(crate) const ZEROS_BYTES: usize = 64 << 10;

/// An open qcow2 image. QEMU: `BDRVQcow2State` (block/qcow2.h).
///
/// Lock order: [`Image::ranges`], then [`Image::meta`]. The metadata lock is never held across data I/O; a guest range
/// is, but only by those who use just these clusters.
pub(crate) struct Image {
    pub(crate) geo: Geometry,
    /// Whether the version is 3, not 2.
    is_v3: AtomicBool,
    is_zstd: AtomicBool,
    /// How hard clusters are compressed.
    pub(crate) compression_level: Level,
    pub(crate) storage: Arc<Node>,
    /// Guest data.
    pub(crate) data: DataStore,
    /// How guest data is encrypted, if it is.
    pub(crate) encryption: Option<Encryption>,
    pub(crate) backing: Option<Arc<Node>>,
    /// Whether the header names a backing file, open or not.
    has_backing_name: AtomicBool,
    pub(crate) services: Services,
    pub(crate) filename: String,
    pub(crate) flags: OpenFlags,
    /// Everything that maps and counts clusters.
    pub(crate) meta: CoMutex<Meta>,
    /// Guest bytes, in whole clusters, that requests use: shared when the mapping stays, exclusive when it changes.
    pub(crate) ranges: RangeLock,
    pub(crate) zeros: IoBytes,
    pub(crate) bitmaps: Bitmaps,
    /// Whether the storage has holes where this image has data, so that asking it is worth the time.
    pub(crate) sparse_storage: bool,
    /// Whether clusters stay reserved when what they hold is given up (`discard-no-unref`).
    pub(crate) discard_no_unref: bool,
    size: AtomicU64,
    closed: AtomicBool,
    /// Whether the image may still be written.
    pub(crate) health: Arc<Health>,
}

impl Image {
    /// An image with a validated header.
    pub(crate) fn new(parts: ImageParts) -> Self {
        let ImageParts {
            header,
            lazy_refcounts,
            compression_level,
            storage,
            encryption,
            cipher,
            discard_no_unref,
            data,
            backing,
            services,
            filename,
            flags,
            caches,
            sparse_storage,
        } = parts;
        let health = Arc::new(Health::default());
        let data = match (header.has_data_file(), header.is_data_file_raw()) {
            (false, _) => DataStore::new(Some(Arc::clone(&storage)), DataKind::Image, cipher),
            (true, false) => DataStore::new(data, DataKind::External, cipher),
            (true, true) => DataStore::new(data, DataKind::Raw, cipher),
        };
        let meta_file = MetaFile::new(Arc::clone(&storage), data.external().cloned(), Arc::clone(&health));
        let mut meta = Meta::new(meta_file, header.clone(), caches);
        meta.lazy_refcounts = lazy_refcounts;
        Self {
            geo: header.geometry,
            is_v3: AtomicBool::new(header.version == Version::V3),
            is_zstd: AtomicBool::new(header.compression == CompressionType::Zstd),
            compression_level,
            meta: CoMutex::new(meta),
            ranges: RangeLock::new(),
            zeros: IoBuf::zeroed(ZEROS_BYTES).freeze(),
            bitmaps: Bitmaps::new(flags.contains(OpenFlags::WRITE) && header.bitmaps.is_some()),
            size: AtomicU64::new(header.virtual_size),
            closed: AtomicBool::new(false),
            health,
            has_backing_name: AtomicBool::new(header.backing_name.is_some()),
            sparse_storage,
            discard_no_unref,
            data,
            encryption,
            storage,
            backing,
            services,
            filename,
            flags,
        }
    }

    /// The version of the format.
    pub(crate) fn version(&self) -> Version {
        // Ordering: relaxed; who changes it holds the whole disk when that matters.
        if self.is_v3.load(Ordering::Relaxed) { Version::V3 } else { Version::V2 }
    }

    pub(crate) fn set_version(&self, version: Version) {
        // Ordering: relaxed, as in `version`.
        self.is_v3.store(version == Version::V3, Ordering::Relaxed);
    }

    /// How clusters are compressed.
    pub(crate) fn compression(&self) -> CompressionType {
        // Ordering: relaxed; only an image without compressed clusters changes it, and its user compresses none meanwhile.
        if self.is_zstd.load(Ordering::Relaxed) { CompressionType::Zstd } else { CompressionType::Zlib }
    }

    pub(crate) fn set_compression(&self, compression: CompressionType) {
        // Ordering: relaxed, as in `compression`.
        self.is_zstd.store(compression == CompressionType::Zstd, Ordering::Relaxed);
    }

    /// Size of the virtual disk in bytes.
    pub(crate) fn size(&self) -> u64 {
        // Ordering: relaxed; the value stands alone, and requests are ordered with a resize by their caller.
        self.size.load(Ordering::Relaxed)
    }

    pub(crate) fn set_size(&self, size: u64) {
        // Ordering: relaxed, as in `size`.
        self.size.store(size, Ordering::Relaxed);
    }

    /// Whether what is not mapped may be data of a backing file, now or when the image is opened the next time: one that
    /// the header names counts even if it was not opened.
    pub(crate) fn may_have_backing(&self) -> bool {
        self.has_backing_name() || self.backing.is_some()
    }

    /// Whether the header names a backing file, open or not.
    fn has_backing_name(&self) -> bool {
        // Ordering: relaxed; the value stands alone, and requests are ordered with its change by their caller.
        self.has_backing_name.load(Ordering::Relaxed)
    }

    /// Notes whether the header names a backing file.
    pub(crate) fn set_backing_name(&self, has_name: bool) {
        // Ordering: relaxed, as in `has_backing_name`.
        self.has_backing_name.store(has_name, Ordering::Relaxed);
    }

    /// Bytes of the backing file that show where nothing is mapped. One that is named and not open is as long as
    /// can be, because nobody knows.
    pub(crate) fn backing_len(&self) -> u64 {
        match &self.backing {
            Some(backing) => backing.len(),
            None if self.has_backing_name() => u64::MAX,
            None => 0,
        }
    }

    /// The clusters that the bytes from `offset` on touch: the first one and the one after the last. No bytes count as
    /// one.
    pub(crate) fn clusters_of(&self, offset: u64, len: u64) -> (GuestCluster, GuestCluster) {
        let first = self.geo.guest_cluster(GuestOffset::new(offset));
        let last = offset.saturating_add(len.saturating_sub(1));
        let last = self.geo.guest_cluster(GuestOffset::new(last));
        (first, last.next())
    }

    /// The same clusters as a range of bytes, to be locked.
    pub(crate) fn cluster_range(&self, offset: u64, len: u64) -> std::ops::Range<u64> {
        let (first, end) = self.clusters_of(offset, len);
        self.geo.guest_start(first).get()..self.geo.guest_start(end).get()
    }

    /// Makes what the nodes below have durable, data before metadata.
    pub(crate) async fn flush_nodes(&self) -> Result<()> {
        self.storage.debug_event(DebugEvent::FlushToDisk).await;
        self.data.flush_external().await?;
        self.storage.flush().await
    }

    /// Fails when the image was closed.
    pub(crate) fn check_open(&self) -> Result<()> {
        // Ordering: relaxed; closing is ordered with requests by the caller, the flag is a safety net.
        if self.closed.load(Ordering::Relaxed) {
            return Err(BlockError::new(ErrorKind::BadRequest, "qcow2: the image is closed"));
        }
        Ok(())
    }

    /// Fails when nothing may be written.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        if !self.flags.contains(OpenFlags::WRITE) {
            return Err(BlockError::new(ErrorKind::PermissionDenied, "qcow2: the image is read-only"));
        }
        self.health.check()
    }

    /// Marks the image closed; returns whether it was open.
    pub(crate) fn mark_closed(&self) -> bool {
        // Ordering: relaxed, as in `check_open`.
        !self.closed.swap(true, Ordering::Relaxed)
    }

    /// Takes note of an error while changing the image. Corruption is recorded in the header, and writes stop.
    pub(crate) async fn note_failure(&self, meta: &mut Meta, error: BlockError) -> BlockError {
        if error.kind() != ErrorKind::Corrupt || !self.health.mark_corrupt() {
            return error;
        }
        if self.version() == Version::V3 {
            meta.header.incompatible |= Incompatible::CORRUPT;
            let word = IoBuf::copy_of(&meta.header.incompatible.bits().to_be_bytes());
            let marked = match self.storage.write(FEATURES_OFFSET, word.into(), WriteFlags::empty()).await {
                Ok(()) => self.storage.flush().await,
                Err(error) => Err(error),
            };
            if let Err(also) = marked {
                return error.context(format!("qcow2: the image could not be marked corrupt: {also}"));
            }
        }
        error
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").field("filename", &self.filename).field("size", &self.size()).finish_non_exhaustive()
    }
}

/// What an [`Image`] is made of.
pub(crate) struct ImageParts {
    pub(crate) header: Header,
    /// Whether refcounts are written late.
    pub(crate) lazy_refcounts: bool,
    /// See [`Image::compression_level`].
    pub(crate) compression_level: Level,
    pub(crate) storage: Arc<Node>,
    pub(crate) encryption: Option<Encryption>,
    pub(crate) cipher: DataCipher,
    /// The external data file, if there is one and it is wanted.
    pub(crate) data: Option<Arc<Node>>,
    pub(crate) backing: Option<Arc<Node>>,
    pub(crate) services: Services,
    pub(crate) filename: String,
    pub(crate) flags: OpenFlags,
    pub(crate) caches: CacheSizes,
    /// See [`Image::discard_no_unref`].
    pub(crate) discard_no_unref: bool,
    pub(crate) sparse_storage: bool,
}
