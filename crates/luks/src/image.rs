//! An open image: every request goes to the payload, encrypted or decrypted on the way.

use std::sync::Arc;

use qemu_block::aio::{CopySource, Services};
use qemu_block::compressed::CompressedRun;
use qemu_block::crypt::{SectorCrypt, luks_info};
use qemu_block::driver::{BlockOps, FileIdentity, IoFuture};
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::manage::{AmendOps, BitmapOps, SnapshotOps};
use qemu_block::node::{ChildRole, Edge, Node};
use qemu_block::types::{
    BlockLimits, BlockStatus, CheckFixes, CheckReport, DriverInfo, FormatSpecific, OpenFlags, Perm, PreallocMode,
    StatusFlags, WriteFlags, ZeroFlags,
};
use qemu_crypto::luks::LuksHeader;
use qemu_crypto::secret::SecretStore;
use qemu_util::buf::{IoVec, IoVecMut};
use qemu_util::sync::CoMutex;

/// Sectors are encrypted as a whole.
pub(crate) const SECTOR_LEN: u64 = 512;

/// An open LUKS image.
#[derive(Debug)]
pub(crate) struct LuksImage {
    storage: Arc<Node>,
    /// The node of the header, if it is another one.
    detached: Option<Arc<Node>>,
    /// Where the payload starts in the storage.
    payload_offset: u64,
    flags: OpenFlags,
    pub(crate) keys: Keys,
    /// None if the image was opened without its key.
    crypt: Option<SectorCrypt>,
}

/// The header, and what is needed to change its key slots.
#[derive(Debug)]
pub(crate) struct Keys {
    /// As it is on disk. The lock is held while key slots are changed.
    pub(crate) header: CoMutex<LuksHeader>,
    /// Where passphrases are found.
    pub(crate) secrets: Arc<SecretStore>,
    /// The secret that the image was opened with.
    pub(crate) key_secret: Option<String>,
    pub(crate) services: Services,
}

impl LuksImage {
    pub(crate) fn new(
        storage: Arc<Node>,
        detached: Option<Arc<Node>>,
        payload_offset: u64,
        flags: OpenFlags,
        keys: Keys,
        crypt: Option<SectorCrypt>,
    ) -> Self {
        Self { storage, detached, payload_offset, flags, keys, crypt }
    }

    /// The node that has the header and the key slots.
    pub(crate) fn header_node(&self) -> &Arc<Node> {
        self.detached.as_ref().unwrap_or(&self.storage)
    }

    fn crypt(&self) -> Result<&SectorCrypt> {
        let locked = || BlockError::new(ErrorKind::PermissionDenied, "The image was opened without its key");
        self.crypt.as_ref().ok_or_else(locked)
    }

    /// The place of a range in the storage. Requests end inside the device, so that this is always possible.
    fn host(&self, offset: u64) -> Result<u64> {
        let too_large = || BlockError::new(ErrorKind::BadRequest, "The request lies after the end of all files");
        offset.checked_add(self.payload_offset).ok_or_else(too_large)
    }

    async fn read_payload(&self, offset: u64, mut buf: IoVecMut) -> Result<IoVecMut> {
        let crypt = self.crypt()?;
        let host = self.host(offset)?;
        let len = len_u64(buf.len());
        let stored = self.storage.len().saturating_sub(host).min(len);
        // The last sector may be cut off; what is missing are zeros in the storage.
        let mut missing = buf.split_off(usize::try_from(stored).unwrap_or(usize::MAX).min(buf.len()));
        missing.fill_zero();
        let mut filled = if buf.is_empty() { buf } else { self.storage.read(host, buf).await? };
        filled.append(missing);
        Ok(crypt.decrypt(offset / SECTOR_LEN, filled).await)
    }

    async fn write_payload(&self, offset: u64, data: IoVec, flags: WriteFlags) -> Result<()> {
        let data = self.crypt()?.encrypt(offset / SECTOR_LEN, &data).await;
        self.storage.write(self.host(offset)?, data, flags).await
    }

    async fn resize(&self, len: u64, prealloc: PreallocMode) -> Result<()> {
        let too_large = || BlockError::from_errno(libc::EFBIG, "The requested file size is too large");
        let len = len.checked_add(self.payload_offset).filter(|len| i64::try_from(*len).is_ok());
        self.storage.truncate(len.ok_or_else(too_large)?, prealloc).await
    }

    async fn gather_info(&self) -> Result<DriverInfo> {
        let below = self.storage.info().await?;
        let fields = luks_info(&*self.keys.header.lock().await, self.detached.is_some(), false);
        Ok(DriverInfo {
            cluster_size: below.cluster_size,
            dirty: Some(false),
            encrypted: true,
            format_specific: Some(FormatSpecific { type_name: "luks", fields }),
            ..DriverInfo::default()
        })
    }

