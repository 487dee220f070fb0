//! New refcount blocks and larger refcount tables.
//!
//! A block that is missing counts nothing, so all clusters of its range are free: the block itself takes the first of
//! them and counts itself. That needs no search and no recursion. Several that are made together, for a run that is
//! longer than what one block counts, all lie at the start of the first one's range. A new refcount table takes the first
//! clusters that the old one cannot count, followed by the blocks that count it.

use qemu_block::debug::DebugEvent;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_util::buf::IoBuf;

use crate::cache::entry_table::EntryTable;
use crate::format::header::TablePlace;
use crate::format::refcount::ReftableEntry;
use crate::meta::Meta;
use crate::overlap::Region;
use crate::units::{ClusterCount, HostCluster};

use super::Run;

/// Where the header keeps offset (8 bytes) and clusters (4 bytes) of the refcount table.
pub(crate) const HEADER_REFTABLE_FIELDS: u64 = 48;

/// The layout of a larger refcount table: `table` clusters, then `blocks` clusters.
struct Growth {
    start: HostCluster,
    table: ClusterCount,
    blocks: ClusterCount,
}

impl Growth {
    /// All of it.
    fn run(&self) -> Run {
        Run { start: self.start, count: ClusterCount::new(self.table.get() + self.blocks.get()) }
    }

    /// The clusters of the blocks.
    fn block_run(&self) -> Run {
        Run { start: HostCluster::new(self.start.get() + self.table.get()), count: self.blocks }
    }
}

impl Meta {
    /// Makes the refcount block that counts `cluster`, or a larger refcount table if there is no entry for it.
    pub(super) async fn add_refblock(&mut self, cluster: HostCluster) -> Result<()> {
        self.storage.event(DebugEvent::RefblockAlloc).await;
        let index = self.geo.refcount_position(cluster).table_index;
        if index >= self.reftable.n_entries() {
            return self.grow_reftable(index).await;
        }
        let run = Run { start: self.geo.refblock_first(index), count: ClusterCount::ONE };
        self.add_refblocks(index, run.count, run).await
    }

    /// Makes the blocks for `n_blocks` entries of the refcount table from `index` on, none of which has one. They take
    /// the first clusters of the first one's range, and then count all of `used`, which includes themselves.
    pub(super) async fn add_refblocks(&mut self, index: usize, n_blocks: ClusterCount, used: Run) -> Result<()> {
        self.alloc.check_limit(used.end())?;
        self.check_not_metadata(used)?;
        let blocks = Run { start: self.geo.refblock_first(index), count: n_blocks };
        // Given up halfway, the table would name blocks that do not count themselves.
        let change = self.storage.begin_change();
        let fresh = self.alloc.claim(blocks);
        let mut made = self.put_refblocks(index, blocks, fresh).await;
        if made.is_ok() {
            made = self.set_refcounts(used, 1).await;
        }
        if made.is_err() {
            // Nobody counts anything in these blocks yet, so it is as if there had never been any.
            self.forget_refblocks(blocks);
            for i in 0..n_blocks.get() {
                self.reftable.put(index + usize::try_from(i).expect("entries of a table"), 0);
            }
        }
        change.finish();
        made
    }

    async fn put_refblocks(&mut self, index: usize, blocks: Run, fresh: bool) -> Result<()> {
        for i in 0..blocks.count.get() {
            let at = HostCluster::new(blocks.start.get() + i);
            let offset = self.geo.host_start(at);
            self.storage.event(DebugEvent::RefblockAllocWrite).await;
            self.zero_table_cluster(at, fresh, Region::RefcountBlock).await?;
            self.regions.add_table(offset, Region::RefcountBlock)?;
            let entry = ReftableEntry::block(offset).raw();
            let index = index + usize::try_from(i).expect("entries of a table");
            self.reftable.put(index, entry);
            self.note_new_refblock(index);
        }
        Ok(())
    }

    /// Forgets blocks that could not be put into service: neither their slices nor their places mean anything.
    fn forget_refblocks(&mut self, blocks: Run) {
        for i in 0..blocks.count.get() {
            let offset = self.geo.host_start(HostCluster::new(blocks.start.get() + i));
            self.refblocks.forget(offset, self.geo.cluster_len());
            self.regions.remove_table(offset);
        }
    }

    /// Makes a cluster that is reserved for a table read as zeros, on the disk or in the cache. `fresh` says that the
    /// file has never reached it.
    pub(crate) async fn zero_table_cluster(&mut self, at: HostCluster, fresh: bool, region: Region) -> Result<()> {
        let offset = self.geo.host_start(at);
        let cache = if region == Region::L2Table { &self.l2 } else { &self.refblocks };
        let slice_bytes = cache.slice_bytes();
        if slice_bytes == self.geo.cluster_len() {
            if region == Region::L2Table {
                if !self.l2.has_room() {
                    Box::pin(self.write_back()).await?;
                }
                self.l2.insert_zeroed(offset);
            } else {
                self.make_refblock_room().await?;
                self.refblocks.insert_zeroed(offset);
            }
            return Ok(());
        }
        if fresh {
            // The file has never reached here: extending it over the cluster makes the cluster read as zeros.
            let last_slice = offset.get() + self.geo.cluster_size() - slice_bytes as u64;
            return self.storage.write(last_slice, IoBuf::zeroed(slice_bytes)).await;
        }
        self.storage.write_zeroes(offset.get(), self.geo.cluster_size()).await
    }

