//! All counts anew, with another width. QEMU: `qcow2_change_refcount_order` (block/qcow2-refcount.c).
//!
//! The new table and its blocks are made beside the old ones, counting both, and one write of the header, which names
//! table and width, replaces them. Before that write the new ones are leaked clusters, after it the old ones are.

use std::collections::BTreeSet;

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::manage::Progress;
use qemu_util::buf::IoBuf;
use qemu_util::zero::is_zero;

use super::Run;
use crate::cache::entry_table::EntryTable;
use crate::format::header::TablePlace;
use crate::format::refcount::{RefcountWidth, ReftableEntry};
use crate::meta::Meta;
use crate::overlap::Region;
use crate::units::{ClusterCount, Geometry, HostCluster, HostOffset};

/// Clusters that are reserved in addition when the first guess was too small.
const SPARE_CLUSTERS: u64 = 2;

/// The new table and its blocks.
struct NewCounts {
    geo: Geometry,
    /// The clusters of the table, and then those of the blocks.
    run: Run,
    table: ClusterCount,
    /// Indices in the table of the entries that have a block.
    blocks: BTreeSet<usize>,
}

impl NewCounts {
    /// The table for these blocks, and how many clusters everything takes.
    fn sizes(geo: Geometry, blocks: &BTreeSet<usize>) -> Result<(ClusterCount, u64)> {
        let n_entries = blocks.last().map_or(1, |last| *last as u64 + 1);
        let table = geo.table_clusters(n_entries);
        if table.get() > geo.reftable_clusters_max() {
            let text = "This operation would make the refcount table grow beyond the maximum size supported by QEMU, \
                        aborting";
            return Err(BlockError::new(ErrorKind::Unsupported, text));
        }
        Ok((table, table.get() + blocks.len() as u64))
    }

    fn table_offset(&self) -> HostOffset {
        self.geo.host_start(self.run.start)
    }

    /// The blocks: index in the table, and place.
    fn places(&self) -> impl Iterator<Item = (usize, HostOffset)> + '_ {
        let first = self.run.start.get() + self.table.get();
        self.blocks.iter().zip(first..).map(|(index, at)| (*index, self.geo.host_start(HostCluster::new(at))))
    }
}

impl Meta {
    /// Gives all counts the width that `geo` has. Afterwards everything is durable.
    ///
    /// # Errors
    /// `InvalidArgument` when a count is too large for the new width, `Unsupported` when the table would be. These, and
    /// errors of I/O before the header is written, change nothing.
    pub(crate) async fn change_refcount_width(&mut self, geo: Geometry, progress: &Progress) -> Result<()> {
        self.know_metadata().await?;
        self.load_all_reftable().await?;
        self.flush().await?;
        self.keep_promise().await?;
        let new = self.reserve_new_counts(geo).await?;
        let change = self.storage.begin_change();
        let switched = match self.write_new_counts(&new, progress).await {
            Ok(table) => self.switch_counts(&new, table).await,
            Err(error) => {
                let _leaked = self.unreserve(new.run).await;
                Err(error)
            }
        };
        change.finish();
        switched?;
        self.flush().await?;
        self.keep_promise().await
    }

    /// Reserves as many clusters as all counts need in the new width, those of the reserved clusters among them.
    async fn reserve_new_counts(&mut self, geo: Geometry) -> Result<NewCounts> {
        let blocks = self.blocks_needed(geo).await?;
        let (_, mut wanted) = NewCounts::sizes(geo, &blocks)?;
        loop {
            let run = self.allocate_exactly(ClusterCount::new(wanted)).await?;
            let blocks = self.blocks_needed(geo).await?;
            let (table, needed) = NewCounts::sizes(geo, &blocks)?;
            if needed > wanted {
                self.unreserve(run).await?;
                wanted = needed + SPARE_CLUSTERS;
                continue;
            }
            let spare =
                Run { start: HostCluster::new(run.start.get() + needed), count: ClusterCount::new(wanted - needed) };
            self.unreserve(spare).await?;
            let run = Run { count: ClusterCount::new(needed), ..run };
            return Ok(NewCounts { geo, run, table, blocks });
        }
    }

