//! A second view of the refcounts: what they will be once the header says so.
//!
//! Making, applying and deleting a snapshot changes counts, "copied" flags, an L1 table and the snapshot table, and these
//! must agree: a count of two beside a flag that says "one" is damage. No disk writes two sectors at once. So nothing
//! that the header leads to is changed where it is: a refcount block that is about to change moves to another cluster
//! first, and so does the refcount table. Everything that is new is named by nothing but memory, until one write of the
//! header's first sector, which names all of it, makes it true (see [`Switch`]).
//!
//! Until then a failure forgets the new view, and the image is as it was. A power cut leaves the new clusters leaked at
//! worst.
//!
//! References that are dropped in the new view lower counts at once as long as something else refers to the cluster. The
//! last one is only noted, and given up after the switch: the old view still refers to it, so that nobody may be given
//! the cluster.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;

use qemu_block::error::{BlockError, ErrorKind, Result};

use super::{AllocState, Run};
use crate::cache::entry_table::EntryTable;
use crate::format::header::TablePlace;
use crate::format::refcount::{RefcountWidth, ReftableEntry};
use crate::meta::Meta;
use crate::overlap::{MetadataRegions, Region};
use crate::units::{ClusterCount, HostCluster, HostOffset};

/// Where the header keeps what a [`Switch`] changes: from the size of the disk to the place of the snapshot table.
const SWITCH_FIELDS: u64 = 24;
const SWITCH_FIELDS_LEN: usize = 48;
/// Entries of the refcount table for blocks that come in on the way, beyond those that are computed.
const SPARE_BLOCKS: u64 = 8;

/// What is needed to come back from the new view, and to finish it.
#[derive(Debug)]
pub(crate) struct Shadow {
    old_reftable: EntryTable,
    old_regions: MetadataRegions,
    old_alloc: AllocState,
    /// Where the new refcount table is.
    table: Run,
    /// Entries of the refcount table whose blocks the header does not lead to.
    owned: HashSet<usize>,
    /// Blocks that were moved, tables that were replaced, and clusters whose last reference was dropped.
    dropped: Vec<Run>,
}

/// What the header is to say. Everything else that it leads to is in the new view already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Switch {
    pub(crate) virtual_size: u64,
    pub(crate) l1: TablePlace,
    pub(crate) snapshots: TablePlace,
}

impl Meta {
    /// Begins a new view in which `n_clusters` may be allocated. Afterwards nothing in memory is dirty.
    pub(crate) async fn begin_shadow(&mut self, n_clusters: u64) -> Result<()> {
        self.know_metadata().await?;
        self.flush().await?;
        let table = self.allocate_shadow_table(n_clusters).await?;
        self.write_back().await?;
        // Blocks are copied from the disk, so what was to be written late is written now.
        self.keep_promise().await?;
        let offset = self.geo.host_start(table.start);
        let bytes = self.geo.clusters_to_size(table.count).unwrap_or(u64::MAX);
        if let Err(error) = self.storage.write_zeroes(offset.get(), bytes).await {
            let _leaked = self.unreserve(table).await;
            return Err(error);
        }
        let n_entries = usize::try_from(bytes / 8).expect("at most 8 MiB of table");
        let new = self.reftable.moved_to(offset, n_entries);
        self.shadow = Some(Box::new(Shadow {
            old_reftable: std::mem::replace(&mut self.reftable, new),
            old_regions: self.regions.clone(),
            old_alloc: self.alloc.clone(),
            table,
            owned: HashSet::new(),
            dropped: Vec::new(),
        }));
        Ok(())
    }

    /// Reserves the place of the new refcount table, which cannot grow and so has room for all that may be counted.
    async fn allocate_shadow_table(&mut self, n_clusters: u64) -> Result<Run> {
        loop {
            self.load_all_reftable().await?;
            let per_block = self.geo.refblock_entries() as u64;
            let n_blocks = self.reftable.loaded_entries().count() as u64;
            let counted = self.reftable.loaded_entries().last().map_or(0, |(index, _)| index as u64 + 1);
            let in_file = self.geo.size_to_clusters(self.storage.len()).get().div_ceil(per_block);
            // Every block may be moved. A run that lies behind all others begins with blocks of its own, so that it may
            // take twice the entries.
            let more = n_clusters.saturating_add(n_blocks).div_ceil(per_block).saturating_mul(2);
            let n_entries = counted.max(in_file).saturating_add(more).saturating_add(SPARE_BLOCKS);
            let n_entries = n_entries.max(self.reftable.n_entries() as u64);
            let count = self.geo.table_clusters(n_entries);
            if count.get() > self.geo.reftable_clusters_max() {
                let text = "qcow2: the refcount table has reached its largest size";
                return Err(BlockError::new(ErrorKind::NoSpace, text).with_errno(libc::EFBIG));
            }
            let run = self.allocate_exactly(count).await?;
            if self.reftable.n_entries() as u64 <= n_entries {
                return Ok(run);
            }
            // The table had to grow for its own successor.
            self.unreserve(run).await?;
        }
    }

