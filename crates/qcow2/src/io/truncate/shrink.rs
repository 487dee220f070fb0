//! Shrinking.

use qemu_block::error::Result;
use qemu_block::io::RangeMode;
use qemu_block::types::PreallocMode;

use crate::error::TableKind;
use crate::format::l1::L1Entry;
use crate::image::Image;
use crate::meta::Meta;
use crate::snapshots::{Change, Plan, Snapshots, Tables, tables_of};
use crate::units::{GuestOffset, HostCluster};

impl Image {
    /// Makes the disk smaller. What was mapped past the new end is given up, the state of a machine included.
    pub(super) async fn shrink(&self, len: u64) -> Result<()> {
        let start = self.geo.round_down(len);
        let _past_the_end = self.ranges.lock(start..u64::MAX, RangeMode::Exclusive).await;
        let mut meta = self.meta.lock().await;
        let whole = meta.storage.begin_change();
        let mut done = meta.shrink(len).await;
        if done.is_err() {
            meta.abandon_shadow().await;
        } else {
            self.set_size(len);
            done = meta.flush().await;
        }
        if done.is_ok() {
            done = meta.cut_file().await;
        }
        whole.finish();
        match done {
            Ok(()) => Ok(()),
            Err(error) => Err(self.note_failure(&mut meta, error).await),
        }
    }
}

impl Meta {
    async fn shrink(&mut self, len: u64) -> Result<()> {
        let snapshots = Snapshots::read(self).await?;
        self.load_all_l1().await?;
        let n_kept = usize::try_from(self.geo.l1_entries_for(len)).expect("no more than there are");
        let lost = self.l1.moved_with(self.l1.offset(), self.l1.n_entries(), |i, raw| if i < n_kept { 0 } else { raw });
        let lost: Tables = tables_of(&lost, TableKind::ActiveL1, self.layout)?;
        let l1_clusters = self.geo.table_clusters(n_kept as u64).get();
        self.begin_shadow(l1_clusters + 1).await?;
        self.drop_tree(&lost).await?;
        lost.keys().for_each(|table| self.regions.remove_table(*table));
        let last = self.cut_last_table(len).await?;
        let place = self.place_for_l1(n_kept).await?;
        let l1 = self.l1.moved_with(place, n_kept, |i, raw| match &last {
            Some((index, entry)) if *index == i => entry.raw(),
            _ if i < n_kept => raw,
            _ => 0,
        });
        let plan = Plan { virtual_size: len, l1: Some(l1), l1_is_kept: false, snapshots, table_changes: false };
        self.commit_snapshots(plan).await
    }

    /// Replaces the L2 table in which a disk of `len` bytes ends by one that maps nothing past the end; returns its index
    /// and its new L1 entry, unless there is nothing to do.
    async fn cut_last_table(&mut self, len: u64) -> Result<Option<(usize, L1Entry)>> {
        let end = self.geo.guest_cluster(GuestOffset::new(self.geo.round_up(len).unwrap_or(len)));
        let position = self.geo.split(self.geo.guest_start(end));
        if position.l2_index == 0 {
            return Ok(None);
        }
        let raw = self.l1.entry(position.l1_index);
        let table = L1Entry::from_raw(raw).decode(self.geo);
        let table =
            table.map_err(|flaw| flaw.at(TableKind::ActiveL1, self.l1.offset().get(), position.l1_index, raw))?;
        let Some(table) = table else { return Ok(None) };
        let mut entries = self.read_l2_table(table).await?;
        let lost = &mut entries[position.l2_index * self.layout.entry_bytes()..];
        if qemu_util::zero::is_zero(lost) {
            return Ok(None);
        }
        let given_up = lost.to_vec();
        lost.fill(0);
        self.change_references_in(table, &given_up, 1, Change::Drop).await?;
        self.drop_references_of(self.run_of_table(table), 1).await?;
        self.regions.remove_table(table);
        Ok(Some((position.l1_index, self.write_new_table(entries).await?)))
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