    /// The blocks that a table for the new width must have: those with a count that is not zero.
    async fn blocks_needed(&mut self, geo: Geometry) -> Result<BTreeSet<usize>> {
        self.load_all_reftable().await?;
        let indices: Vec<usize> = self.reftable.loaded_entries().map(|(index, _)| index).collect();
        let mut needed = BTreeSet::new();
        let mut counts = Vec::new();
        for index in indices {
            let first = self.geo.refblock_first(index).get();
            let end = first + self.geo.refblock_entries() as u64;
            let mut at = first;
            while at < end {
                self.counts_from(HostCluster::new(at), &mut counts).await?;
                for (cluster, count) in (at..).zip(&counts).filter(|(_, count)| **count != 0) {
                    let cluster = HostCluster::new(cluster);
                    if *count > geo.refcount_max() {
                        return Err(too_wide(geo, self.geo.host_start(cluster), *count));
                    }
                    needed.insert(geo.refcount_position(cluster).table_index);
                }
                at += counts.len() as u64;
            }
        }
        Ok(needed)
    }

    /// The counts from `at` on that are in the same slice of a block, or would be.
    async fn counts_from(&mut self, at: HostCluster, counts: &mut Vec<u64>) -> Result<()> {
        counts.clear();
        let width = RefcountWidth::new(self.geo);
        let Some(piece) = self.piece_of(at).await? else {
            let rest = self.geo.refblock_entries() - self.geo.refcount_position(at).block_index;
            counts.resize(rest, 0);
            return Ok(());
        };
        let bytes = self.refblocks.bytes(piece.slot);
        if is_zero(bytes) {
            counts.resize(piece.n_counts, 0);
        } else {
            counts.extend((0..piece.n_counts).map(|i| width.get(bytes, piece.index + i).unwrap_or(0)));
        }
        Ok(())
    }

    /// Writes the new blocks and their table, and makes them durable.
    async fn write_new_counts(&mut self, new: &NewCounts, progress: &Progress) -> Result<EntryTable> {
        let geo = new.geo;
        let bytes = new.table.get() * geo.cluster_size();
        self.storage.write_zeroes(new.table_offset().get(), bytes).await?;
        let n_entries = usize::try_from(bytes / 8).expect("at most 8 MiB");
        let mut table = EntryTable::zeroed("refcount table", new.table_offset(), n_entries);
        let total = new.blocks.len() as u64;
        for (done, (index, offset)) in (0..).zip(new.places()) {
            progress.report(done, total);
            let block = self.new_block(geo, index).await?;
            self.storage.write(offset.get(), block).await?;
            table.put(index, ReftableEntry::block(offset).raw());
        }
        table.write_dirty(&self.storage).await?;
        self.storage.flush().await?;
        progress.report(total, total);
        Ok(table)
    }

    /// The `index`-th block in the new width.
    async fn new_block(&mut self, geo: Geometry, index: usize) -> Result<IoBuf> {
        let width = RefcountWidth::new(geo);
        let mut block = IoBuf::zeroed(geo.cluster_len());
        let first = geo.refblock_first(index).get();
        let end = first + geo.refblock_entries() as u64;
        let mut counts = Vec::new();
        let mut at = first;
        while at < end {
            self.counts_from(HostCluster::new(at), &mut counts).await?;
            for (cluster, count) in (at..end).zip(&counts).filter(|(_, count)| **count != 0) {
                let i = usize::try_from(cluster - first).expect("inside a block");
                width.set(&mut block, i, *count)?;
            }
            at += counts.len() as u64;
        }
        Ok(block)
    }

    /// Lets the header name the new table, and gives up the old one.
    async fn switch_counts(&mut self, new: &NewCounts, table: EntryTable) -> Result<()> {
        let count = u32::try_from(new.table.get()).expect("at most 8 MiB of table");
        let place = TablePlace { offset: new.table_offset(), count };
        let old_place = self.header.reftable;
        self.rewrite_header(|header| {
            header.geometry = new.geo;
            header.reftable = place;
        })
        .await?;
        let old = std::mem::replace(&mut self.reftable, table);
        self.adopt_header();
        self.refblocks.clear();
        self.regions.move_fixed(Region::RefcountTable, place.offset, u64::from(count) * self.geo.cluster_size());
        let geo = self.geo;
        let old_blocks = old.loaded_entries().filter_map(|(_, raw)| ReftableEntry::from_raw(raw).decode(geo).ok()?);
        for block in old_blocks {
            self.regions.remove_table(block);
            self.release_cluster(block);
        }
        for (_, block) in new.places() {
            self.regions.add_table(block, Region::RefcountBlock)?;
        }
        let start = self.geo.host_cluster(old_place.offset);
        self.releases.push(Run { start, count: ClusterCount::new(u64::from(old_place.count)) });
        Ok(())
    }
}

fn too_wide(geo: Geometry, offset: HostOffset, count: u64) -> BlockError {
    let bits = geo.refcount_bits();
    let text = format!(
        "Cannot decrease refcount entry width to {bits} bits: Cluster at offset {:#x} has a refcount of {count}",
        offset.get()
    );
    BlockError::new(ErrorKind::InvalidArgument, text)
}
