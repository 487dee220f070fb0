//! What a write brings: bytes from memory, or a range of another file that the kernel copies.

use qemu_block::aio::CopySource;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::types::OpenFlags;
use qemu_util::buf::IoVec;

use super::data::{DataStore, Place};
use crate::format::l2::L2Mapping;
use crate::format::subclusters::Subcluster;
use crate::image::Image;
use crate::map::Stretch;
use crate::units::HostOffset;

/// The content of a write.
pub(super) enum Payload {
    Data(IoVec),
    /// This many bytes of another file.
    Copy(CopySource, u64),
}

impl Payload {
    /// The `len` bytes from `offset` on.
    pub(super) fn slice(&self, offset: u64, len: u64) -> Self {
        match self {
            Self::Data(data) => {
                let start = usize::try_from(offset).expect("inside a buffer");
                let end = usize::try_from(offset + len).expect("inside a buffer");
                Self::Data(data.slice(start..end))
            }
            Self::Copy(source, _) => {
                Self::Copy(CopySource { file: source.file.clone(), offset: source.offset + offset }, len)
            }
        }
    }

    /// Writes the content at `place`.
    pub(super) async fn write_to(self, store: &DataStore, place: Place) -> Result<()> {
        match self {
            Self::Data(data) => store.write(place, data).await,
            Self::Copy(source, len) => store.copy_from(place, source, len).await,
        }
    }
}

impl Image {
    /// Where the bytes of a guest range are in a file, if they are there verbatim and in one piece.
    ///
    /// Not while the image can be written: the clusters could be given to others before the copy is made.
    pub(crate) async fn copy_source_guest(&self, offset: u64, len: u64) -> Result<CopySource> {
        self.check_open()?;
        if len == 0 || self.flags.contains(OpenFlags::WRITE) {
            return Err(not_verbatim());
        }
        let range = self.cluster_range(offset, len);
        let _range = self.ranges.lock(range, qemu_block::io::RangeMode::Shared).await;
        let (first, end) = self.clusters_of(offset, len);
        let run = self.meta.lock().await.lookup_run(first, end).await?;
        let range = offset..offset + len;
        let host = match run.mapping {
            L2Mapping::Standard { host, .. } if run.end() >= end => {
                HostOffset::new(host.get() + (offset - self.geo.guest_start(first).get()))
            }
            L2Mapping::Mixed { .. } => match run.stretches(self.geo, &range).next() {
                Some(Stretch { range: found, kind: Subcluster::Data, host: Some(host) }) if found == range => host,
                _ => return Err(not_verbatim()),
            },
            _ => return Err(not_verbatim()),
        };
        self.data.copy_source(Place { host, guest: offset }, len).await
    }

    /// Lets the kernel copy `len` bytes of `source` to guest offset `offset`.
    pub(crate) async fn copy_range_guest(&self, offset: u64, source: CopySource, len: u64) -> Result<()> {
        self.data.check_verbatim()?;
        self.write_payload(offset, len, &Payload::Copy(source, len)).await
    }
}

fn not_verbatim() -> BlockError {
    BlockError::new(ErrorKind::Unsupported, "qcow2: the range is not stored verbatim in one piece")
}