    /// Forgets the new view. What was allocated in it is free again.
    pub(crate) async fn abandon_shadow(&mut self) {
        let Some(shadow) = self.shadow.take() else { return };
        self.reftable = shadow.old_reftable;
        self.regions = shadow.old_regions;
        self.alloc.return_to(shadow.old_alloc);
        // In the old view nothing was dirty.
        self.refblocks.clear();
        let _leaked = self.unreserve(shadow.table).await;
    }

    /// Makes the new view, with everything that was written for it, durable and true.
    ///
    /// # Errors
    /// Those of metadata I/O. Before the header is written they leave the new view to be abandoned, and the image as it
    /// was; then, the image is poisoned.
    pub(crate) async fn switch_to_shadow(&mut self, switch: Switch) -> Result<()> {
        self.write_back().await?;
        self.storage.flush().await?;
        let mut fields = self.storage.read_bytes(SWITCH_FIELDS, SWITCH_FIELDS_LEN).await?.to_vec();
        let reftable = self.shadow.as_ref().map_or(self.header.reftable, |shadow| TablePlace {
            offset: self.reftable.offset(),
            count: u32::try_from(shadow.table.count.get()).expect("at most 8 MiB of table"),
        });
        fields[..8].copy_from_slice(&switch.virtual_size.to_be_bytes());
        fields[12..16].copy_from_slice(&switch.l1.count.to_be_bytes());
        fields[16..24].copy_from_slice(&switch.l1.offset.get().to_be_bytes());
        fields[24..32].copy_from_slice(&reftable.offset.get().to_be_bytes());
        fields[32..36].copy_from_slice(&reftable.count.to_be_bytes());
        fields[36..40].copy_from_slice(&switch.snapshots.count.to_be_bytes());
        fields[40..].copy_from_slice(&switch.snapshots.offset.get().to_be_bytes());
        self.storage.commit_header(SWITCH_FIELDS, &fields).await?;
        self.header.virtual_size = switch.virtual_size;
        self.header.l1 = switch.l1;
        self.header.snapshots = switch.snapshots;
        self.header.reftable = reftable;
        let Some(shadow) = self.shadow.take() else { return Ok(()) };
        let old = shadow.old_reftable;
        let old_count = ClusterCount::new((old.n_entries() * 8 / self.geo.cluster_len()) as u64);
        self.releases.push(Run { start: self.geo.host_cluster(old.offset()), count: old_count });
        shadow.dropped.into_iter().for_each(|run| self.releases.push(run));
        Ok(())
    }

    /// Gives up one reference to each cluster of `run` once the new view is true.
    pub(crate) fn drop_after_switch(&mut self, run: Run) {
        let Some(shadow) = &mut self.shadow else { return };
        match shadow.dropped.last_mut() {
            Some(last) if last.end() == run.start => {
                last.count = ClusterCount::new(last.count.get() + run.count.get());
            }
            _ => shadow.dropped.push(run),
        }
    }

    /// Notes that the blocks of these entries of the refcount table are new.
    pub(super) fn note_new_refblock(&mut self, index: usize) {
        if let Some(shadow) = &mut self.shadow {
            shadow.owned.insert(index);
        }
    }

    /// Sees to it that the refcount block with entry `index` may be changed where it is.
    pub(super) async fn own_refblock(&mut self, index: usize) -> Result<()> {
        let Some(shadow) = &mut self.shadow else { return Ok(()) };
        // Noted first: the cluster for the copy may be counted by this very block.
        if !shadow.owned.insert(index) {
            return Ok(());
        }
        let old = ReftableEntry::from_raw(self.reftable.entry(index)).decode(self.geo).ok().flatten();
        let Some(old) = old else { return Ok(()) };
        self.move_refblock(index, old).await
    }