    async fn close_all(&self) -> Result<()> {
        let storage = self.storage.close().await;
        match &self.detached {
            Some(header) => storage.and(header.close().await),
            None => storage,
        }
    }
}

/// What the storage is used for. The header stays as it is, so others may write to the payload if the user of the image
/// does not mind. QEMU: `block_crypto_child_perms`.
pub(crate) fn storage_perms(perm: Perm, shared: Perm, flags: OpenFlags) -> (Perm, Perm) {
    let mut wanted = perm & (Perm::WRITE | Perm::RESIZE);
    wanted.set(Perm::CONSISTENT_READ, !flags.contains(OpenFlags::NO_IO));
    (wanted, shared | Perm::WRITE_UNCHANGED)
}

impl BlockOps for LuksImage {
    fn len(&self) -> u64 {
        self.storage.len().saturating_sub(self.payload_offset).next_multiple_of(SECTOR_LEN)
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits {
            request_alignment: 512,
            transfer_max: self.storage.limits().transfer_max,
            ..BlockLimits::UNLIMITED
        }
    }

    fn children(&self) -> Vec<Edge> {
        let header = self.detached.as_ref().map(|node| ("header", ChildRole::Metadata, node));
        let edges = header.into_iter().chain([("file", ChildRole::Storage, &self.storage)]);
        edges.map(|(name, role, node)| Edge { name, role, node: Arc::clone(node) }).collect()
    }

    fn info(&self) -> IoFuture<'_, DriverInfo> {
        Box::pin(self.gather_info())
    }

    fn set_perm(&self, perm: Perm, shared: Perm) -> IoFuture<'_, ()> {
        Box::pin(async move {
            let (storage_perm, storage_shared) = storage_perms(perm, shared, self.flags);
            self.storage.set_perm(storage_perm, storage_shared).await?;
            match &self.detached {
                Some(header) => header.set_perm(storage_perm - Perm::RESIZE, storage_shared).await,
                None => Ok(()),
            }
        })
    }

    fn identity(&self) -> Option<FileIdentity> {
        None
    }

    fn read(&self, offset: u64, buf: IoVecMut) -> IoFuture<'_, IoVecMut> {
        Box::pin(self.read_payload(offset, buf))
    }

    fn write(&self, offset: u64, data: IoVec, flags: WriteFlags) -> IoFuture<'_, ()> {
        Box::pin(self.write_payload(offset, data, flags))
    }

    /// Zeros have to be encrypted like everything else.
    fn write_zeroes(&self, _offset: u64, _len: u64, _flags: ZeroFlags) -> IoFuture<'_, ()> {
        unsupported("Encrypted zeros have to be written")
    }

    /// What is given up would decrypt to noise.
    fn discard(&self, _offset: u64, _len: u64) -> IoFuture<'_, ()> {
        unsupported("Encrypted data cannot be discarded")
    }

    fn flush(&self) -> IoFuture<'_, ()> {
        Box::pin(self.storage.flush())
    }

    /// Holes in the storage are noise in the disk, so all of it is data, which is stored nowhere verbatim.
    fn block_status(&self, _offset: u64, len: u64) -> IoFuture<'_, BlockStatus> {
        let flags = StatusFlags::DATA | StatusFlags::ALLOCATED;
        Box::pin(std::future::ready(Ok(BlockStatus { len, flags, host_offset: None })))
    }

    fn truncate(&self, len: u64, prealloc: PreallocMode) -> IoFuture<'_, ()> {
        Box::pin(self.resize(len, prealloc))
    }

    fn copy_source(&self, _offset: u64, _len: u64) -> IoFuture<'_, CopySource> {
        unsupported("Encrypted data cannot be copied by the kernel")
    }

    fn copy_range(&self, _offset: u64, _source: CopySource, _len: u64) -> IoFuture<'_, ()> {
        unsupported("Encrypted data cannot be copied by the kernel")
    }

    fn compress(&self, _offset: u64, _data: IoVec) -> IoFuture<'_, CompressedRun> {
        unsupported("The luks format does not support compression")
    }

    fn write_compressed(&self, _run: CompressedRun) -> IoFuture<'_, ()> {
        unsupported("The luks format does not support compression")
    }

    fn check(&self, _fixes: CheckFixes) -> IoFuture<'_, CheckReport> {
        unsupported("This image format does not support checks")
    }

    fn snapshots(&self) -> Option<&dyn SnapshotOps> {
        None
    }

    fn bitmaps(&self) -> Option<&dyn BitmapOps> {
        None
    }

    fn amending(&self) -> Option<&dyn AmendOps> {
        Some(self)
    }

    fn close(&self) -> IoFuture<'_, ()> {
        Box::pin(self.close_all())
    }
}

fn unsupported<T: Send + 'static>(message: &str) -> IoFuture<'static, T> {
    let error = BlockError::new(ErrorKind::Unsupported, message);
    Box::pin(std::future::ready(Err(error)))
}

fn len_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
