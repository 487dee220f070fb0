//! Where guest data is stored: the one way by which requests read and write host clusters of data.
//!
//! Metadata goes through [`MetaFile`](crate::cache::file::MetaFile). What is done to all guest data on its way to the
//! storage, and from there, belongs here.
//!
//! | data is in | host offsets | who sees to the space |
//! |---|---|---|
//! | the image file | anywhere | refcounts |
//! | an external data file | equal to guest offsets | nobody: every guest cluster has its place |
//! | one that is raw | the same | as above; what the disk shows is also what the file has, zeros included |

use std::sync::Arc;

use qemu_block::aio::CopySource;
use qemu_block::debug::DebugEvent;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::node::Node;
use qemu_block::types::{OpenFlags, PreallocMode, WriteFlags, ZeroFlags};
use qemu_crypto::cipher::SECTOR_BYTES;
use qemu_util::buf::{IoBuf, IoVec, IoVecMut};

use super::crypt::{Crypt, DataCipher, ZERO_CHUNK_BYTES};
use crate::image::Image;
use crate::units::HostOffset;

/// The store of guest data. Offsets are those that L2 tables name.
#[derive(Debug)]
pub(crate) struct DataStore {
    /// None if it is an external file that was not opened, because nobody wants the data.
    node: Option<Arc<Node>>,
    kind: DataKind,
    cipher: DataCipher,
}

/// Where the data of an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataKind {
    /// In the image file.
    Image,
    /// In another file, at the guest's offsets.
    External,
    /// In another file that has all that the disk shows.
    Raw,
}

/// Where bytes of a request are: on the host, and on the guest's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Offset in the store.
    pub(crate) host: HostOffset,
    /// Offset on the disk.
    pub(crate) guest: u64,
}

impl Place {
    /// The place this many bytes further on.
    pub(crate) fn plus(self, bytes: u64) -> Self {
        Self { host: HostOffset::new(self.host.get().saturating_add(bytes)), guest: self.guest.saturating_add(bytes) }
    }
}

impl Image {
    /// Fails when clusters cannot be compressed because each has its own place in another file.
    pub(super) fn check_no_data_file(&self) -> Result<()> {
        if !self.data.is_external() {
            return Ok(());
        }
        let text = "qcow2: images with an external data file have no compressed clusters";
        Err(BlockError::new(ErrorKind::Unsupported, text).with_errno(libc::ENOTSUP))
    }

    /// Gives an external data file the length of a disk that grows from `old` to `len` bytes. What is new reads as zeros.
    pub(super) async fn grow_data_file(&self, old: u64, len: u64, mode: PreallocMode) -> Result<()> {
        let Some(node) = self.data.external() else { return Ok(()) };
        let there = node.len().min(len);
        if old < there {
            node.write_zeroes(old, there - old, ZeroFlags::MAY_UNMAP).await?;
        }
        let mode = if mode == PreallocMode::Metadata { PreallocMode::Off } else { mode };
        if node.len() < len { node.truncate(len, mode).await } else { Ok(()) }
    }

    /// Cuts an external data file at the end of a disk that became smaller.
    pub(super) async fn cut_data_file(&self, len: u64) -> Result<()> {
        match self.data.external().filter(|node| node.len() > len) {
            Some(node) => node.truncate(len, PreallocMode::Off).await,
            None => Ok(()),
        }
    }

    /// What is to be preallocated in the new part of a disk: all of a raw data file is mapped, so that what others write
    /// to it shows.
    pub(super) fn prealloc_mode(&self, mode: PreallocMode) -> PreallocMode {
        if self.data.is_raw() && mode == PreallocMode::Off { PreallocMode::Metadata } else { mode }
    }

    /// Tells an external data file, before the tables change, that the guest makes a range zeros or gives it up. The
    /// caller holds the range exclusively.
    pub(super) async fn zero_data_file(&self, guest: std::ops::Range<u64>, flags: ZeroFlags) -> Result<()> {
        if !self.data.is_external() {
            return Ok(());
        }
        let write = self.health.begin_data_write();
        let zeroed = self.data.zero_external(guest, flags).await;
        write.finish();
        zeroed
    }
}