    /// Copies a refcount block to another cluster. Boxed, because counting that cluster may move another block.
    fn move_refblock(
        &mut self,
        index: usize,
        old: HostOffset,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + '_>> {
        Box::pin(async move {
            if old.get().saturating_add(self.geo.cluster_size()) > self.storage.len() {
                let text =
                    format!("qcow2: the refcount block at offset {:#x} lies past the end of the file", old.get());
                return Err(BlockError::new(ErrorKind::Truncated, text));
            }
            // Nothing of the old block is dirty, as it was never changed in the new view.
            let counts = self.storage.read_bytes(old.get(), self.geo.cluster_len()).await?;
            let at = self.take_free_cluster().await?;
            let offset = self.geo.host_start(at);
            self.storage.write(offset.get(), counts).await?;
            self.refblocks.forget(old, self.geo.cluster_len());
            self.regions.remove_table(old);
            self.regions.add_table(offset, Region::RefcountBlock)?;
            self.reftable.put(index, ReftableEntry::block(offset).raw());
            self.drop_after_switch(Run { start: self.geo.host_cluster(old), count: ClusterCount::ONE });
            self.set_refcounts(Run { start: at, count: ClusterCount::ONE }, 1).await
        })
    }
}

/// Changes of counts by walks over whole trees of tables.
impl Meta {
    /// Adds `n` references to each cluster of a run.
    ///
    /// # Errors
    /// `EINVAL`, as the reference, when a count is not wide enough; `Corrupt` when a cluster in use was not counted.
    pub(crate) async fn add_references(&mut self, run: Run, n: u64) -> Result<()> {
        self.change_references(run, |cluster, count, max| {
            if count == 0 {
                return Err(super::refcounts::uncounted(cluster));
            }
            count.checked_add(n).filter(|sum| *sum <= max).map(|sum| (sum, false)).ok_or_else(|| {
                let text = format!("qcow2: host cluster {} cannot have more than {max} references", cluster.get());
                BlockError::from_errno(libc::EINVAL, text)
            })
        })
        .await
    }

    /// Drops `n` references to each cluster of a run: at once if others are left, or else after the switch.
    ///
    /// # Errors
    /// `Corrupt` when there are fewer of them.
    pub(crate) async fn drop_references_of(&mut self, run: Run, n: u64) -> Result<()> {
        self.change_references(run, |cluster, count, _| match count.checked_sub(n) {
            None => Err(super::refcounts::uncounted(cluster)),
            Some(0) => Ok((1, true)),
            Some(left) => Ok((left, false)),
        })
        .await
    }

    /// Sets counts to what `change` makes of them; it also says whether the cluster is dropped after the switch.
    async fn change_references(
        &mut self,
        run: Run,
        change: impl Fn(HostCluster, u64, u64) -> Result<(u64, bool)>,
    ) -> Result<()> {
        let width = RefcountWidth::new(self.geo);
        let max = self.geo.refcount_max();
        let mut at = run.start;
        while at < run.end() {
            let Some(mut piece) = self.piece_of(at).await? else { return Err(super::refcounts::uncounted(at)) };
            let n = piece.n_counts.min(usize::try_from(run.end().get() - at.get()).unwrap_or(usize::MAX));
            let mut owned = false;
            for i in 0..n {
                let cluster = HostCluster::new(at.get() + i as u64);
                let count = width.get(self.refblocks.bytes(piece.slot), piece.index + i).unwrap_or(0);
                let (new, is_dropped) = change(cluster, count, max)?;
                if is_dropped {
                    self.drop_after_switch(Run { start: cluster, count: ClusterCount::ONE });
                }
                if new == count {
                    continue;
                }
                if !std::mem::replace(&mut owned, true) {
                    self.own_refblock(self.geo.refcount_position(cluster).table_index).await?;
                    // The piece may be in another place now, and, after an allocation, no longer in memory.
                    piece = self.piece_of(at).await?.ok_or_else(|| super::refcounts::uncounted(at))?;
                }
                width.set(self.refblocks.bytes_mut(piece.slot), piece.index + i, new)?;
            }
            at = HostCluster::new(at.get() + n as u64);
        }
        Ok(())
    }
}