    /// Moves the refcount table to where it is larger.
    ///
    /// Until the header is about to be written a failure leaves everything as it was. From then on nobody knows which
    /// table the header names, so the image is poisoned, as it is when the future is dropped anywhere in between.
    pub(super) async fn grow_reftable(&mut self, index: usize) -> Result<()> {
        if self.shadow.is_some() {
            // It was made large enough for all that was to be allocated.
            let text = "qcow2: the refcount table cannot grow while another one is being made";
            return Err(BlockError::new(ErrorKind::NoSpace, text));
        }
        let growth = self.plan_growth(index)?;
        self.alloc.check_limit(growth.run().end())?;
        self.check_not_metadata(growth.run())?;
        self.load_all_reftable().await?;
        let change = self.storage.begin_change();
        let grown = self.replace_reftable(&growth).await;
        change.finish();
        grown
    }

    async fn replace_reftable(&mut self, growth: &Growth) -> Result<()> {
        let fresh = self.alloc.claim(growth.run());
        let new = match self.make_reftable(growth, fresh).await {
            Ok(new) => new,
            Err(error) => {
                self.forget_refblocks(growth.block_run());
                return Err(error);
            }
        };
        let old = std::mem::replace(&mut self.reftable, new);
        if let Err(error) = self.write_new_reftable(growth).await {
            // The header still points to the old table, so nothing may be counted by the new one.
            self.reftable = old;
            self.forget_refblocks(growth.block_run());
            return Err(error);
        }
        let offset = self.reftable.offset();
        let clusters = u32::try_from(growth.table.get()).expect("at most 8 MiB of table");
        let mut fields = [0; 12];
        fields[..8].copy_from_slice(&offset.get().to_be_bytes());
        fields[8..].copy_from_slice(&clusters.to_be_bytes());
        self.storage.commit_header(HEADER_REFTABLE_FIELDS, &fields).await?;
        let old_clusters = ClusterCount::new(u64::from(self.header.reftable.count));
        self.header.reftable = TablePlace { offset, count: clusters };
        self.regions.move_fixed(Region::RefcountTable, offset, growth.table.get() * self.geo.cluster_size());
        self.releases.push(Run { start: self.geo.host_cluster(old.offset()), count: old_clusters });
        Ok(())
    }

    /// How large the table becomes so that it has an entry `index`, room for half as many more, and entries for the
    /// blocks that count the table and themselves.
    fn plan_growth(&self, index: usize) -> Result<Growth> {
        let n_old = self.reftable.n_entries() as u64;
        let per_block = self.geo.refblock_entries() as u64;
        let mut n_entries = (index as u64 + 1).max(n_old + n_old / 2);
        let (table, blocks) = loop {
            let table = self.geo.table_clusters(n_entries);
            let mut blocks = 1;
            while (table.get() + blocks).div_ceil(per_block) > blocks {
                blocks = (table.get() + blocks).div_ceil(per_block);
            }
            if n_old + blocks <= n_entries {
                break (table, ClusterCount::new(blocks));
            }
            n_entries = n_old + blocks;
        };
        if table.get() > self.geo.reftable_clusters_max() {
            let text = "qcow2: the refcount table has reached its largest size";
            return Err(BlockError::new(ErrorKind::NoSpace, text).with_errno(libc::EFBIG));
        }
        Ok(Growth { start: self.geo.refblock_first(self.reftable.n_entries()), table, blocks })
    }

    /// Prepares the clusters of the new table and its blocks, and the table in memory.
    async fn make_reftable(&mut self, growth: &Growth, fresh: bool) -> Result<EntryTable> {
        let offset = self.geo.host_start(growth.start);
        let n_entries = usize::try_from(growth.table.get()).expect("bounded") * self.geo.l2_entries();
        if !fresh {
            let bytes = growth.table.get() * self.geo.cluster_size();
            self.storage.write_zeroes(offset.get(), bytes).await?;
        }
        let mut table = self.reftable.moved_to(offset, n_entries);
        let blocks = growth.block_run();
        for i in 0..blocks.count.get() {
            let at = HostCluster::new(blocks.start.get() + i);
            self.zero_table_cluster(at, fresh, Region::RefcountBlock).await?;
            self.regions.add_table(self.geo.host_start(at), Region::RefcountBlock)?;
            let index = self.reftable.n_entries() + usize::try_from(i).expect("bounded");
            table.put(index, ReftableEntry::block(self.geo.host_start(at)).raw());
        }
        Ok(table)
    }

    /// Counts the new clusters and writes blocks and table, so that the header may point there.
    async fn write_new_reftable(&mut self, growth: &Growth) -> Result<()> {
        self.set_refcounts(growth.run(), 1).await?;
        let storage = self.storage.clone();
        storage.event(DebugEvent::RefblockAllocWriteBlocks).await;
        self.refblocks.write_dirty(&storage).await?;
        storage.event(DebugEvent::RefblockAllocWriteTable).await;
        self.reftable.write_dirty(&storage).await?;
        storage.flush().await
    }
}
