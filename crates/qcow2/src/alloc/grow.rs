//! New refcount blocks and larger refcount tables.
//!
//! A block that is missing counts nothing, so all clusters of its range are free: the block itself takes the first of
//! them and counts itself. That needs no search and no recursion. A new refcount table takes the first clusters that
//! the old one cannot count, followed by the blocks that count it.

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::types::{WriteFlags, ZeroFlags};
use qemu_util::buf::IoBuf;

use crate::cache::entry_table::EntryTable;
use crate::format::refcount::ReftableEntry;
use crate::meta::Meta;
use crate::overlap::Region;
use crate::units::{ClusterCount, HostCluster};

use super::Run;

/// Where the header keeps offset (8 bytes) and clusters (4 bytes) of the refcount table.
const HEADER_REFTABLE_FIELDS: u64 = 48;

/// The layout of a larger refcount table: `table` clusters, then `blocks` clusters.
struct Growth {
    start: HostCluster,
    table: ClusterCount,
    blocks: ClusterCount,
}

impl Meta {
    /// Makes the refcount block that counts `cluster`, or a larger refcount table if there is no entry for it.
    pub(super) async fn add_refblock(&mut self, cluster: HostCluster) -> Result<()> {
        let index = self.geo.refcount_position(cluster).table_index;
        if index >= self.reftable.n_entries() {
            return self.grow_reftable(index).await;
        }
        let run = Run { start: self.geo.refblock_first(index), count: ClusterCount::ONE };
        self.check_not_metadata(run)?;
        let block = self.geo.host_start(run.start);
        self.make_table_cluster(run, Region::RefcountBlock).await?;
        self.reftable.put(index, ReftableEntry::block(block).raw());
        self.regions.add_refblock(block, self.geo);
        self.set_refcounts(run, 1).await
    }

    /// Makes the single cluster of `run` read as zeros, on the disk or in the cache.
    pub(crate) async fn make_table_cluster(&mut self, run: Run, region: Region) -> Result<()> {
        let fresh = self.alloc.claim(run);
        self.zero_table_cluster(run.start, fresh, region).await
    }

    /// As [`Meta::make_table_cluster`], for a cluster that is reserved already.
    pub(crate) async fn zero_table_cluster(&mut self, at: HostCluster, fresh: bool, region: Region) -> Result<()> {
        let offset = self.geo.host_start(at);
        let slice_bytes = self.l2.slice_bytes();
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
            return self.storage.write(last_slice, IoBuf::zeroed(slice_bytes).into(), WriteFlags::empty()).await;
        }
        self.storage.write_zeroes(offset.get(), self.geo.cluster_size(), ZeroFlags::empty()).await
    }

    async fn grow_reftable(&mut self, index: usize) -> Result<()> {
        let growth = self.plan_growth(index)?;
        let count = ClusterCount::new(growth.table.get() + growth.blocks.get());
        let run = Run { start: growth.start, count };
        self.check_not_metadata(run)?;
        for entry in (0..self.reftable.n_entries()).step_by(self.geo.l2_entries()) {
            self.load_reftable(entry).await?;
        }
        let fresh = self.alloc.claim(run);
        let new = self.make_reftable(&growth, fresh).await?;
        let old = std::mem::replace(&mut self.reftable, new);
        if let Err(error) = self.commit_reftable(&growth, run).await {
            // The header still points to the old table, so nothing may be counted by the new one.
            self.reftable = old;
            for i in 0..growth.blocks.get() {
                let block = HostCluster::new(growth.start.get() + growth.table.get() + i);
                self.refblocks.forget(self.geo.host_start(block), self.geo.cluster_len());
            }
            return Err(error);
        }
        let count = ClusterCount::new(u64::from(std::mem::replace(
            &mut self.header.reftable.count,
            u32::try_from(growth.table.get()).expect("at most 8 MiB of table"),
        )));
        self.header.reftable.offset = self.reftable.offset();
        let bytes = growth.table.get() * self.geo.cluster_size();
        self.regions.move_fixed(Region::RefcountTable, self.reftable.offset(), bytes);
        self.releases.push(Run { start: self.geo.host_cluster(old.offset()), count });
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
            self.storage.write_zeroes(offset.get(), bytes, ZeroFlags::empty()).await?;
        }
        let mut table = self.reftable.moved_to(offset, n_entries);
        for i in 0..growth.blocks.get() {
            let at = HostCluster::new(growth.start.get() + growth.table.get() + i);
            self.zero_table_cluster(at, fresh, Region::RefcountBlock).await?;
            let index = self.reftable.n_entries() + usize::try_from(i).expect("bounded");
            table.put(index, ReftableEntry::block(self.geo.host_start(at)).raw());
            self.regions.add_refblock(self.geo.host_start(at), self.geo);
        }
        Ok(table)
    }

    /// Counts the new clusters and makes the header point to the new table, each step durable before the next.
    async fn commit_reftable(&mut self, growth: &Growth, run: Run) -> Result<()> {
        self.set_refcounts(run, 1).await?;
        let storage = self.storage.clone();
        self.refblocks.write_dirty(&storage).await?;
        self.reftable.write_dirty(&storage).await?;
        storage.flush().await?;
        let mut fields = IoBuf::zeroed(12);
        fields[..8].copy_from_slice(&self.reftable.offset().get().to_be_bytes());
        let clusters = u32::try_from(growth.table.get()).expect("at most 8 MiB of table");
        fields[8..].copy_from_slice(&clusters.to_be_bytes());
        storage.write(HEADER_REFTABLE_FIELDS, fields.into(), WriteFlags::empty()).await?;
        storage.flush().await
    }
}
