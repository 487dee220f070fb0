//! Growing.

use qemu_block::debug::DebugEvent;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::types::{PreallocMode, WriteFlags, ZeroFlags};
use qemu_util::zero::is_zero;

use crate::alloc::Run;
use crate::cache::entry_table::EntryTable;
use crate::format::header::{Header, TablePlace};
use crate::format::l2::{L2Entry, L2Mapping};
use crate::image::Image;
use crate::io::zero::replace;
use crate::limits::L1_BYTES_MAX;
use crate::meta::Meta;
use crate::overlap::Region;
use crate::units::{GuestCluster, HostOffset};

/// Where the header keeps the size of the virtual disk (8 bytes).
const HEADER_SIZE_FIELD: u64 = 24;
/// Where the header keeps the entries (4 bytes) and the offset (8 bytes) of the L1 table.
const HEADER_L1_FIELDS: u64 = 36;

impl Image {
    /// Makes the disk larger.
    pub(super) async fn grow(&self, old: u64, len: u64, prealloc: PreallocMode) -> Result<()> {
        let prealloc = self.prealloc_mode(prealloc);
        self.grow_step(Growth::Tables, len).await?;
        self.grow_data_file(old, len, prealloc).await?;
        self.unmap_new_part(old, len).await?;
        self.hide_old_data(old, len, prealloc).await?;
        if prealloc != PreallocMode::Off {
            self.preallocate(old, len, prealloc).await?;
        }
        self.grow_step(Growth::Size, len).await?;
        self.set_size(len);
        Ok(())
    }

    /// Takes one step under the metadata lock, and takes note if it fails.
    async fn grow_step(&self, step: Growth, len: u64) -> Result<()> {
        let mut meta = self.meta.lock().await;
        let done = match step {
            Growth::Tables => self.make_room(&mut meta, len).await,
            Growth::Size => meta.commit_size(len).await,
        };
        match done {
            Ok(()) => Ok(()),
            Err(error) => Err(self.note_failure(&mut meta, error).await),
        }
    }

    /// Makes sure that the L1 table has entries for a disk of `len` bytes.
    async fn make_room(&self, meta: &mut Meta, len: u64) -> Result<()> {
        let n_entries = self.geo.l1_entries_for(len);
        if n_entries > L1_BYTES_MAX / 8 {
            return Err(BlockError::from_errno(libc::EFBIG, "File too large").context("Failed to grow the L1 table"));
        }
        let n_entries = usize::try_from(n_entries).expect("at most 4 Mi entries");
        if n_entries > meta.l1.n_entries() { meta.grow_l1(n_entries).await } else { Ok(()) }
    }

    /// Gives up whatever is mapped past the old end: the state of a machine that a snapshot left there, or what another
    /// program left when it was stopped while it made the disk smaller.
    async fn unmap_new_part(&self, old: u64, len: u64) -> Result<()> {
        let first = self.geo.round_up(old).unwrap_or(u64::MAX);
        if first >= len {
            return Ok(());
        }
        let (mut at, end) = self.clusters_of(first, len - first);
        while at < end {
            let mut meta = self.meta.lock().await;
            at = match unmap_batch(&mut meta, at, end).await {
                Ok(at) => at,
                Err(error) => return Err(self.note_failure(&mut meta, error).await),
            };
        }
        Ok(())
    }

