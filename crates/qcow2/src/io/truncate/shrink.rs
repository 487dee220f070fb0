//! Shrinking.
//!
//! The new size is durable first: nobody sees what is mapped past it, and a disk that grows again unmaps it before it
//! shows. Only then mappings are given up, and with them the clusters, so that no power cut takes data from a disk that
//! still has its old size.

use qemu_block::error::Result;
use qemu_block::io::RangeMode;
use qemu_block::types::PreallocMode;

use super::grow::unmap_batch;
use crate::error::TableKind;
use crate::format::l1::L1Entry;
use crate::image::Image;
use crate::meta::Meta;
use crate::snapshots::references_in;
use crate::units::{GuestOffset, HostCluster};

impl Image {
    /// Makes the disk smaller. What was mapped past the new end is given up, the state of a machine included.
    pub(super) async fn shrink(&self, len: u64) -> Result<()> {
        let start = self.geo.round_down(len);
        let _past_the_end = self.ranges.lock(start..u64::MAX, RangeMode::Exclusive).await;
        let mut meta = self.meta.lock().await;
        let mut done = meta.commit_size(len).await;
        if done.is_ok() {
            self.set_size(len);
            done = meta.unmap_past(len).await;
        }
        if done.is_ok() {
            done = self.cut_data_file(len).await;
        }
        match done {
            Ok(()) => Ok(()),
            Err(error) => Err(self.note_failure(&mut meta, error).await),
        }
    }
}

impl Image {
    /// Gives up all data, so that the backing file shows. QEMU: `qcow2_make_empty` (block/qcow2.c).
    pub(crate) async fn empty_image(&self) -> Result<()> {
        self.check_writable()?;
        let _disk = self.ranges.lock(0..u64::MAX, RangeMode::Exclusive).await;
        let mut meta = self.meta.lock().await;
        match meta.unmap_past(0).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.note_failure(&mut meta, error).await),
        }
    }
}

impl Meta {
    /// Gives up everything that is mapped past a disk of `len` bytes, and the end of the file if nothing is left there.
    async fn unmap_past(&mut self, len: u64) -> Result<()> {
        let n_kept = usize::try_from(self.geo.l1_entries_for(len)).unwrap_or(usize::MAX);
        let end = self.geo.guest_cluster(GuestOffset::new(self.geo.round_up(len).unwrap_or(len)));
        let table_end = self.geo.guest_cluster(self.geo.join(n_kept, 0));
        let mut at = end;
        while at < table_end {
            at = unmap_batch(self, at, table_end).await?;
        }
        self.load_all_l1().await?;
        let lost: Vec<usize> = self.l1.loaded_entries().map(|(index, _)| index).filter(|i| *i >= n_kept).collect();
        for index in lost {
            if self.too_much_released() {
                self.flush().await?;
            }
            self.give_up_table(index).await?;
        }
        self.flush().await?;
        self.cut_file().await
    }

    /// Gives up an L2 table and everything that it maps.
    async fn give_up_table(&mut self, index: usize) -> Result<()> {
        let raw = self.l1.entry(index);
        let table = L1Entry::from_raw(raw).decode(self.geo);
        let table = table.map_err(|flaw| flaw.at(TableKind::ActiveL1, self.l1.offset().get(), index, raw))?;
        if let Some(table) = table {
            let entries = self.read_l2_table(table).await?;
            references_in(&entries, table, self.layout)?.into_iter().for_each(|run| self.releases.push(run));
            self.release_cluster(table);
            self.l2.forget(table, self.geo.cluster_len());
            self.regions.remove_table(table);
        }
        self.l1.put(index, 0);
        Ok(())
    }

    /// Gives back the end of the image file, in which no cluster is in use.
    async fn cut_file(&mut self) -> Result<()> {
        if !self.storage.node().limits().growable {
            return Ok(());
        }
        let in_file = self.geo.size_to_clusters(self.storage.len()).get();
        let mut n_used = in_file;
        while n_used > 0 {
            let last = HostCluster::new(n_used - 1);
            if self.refcount(last).await? != 0 {
                break;
            }
            n_used -= 1;
        }
        if n_used == in_file {
            return Ok(());
        }
        let end = self.geo.host_start(HostCluster::new(n_used));
        // The clusters are free, so the file may as well keep its length.
        let _hint = self.storage.node().truncate(end.get(), PreallocMode::Off).await;
        Ok(())
    }
}