impl DataStore {
    /// Data in `node`.
    pub(crate) fn new(node: Option<Arc<Node>>, kind: DataKind, cipher: DataCipher) -> Self {
        // What is encrypted is no raw image, whatever the header says.
        let kind = match (kind, &cipher) {
            (DataKind::Raw, DataCipher::Key(_) | DataCipher::Locked) => DataKind::External,
            (kind, _) => kind,
        };
        Self { node, kind, cipher }
    }

    /// Whether data is in another file than metadata.
    pub(crate) fn is_external(&self) -> bool {
        self.kind != DataKind::Image
    }

    /// Whether the other file has all that the disk shows.
    pub(crate) fn is_raw(&self) -> bool {
        self.kind == DataKind::Raw
    }

    /// The other file, if there is one and it is open.
    pub(crate) fn external(&self) -> Option<&Arc<Node>> {
        self.node.as_ref().filter(|_| self.is_external())
    }

    fn node(&self) -> Result<&Arc<Node>> {
        let closed = || BlockError::new(ErrorKind::BadRequest, "qcow2: the data file was not opened");
        self.node.as_ref().ok_or_else(closed)
    }

    /// Whether the store holds something else than what the guest sees.
    pub(crate) fn is_encrypted(&self) -> bool {
        !matches!(self.cipher, DataCipher::Plain)
    }

    /// What encrypts the data, if something does.
    fn crypt(&self) -> Result<Option<&Crypt>> {
        match &self.cipher {
            DataCipher::Plain => Ok(None),
            DataCipher::Key(crypt) => Ok(Some(crypt)),
            DataCipher::Locked => {
                let text = "qcow2: the image is encrypted, and was opened without its key";
                Err(BlockError::new(ErrorKind::PermissionDenied, text))
            }
        }
    }

