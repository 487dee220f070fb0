//! Where guest data is stored: the one way by which requests read and write host clusters of data.
//!
//! Metadata goes through [`MetaFile`](crate::cache::file::MetaFile). What is done to all guest data on its way to the
//! storage, and from there, belongs here.

use std::sync::Arc;

use qemu_block::aio::CopySource;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::node::Node;
use qemu_block::types::{OpenFlags, PreallocMode, WriteFlags, ZeroFlags};
use qemu_crypto::cipher::SECTOR_BYTES;
use qemu_util::buf::{IoBuf, IoVec, IoVecMut};

use super::crypt::{Crypt, DataCipher, ZERO_CHUNK_BYTES};
use crate::units::HostOffset;

/// The store of guest data. Offsets are those that L2 tables name.
#[derive(Debug)]
pub(crate) struct DataStore {
    node: Arc<Node>,
    cipher: DataCipher,
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

impl DataStore {
    /// Data in `node`.
    pub(crate) fn new(node: Arc<Node>, cipher: DataCipher) -> Self {
        Self { node, cipher }
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
        self.node.len()
    }

    /// Fills `buf` with the data at `place`.
    pub(crate) async fn read(&self, place: Place, buf: IoVecMut) -> Result<IoVecMut> {
        let Some(crypt) = self.crypt()? else {
            self.check_inside(place, buf.len() as u64)?;
            return self.node.read(place.host.get(), buf).await;
        };
        // Only at the end of the disk; requests start and end at sectors.
        let missing = buf.len().next_multiple_of(SECTOR_BYTES) - buf.len();
        let mut buf = buf;
        if missing > 0 {
            buf.push(IoBuf::zeroed(missing));
        }
        self.check_inside(place, buf.len() as u64)?;
        let buf = self.node.read(place.host.get(), buf).await?;
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
        self.node.write(place.host.get(), data, WriteFlags::empty()).await
    }

    /// Makes a range read as zeros.
    pub(crate) async fn write_zeroes(&self, place: Place, len: u64) -> Result<()> {
        let Some(crypt) = self.crypt()? else {
            return self.node.write_zeroes(place.host.get(), len, ZeroFlags::empty()).await;
        };
        let mut done = 0;
        while done < len {
            let n = ZERO_CHUNK_BYTES.min(len - done);
            let chunk = usize::try_from(n).expect("a chunk");
            let zeros = crypt.encrypted_zeros(place.plus(done), chunk).await?;
            self.node.write(place.plus(done).host.get(), zeros, WriteFlags::empty()).await?;
            done += n;
        }
        Ok(())
    }

    /// Makes the store at least `len` bytes long; what is new reads as zeros, with the space that `mode` wants.
    pub(crate) async fn extend_to(&self, len: u64, mode: PreallocMode) -> Result<()> {
        if self.node.len() >= len { Ok(()) } else { self.node.truncate(len, mode).await }
    }

    /// Tells the store that a range holds nothing any more, if it was opened to be told. It is a hint: failures do not
    /// matter.
    pub(crate) async fn discard(&self, host: HostOffset, len: u64) {
        let end = host.get().saturating_add(len).min(self.node.len());
        if self.node.flags().contains(OpenFlags::UNMAP) && host.get() < end {
            let _hint: Result<()> = self.node.discard(host.get(), end - host.get()).await;
        }
    }

    /// Lets the kernel copy `len` bytes of another file to `place`.
    pub(crate) async fn copy_from(&self, place: Place, source: CopySource, len: u64) -> Result<()> {
        self.check_verbatim()?;
        self.node.copy_from(place.host.get(), source, len).await
    }

    /// Where `len` bytes are stored verbatim.
    pub(crate) async fn copy_source(&self, place: Place, len: u64) -> Result<CopySource> {
        self.check_verbatim()?;
        self.check_inside(place, len)?;
        self.node.copy_source(place.host.get(), len).await
    }

    /// Reads bytes that are compressed: nothing is done to them.
    pub(crate) async fn read_compressed(&self, host: HostOffset, buf: IoVecMut) -> Result<IoVecMut> {
        self.node.read(host.get(), buf).await
    }

    /// Writes bytes that are compressed.
    pub(crate) async fn write_compressed(&self, host: HostOffset, data: IoVec) -> Result<()> {
        self.node.write(host.get(), data, WriteFlags::empty()).await
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
        if place.host.get().checked_add(len).is_some_and(|end| end <= self.node.len()) {
            return Ok(());
        }
        let text = format!(
            "qcow2: the data of guest offset {:#x} lies at {:#x}, past the end of the image file ({:#x}): the image is \
             truncated",
            place.guest,
            place.host.get(),
            self.node.len()
        );
        Err(BlockError::new(ErrorKind::Truncated, text))
    }
}
