//! Changing the size of the virtual disk.

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::types::{PreallocMode, WriteFlags, ZeroFlags};
use qemu_util::buf::IoBuf;

use crate::alloc::Run;
use crate::format::header::Header;
use crate::image::Image;
use crate::limits::L1_BYTES_MAX;
use crate::meta::Meta;
use crate::overlap::Region;
use crate::units::{ClusterCount, HostOffset};

/// Where the header keeps the size of the virtual disk (8 bytes).
const HEADER_SIZE_FIELD: u64 = 24;
/// Where the header keeps the entries (4 bytes) and the offset (8 bytes) of the L1 table.
const HEADER_L1_FIELDS: u64 = 36;

impl Image {
    /// Makes the disk larger. The new part reads as zeros, even where a backing file is longer than the old disk.
    pub(crate) async fn truncate_guest(&self, len: u64, prealloc: PreallocMode) -> Result<()> {
        self.check_writable()?;
        if !len.is_multiple_of(512) {
            return Err(BlockError::new(ErrorKind::InvalidArgument, "The new size must be a multiple of 512"));
        }
        if prealloc != PreallocMode::Off {
            let text = format!("Unsupported preallocation mode '{}' for an existing image", prealloc.name());
            return Err(BlockError::new(ErrorKind::Unsupported, text));
        }
        let old = self.size();
        if len < old {
            return Err(BlockError::new(ErrorKind::Unsupported, "qcow2 images cannot be shrunk yet"));
        }
        if len == old {
            return Ok(());
        }
        {
            let mut meta = self.meta.lock().await;
            self.check_snapshots(&meta)?;
            if let Err(error) = self.grow_to(&mut meta, len).await {
                return Err(self.note_failure(&mut meta, error).await);
            }
        }
        self.set_size(len);
        self.hide_backing(old, len).await
    }

    /// Version 2 snapshots do not record their size, so that of the disk must not change.
    fn check_snapshots(&self, meta: &Meta) -> Result<()> {
        if meta.header.snapshots.count > 0 && self.version == crate::format::header::Version::V2 {
            let text = "Can't resize a version 2 image which has snapshots";
            return Err(BlockError::new(ErrorKind::Unsupported, text));
        }
        Ok(())
    }

    async fn grow_to(&self, meta: &mut Meta, len: u64) -> Result<()> {
        let n_entries = self.geo.l1_entries_for(len);
        if n_entries > L1_BYTES_MAX / 8 {
            let text = "The image size is too large for the qcow2 cluster size";
            return Err(BlockError::from_errno(libc::EFBIG, text));
        }
        let n_entries = usize::try_from(n_entries).expect("at most 4 Mi entries");
        if n_entries > meta.l1.n_entries() {
            meta.grow_l1(n_entries).await?;
        }
        let field = IoBuf::copy_of(&len.to_be_bytes());
        meta.storage.write(HEADER_SIZE_FIELD, field.into(), WriteFlags::empty()).await?;
        meta.storage.flush().await?;
        meta.header.virtual_size = len;
        Ok(())
    }

    /// Zeros what a backing file that is longer than the old disk would let through.
    async fn hide_backing(&self, old: u64, len: u64) -> Result<()> {
        let Some(backing) = &self.backing else { return Ok(()) };
        let end = backing.len().min(len);
        if end <= old {
            return Ok(());
        }
        let first_whole = self.geo.round_up(old).unwrap_or(u64::MAX).min(end);
        if first_whole > old {
            let zeros = self.zero_vec(first_whole - old);
            self.write_guest(old, zeros, WriteFlags::empty()).await?;
        }
        let end = self.geo.round_up(end).unwrap_or(u64::MAX).min(len);
        if first_whole >= end {
            return Ok(());
        }
        match self.write_zeroes_guest(first_whole, end - first_whole, ZeroFlags::MAY_UNMAP).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                let mut at = first_whole;
                while at < end {
                    let n = self.geo.cluster_size().min(end - at);
                    self.write_guest(at, self.zero_vec(n), WriteFlags::empty()).await?;
                    at += n;
                }
                Ok(())
            }
            other => other,
        }
    }
}

impl Meta {
    /// Moves the L1 table to where it has room for `n_entries`; each step is durable before the next.
    async fn grow_l1(&mut self, n_entries: usize) -> Result<()> {
        for index in (0..self.l1.n_entries()).step_by(512) {
            self.load_l1(index).await?;
        }
        self.write_back().await?;
        let count = self.geo.table_clusters(n_entries as u64);
        let run = self.allocate_exactly(count).await?;
        let offset = self.geo.host_start(run.start);
        let bytes = count.get() * self.geo.cluster_size();
        self.storage.write_zeroes(offset.get(), bytes, ZeroFlags::empty()).await?;
        let mut moved = self.l1.moved_to(offset, n_entries);
        moved.write_dirty(&self.storage).await?;
        self.write_back().await?;
        self.storage.flush().await?;
        let mut fields = IoBuf::zeroed(12);
        let n_stored = u32::try_from(n_entries).expect("at most 4 Mi entries");
        fields[..4].copy_from_slice(&n_stored.to_be_bytes());
        fields[4..].copy_from_slice(&offset.get().to_be_bytes());
        self.storage.write(HEADER_L1_FIELDS, fields.into(), WriteFlags::empty()).await?;
        self.storage.flush().await?;
        self.give_up_l1();
        self.l1 = moved;
        self.header.l1.offset = offset;
        self.header.l1.count = n_stored;
        self.regions.move_fixed(Region::L1Table, offset, (n_entries * 8) as u64);
        Ok(())
    }

    /// Releases the clusters of the L1 table, which has been replaced.
    fn give_up_l1(&mut self) {
        let Header { l1, .. } = &self.header;
        if l1.count > 0 {
            let end = HostOffset::new(l1.offset.get() + u64::from(l1.count) * 8);
            self.release_bytes(l1.offset, end);
        }
    }

    /// Reserves exactly `count` clusters that follow one another.
    async fn allocate_exactly(&mut self, count: ClusterCount) -> Result<Run> {
        let mut given_up = Vec::new();
        let found = loop {
            match self.allocate(count).await {
                Ok(reserved) if reserved.run.count == count => break Ok(reserved.run),
                Ok(reserved) => given_up.push(reserved.run),
                Err(error) => break Err(error),
            }
        };
        // Pieces that were too short are free again.
        for run in given_up {
            self.unreserve(run).await?;
        }
        found
    }
}
