//! An open image: the state that requests share.

use std::fmt;
use std::sync::Arc;

use qemu_block::aio::Services;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::io::RangeLock;
use qemu_block::node::Node;
use qemu_block::types::{OpenFlags, WriteFlags};
use qemu_util::buf::{IoBuf, IoBytes};
use qemu_util::primitive::atomic::{AtomicBool, AtomicU64, Ordering};
use qemu_util::sync::CoMutex;

use crate::format::features::Incompatible;
use crate::format::header::{CompressionType, FEATURES_OFFSET, Header, Version};
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
    pub(crate) version: Version,
    pub(crate) compression: CompressionType,
    pub(crate) storage: Arc<Node>,
    pub(crate) backing: Option<Arc<Node>>,
    pub(crate) services: Services,
    pub(crate) filename: String,
    pub(crate) flags: OpenFlags,
    /// Everything that maps and counts clusters.
    pub(crate) meta: CoMutex<Meta>,
    /// Guest bytes, in whole clusters, that requests use: shared when the mapping stays, exclusive when it changes.
    pub(crate) ranges: RangeLock,
    pub(crate) zeros: IoBytes,
    /// Whether the storage has holes where this image has data, so that asking it is worth the time.
    pub(crate) sparse_storage: bool,
    size: AtomicU64,
    /// Corruption was found while writing: nothing is written any more.
    corrupt: AtomicBool,
    closed: AtomicBool,
    /// A write was given up while its I/O was under way; see [`DataWrite`].
    abandoned: Arc<AtomicBool>,
}

impl Image {
    /// An image with a validated header.
    pub(crate) fn new(parts: ImageParts) -> Self {
        let ImageParts { header, storage, backing, services, filename, flags, sparse_storage } = parts;
        let abandoned = Arc::new(AtomicBool::new(false));
        Self {
            geo: header.geometry,
            version: header.version,
            compression: header.compression,
            meta: CoMutex::new(Meta::new(Arc::clone(&storage), header.clone(), Arc::clone(&abandoned))),
            ranges: RangeLock::new(),
            zeros: IoBuf::zeroed(ZEROS_BYTES).freeze(),
            size: AtomicU64::new(header.virtual_size),
            corrupt: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            abandoned,
            sparse_storage,
            storage,
            backing,
            services,
            filename,
            flags,
        }
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

    /// The clusters that the bytes from `offset` on touch: the first one and the one after the last.
    pub(crate) fn clusters_of(&self, offset: u64, len: u64) -> (GuestCluster, GuestCluster) {
        let first = self.geo.guest_cluster(GuestOffset::new(offset));
        let last = self.geo.guest_cluster(GuestOffset::new(offset + len - 1));
        (first, last.next())
    }

    /// The same clusters as a range of bytes, to be locked.
    pub(crate) fn cluster_range(&self, offset: u64, len: u64) -> std::ops::Range<u64> {
        let (first, end) = self.clusters_of(offset, len);
        self.geo.guest_start(first).get()..self.geo.guest_start(end).get()
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
        // Ordering: relaxed; set under the metadata lock, which every write takes later and before it changes anything.
        if self.corrupt.load(Ordering::Relaxed) {
            return Err(BlockError::new(ErrorKind::Corrupt, "qcow2: the image is corrupt and refuses writes"));
        }
        Ok(())
    }

    /// Marks the image closed; returns whether it was open.
    pub(crate) fn mark_closed(&self) -> bool {
        // Ordering: relaxed, as in `check_open`.
        !self.closed.swap(true, Ordering::Relaxed)
    }

    /// Whether the image must not be written any more.
    pub(crate) fn is_corrupt(&self) -> bool {
        // Ordering: relaxed, as in `check_writable`.
        self.corrupt.load(Ordering::Relaxed)
    }

    /// Takes note of an error while changing the image. Corruption is recorded in the header, and writes stop.
    pub(crate) async fn note_failure(&self, meta: &mut Meta, error: BlockError) -> BlockError {
        if error.kind() != ErrorKind::Corrupt || self.is_corrupt() {
            return error;
        }
        // Ordering: relaxed, as in `check_writable`.
        self.corrupt.store(true, Ordering::Relaxed);
        if self.version == Version::V3 {
            meta.header.incompatible |= Incompatible::CORRUPT;
            let word = IoBuf::copy_of(&meta.header.incompatible.bits().to_be_bytes());
            let marked = self.storage.write(FEATURES_OFFSET, word.into(), WriteFlags::empty()).await;
            if let Err(also) = marked {
                return error.context(format!("qcow2: the image could not be marked corrupt: {also}"));
            }
        }
        error
    }

    /// Announces that data is going to be written into clusters of this image.
    pub(crate) fn begin_data_write(&self) -> DataWrite<'_> {
        DataWrite { image: self, finished: false }
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
    pub(crate) storage: Arc<Node>,
    pub(crate) backing: Option<Arc<Node>>,
    pub(crate) services: Services,
    pub(crate) filename: String,
    pub(crate) flags: OpenFlags,
    pub(crate) sparse_storage: bool,
}

/// Data on its way into clusters.
///
/// Dropping a write's future does not stop its I/O, which may then still hit clusters that others are given. So when
/// this is dropped unfinished, no cluster of the image is used a second time until it is opened again.
#[must_use]
pub(crate) struct DataWrite<'a> {
    image: &'a Image,
    finished: bool,
}

impl DataWrite<'_> {
    /// All I/O of the write has come back.
    pub(crate) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for DataWrite<'_> {
    fn drop(&mut self) {
        if !self.finished {
            // Ordering: relaxed; whoever drops the future does so before it can start anything else.
            self.image.abandoned.store(true, Ordering::Relaxed);
        }
    }
}