    /// Zeros what the last cluster of the old disk, and a backing file that is longer than it, would let through. Of one
    /// that is named but not open nobody knows the length; that is left to who opened the image without it, as the
    /// reference does.
    async fn hide_old_data(&self, old: u64, len: u64, prealloc: PreallocMode) -> Result<()> {
        let first_whole = self.geo.round_up(old).unwrap_or(u64::MAX).min(len);
        let backing_end = self.backing.as_ref().map_or(0, |backing| backing.len()).min(len);
        if first_whole > old && (backing_end > old || self.shows_old_data(old, first_whole).await?) {
            let zeros = self.zero_vec(first_whole - old);
            self.write_guest(old, zeros, WriteFlags::empty()).await?;
        }
        let end = self.geo.round_up(backing_end).unwrap_or(u64::MAX).min(len);
        // Clusters that are preallocated hide the backing file by themselves.
        if first_whole >= end || prealloc != PreallocMode::Off {
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

    /// Whether the last cluster holds anything but zeros from the end of the disk, `len`, up to its own end.
    async fn shows_old_data(&self, len: u64, cluster_end: u64) -> Result<bool> {
        let (first, end) = self.clusters_of(len, 1);
        let run = self.meta.lock().await.lookup_run(first, end).await?;
        if !matches!(run.mapping, L2Mapping::Standard { .. } | L2Mapping::Compressed(_) | L2Mapping::Mixed { .. }) {
            return Ok(false);
        }
        let rest = self.services.buffers.take(usize::try_from(cluster_end - len).expect("less than a cluster"));
        match self.read_guest(len, rest.into()).await {
            Ok(rest) => Ok(!rest.parts().iter().all(|part| is_zero(part))),
            // Data that is not there, or not what it should be, is replaced; storage that fails is nobody's data.
            Err(error) if matches!(error.kind(), ErrorKind::Truncated | ErrorKind::Corrupt) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// Unmaps as many clusters from `first` on as is worth one hold of the lock; returns the first one that is left.
pub(super) async fn unmap_batch(meta: &mut Meta, first: GuestCluster, end: GuestCluster) -> Result<GuestCluster> {
    if meta.too_much_released() {
        meta.flush().await?;
    }
    let runs = meta.lookup_batch(first, end).await?;
    for run in runs.iter().filter(|run| run.mapping != L2Mapping::Unallocated) {
        replace(meta, run.start, run.n_clusters, |_| L2Entry::UNALLOCATED).await?;
    }
    Ok(runs.last().map_or(end, |run| run.end()))
}

/// The two steps of growing that change metadata.
#[derive(Clone, Copy, Debug)]
enum Growth {
    /// Entries for the new part.
    Tables,
    /// The size itself.
    Size,
}

impl Meta {
    /// Makes everything so far durable, and then the new size.
    pub(super) async fn commit_size(&mut self, len: u64) -> Result<()> {
        self.flush().await?;
        self.storage.commit_header(HEADER_SIZE_FIELD, &len.to_be_bytes()).await?;
        self.header.virtual_size = len;
        Ok(())
    }

    /// Moves the L1 table to where it has room for `n_entries`; each step is durable before the next.
    ///
    /// Until the header is about to be written a failure leaves everything as it was. From then on nobody knows which
    /// table the header names, so the image is poisoned, as it is when the future is dropped anywhere in between.
    async fn grow_l1(&mut self, n_entries: usize) -> Result<()> {
        self.load_all_l1().await?;
        let count = self.geo.table_clusters(n_entries as u64);
        let run = self.allocate_exactly(count).await?;
        let change = self.storage.begin_change();
        let grown = self.replace_l1(n_entries, run).await;
        change.finish();
        grown
    }

    async fn replace_l1(&mut self, n_entries: usize, run: Run) -> Result<()> {
        let offset = self.geo.host_start(run.start);
        let moved = match self.write_new_l1(n_entries, run).await {
            Ok(moved) => moved,
            Err(error) => {
                let _leaked = self.unreserve(run).await;
                return Err(error);
            }
        };
        let n_stored = u32::try_from(n_entries).expect("at most 4 Mi entries");
        let mut fields = [0; 12];
        fields[..4].copy_from_slice(&n_stored.to_be_bytes());
        fields[4..].copy_from_slice(&offset.get().to_be_bytes());
        self.storage.commit_header(HEADER_L1_FIELDS, &fields).await?;
        self.give_up_l1();
        self.l1 = moved;
        self.header.l1 = TablePlace { offset, count: n_stored };
        self.regions.move_fixed(Region::L1Table, offset, (n_entries * 8) as u64);
        Ok(())
    }

    /// Writes the larger table, with everything that it names, and makes all of that durable.
    async fn write_new_l1(&mut self, n_entries: usize, run: Run) -> Result<EntryTable> {
        self.write_back().await?;
        let offset = self.geo.host_start(run.start);
        let bytes = run.count.get() * self.geo.cluster_size();
        self.storage.write_zeroes(offset.get(), bytes).await?;
        let mut moved = self.l1.moved_to(offset, n_entries);
        self.storage.event(DebugEvent::L1GrowWriteTable).await;
        moved.write_dirty(&self.storage).await?;
        self.storage.flush().await?;
        Ok(moved)
    }

    /// Releases the clusters of the L1 table, which has been replaced.
    fn give_up_l1(&mut self) {
        let Header { l1, .. } = &self.header;
        if l1.count > 0 {
            let end = HostOffset::new(l1.offset.get() + u64::from(l1.count) * 8);
            self.release_bytes(l1.offset, end);
        }
    }
}