    /// Length of the store in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.node.as_ref().map_or(0, |node| node.len())
    }

    /// Where padding ends that fills a cluster up to `end`, on a disk of `size` bytes whose data in that cluster ends at
    /// `used`: another file is not to grow past the end of the disk.
    pub(crate) fn padding_end(&self, end: u64, size: u64, used: u64) -> u64 {
        if self.is_external() { end.min(size).max(used) } else { end }
    }

    /// Makes data in an external file durable. That in the image file is flushed with the image file.
    pub(crate) async fn flush_external(&self) -> Result<()> {
        match self.external() {
            Some(node) => node.flush().await,
            None => Ok(()),
        }
    }

    /// Closes the external file, if there is one.
    pub(crate) async fn close_external(&self) -> Result<()> {
        match self.external() {
            Some(node) => node.close().await,
            None => Ok(()),
        }
    }

    /// Tells an external file that the guest made a range of the disk zeros or gave it up. In a raw one it has to read
    /// as zeros then; else it is a hint, as the tables say what the disk shows.
    async fn zero_external(&self, guest: std::ops::Range<u64>, flags: ZeroFlags) -> Result<()> {
        let Some(node) = self.external() else { return Ok(()) };
        let len = guest.end.min(node.len()).saturating_sub(guest.start);
        if len == 0 {
            return Ok(());
        }
        if self.is_raw() {
            return node.write_zeroes(guest.start, len, flags).await;
        }
        if flags.contains(ZeroFlags::MAY_UNMAP) && node.flags().contains(OpenFlags::UNMAP) {
            let _hint: std::result::Result<(), BlockError> = node.discard(guest.start, len).await;
        }
        Ok(())
    }

    /// Tells a listener below that a request has come to this point.
    pub(crate) async fn event(&self, event: DebugEvent) {
        if let Some(node) = &self.node {
            node.debug_event(event).await;
        }
    }

    /// Fills `buf` with the data at `place`.
    pub(crate) async fn read(&self, place: Place, buf: IoVecMut) -> Result<IoVecMut> {
        self.node()?.debug_event(DebugEvent::ReadAio).await;
        let Some(crypt) = self.crypt()? else {
            self.check_inside(place, buf.len() as u64)?;
            return self.node()?.read(place.host.get(), buf).await;
        };
        // Only at the end of the disk; requests start and end at sectors.
        let missing = buf.len().next_multiple_of(SECTOR_BYTES) - buf.len();
        let mut buf = buf;
        if missing > 0 {
            buf.push(IoBuf::zeroed(missing));
        }
        self.check_inside(place, buf.len() as u64)?;
        let buf = self.node()?.read(place.host.get(), buf).await?;
        let mut buf = crypt.decrypt(place, buf).await?;
        drop(buf.split_off(buf.len() - missing));
        Ok(buf)
    }

    /// Writes data at `place`.
    pub(crate) async fn write(&self, place: Place, data: IoVec) -> Result<()> {
        let data = match self.crypt()? {
            None => data,
            Some(crypt) => crypt.encrypt(place, &data).await?,
        };
        self.node()?.debug_event(DebugEvent::WriteAio).await;
        self.node()?.write(place.host.get(), data, WriteFlags::empty()).await
    }

    /// Makes a range read as zeros.
    pub(crate) async fn write_zeroes(&self, place: Place, len: u64) -> Result<()> {
        let Some(crypt) = self.crypt()? else {
            return self.node()?.write_zeroes(place.host.get(), len, ZeroFlags::empty()).await;
        };
        let mut done = 0;
        while done < len {
            let n = ZERO_CHUNK_BYTES.min(len - done);
            let chunk = usize::try_from(n).expect("a chunk");
            let zeros = crypt.encrypted_zeros(place.plus(done), chunk).await?;
            self.node()?.write(place.plus(done).host.get(), zeros, WriteFlags::empty()).await?;
            done += n;
        }
        Ok(())
    }

    /// Makes the store at least `len` bytes long; what is new reads as zeros, with the space that `mode` wants.
    pub(crate) async fn extend_to(&self, len: u64, mode: PreallocMode) -> Result<()> {
        if self.len() >= len { Ok(()) } else { self.node()?.truncate(len, mode).await }
    }

    /// Tells the store that a range holds nothing any more, if it was opened to be told. It is a hint: failures do not
    /// matter.
    pub(crate) async fn discard(&self, host: HostOffset, len: u64) {
        let Some(node) = &self.node else { return };
        let end = host.get().saturating_add(len).min(node.len());
        if node.flags().contains(OpenFlags::UNMAP) && host.get() < end {
            let _hint: Result<()> = node.discard(host.get(), end - host.get()).await;
        }
    }

    /// Lets the kernel copy `len` bytes of another file to `place`.
    pub(crate) async fn copy_from(&self, place: Place, source: CopySource, len: u64) -> Result<()> {
        self.check_verbatim()?;
        self.node()?.copy_from(place.host.get(), source, len).await
    }

    /// Where `len` bytes are stored verbatim.
    pub(crate) async fn copy_source(&self, place: Place, len: u64) -> Result<CopySource> {
        self.check_verbatim()?;
        self.check_inside(place, len)?;
        self.node()?.copy_source(place.host.get(), len).await
    }

    /// Reads bytes that are compressed: nothing is done to them.
    pub(crate) async fn read_compressed(&self, host: HostOffset, buf: IoVecMut) -> Result<IoVecMut> {
        self.node()?.read(host.get(), buf).await
    }

    /// Writes bytes that are compressed.
    pub(crate) async fn write_compressed(&self, host: HostOffset, data: IoVec) -> Result<()> {
        self.node()?.write(host.get(), data, WriteFlags::empty()).await
    }

    /// Fails when data cannot be moved without looking at it.
    pub(crate) fn check_verbatim(&self) -> Result<()> {
        if self.is_encrypted() {
            let text = "qcow2: encrypted data is not stored verbatim";
            return Err(BlockError::new(ErrorKind::Unsupported, text));
        }
        Ok(())
    }

    /// Fails when data that the tables promise lies past the end of the store (rule R11: never zeros instead).
    pub(crate) fn check_inside(&self, place: Place, len: u64) -> Result<()> {
        if place.host.get().checked_add(len).is_some_and(|end| end <= self.len()) {
            return Ok(());
        }
        let file = if self.is_external() { "data file" } else { "image file" };
        let text = format!(
            "qcow2: the data of guest offset {:#x} lies at {:#x}, past the end of the {file} ({:#x}): the image is \
             truncated",
            place.guest,
            place.host.get(),
            self.len()
        );
        Err(BlockError::new(ErrorKind::Truncated, text))
    }
}
