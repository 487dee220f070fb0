//! Walks over the tables of a state: the active one, or that of a snapshot.
//!
//! Each L2 table is read once, however many entries name it: work follows the tables that are really there.

use std::collections::BTreeMap;

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_util::buf::IoBuf;

use crate::alloc::Run;
use crate::cache::entry_table::EntryTable;
use crate::error::TableKind;
use crate::format::header::check_table;
use crate::format::l1::L1Entry;
use crate::format::l2::{L2Entry, L2Layout, L2Mapping};
use crate::format::snapshot::SnapshotEntry;
use crate::limits::L1_BYTES_MAX;
use crate::meta::Meta;
use crate::overlap::Region;
use crate::units::{ClusterCount, Geometry, HostCluster, HostOffset};

/// The L2 tables of a state, in the order of the file, and how many L1 entries name each.
pub(super) type Tables = BTreeMap<HostOffset, u64>;

/// The L1 entries of a new active state, by the L2 tables that another state's entries name.
#[derive(Debug)]
pub(super) struct Successors {
    geo: Geometry,
    entries: BTreeMap<HostOffset, L1Entry>,
}

impl Successors {
    fn new(geo: Geometry) -> Self {
        Self { geo, entries: BTreeMap::new() }
    }

    /// What stands for an entry of the other state; both as they are stored.
    pub(super) fn entry_for(&self, raw: u64) -> u64 {
        let table = L1Entry::from_raw(raw).decode(self.geo).ok().flatten();
        table.and_then(|table| self.entries.get(&table)).map_or(0, |entry| entry.raw())
    }
}

/// What becomes of the references of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Another state has them, too.
    Add,
    /// They are given up.
    Drop,
}

/// The L2 tables that a table names, all of which is loaded.
///
/// # Errors
/// When an entry is damaged.
pub(super) fn tables_of(l1: &EntryTable, kind: TableKind, layout: L2Layout) -> Result<Tables> {
    let mut tables = Tables::new();
    for (index, raw) in l1.loaded_entries() {
        let table = L1Entry::from_raw(raw).decode(layout.geometry());
        let table = table.map_err(|flaw| flaw.at(kind, l1.offset().get(), index, raw))?;
        if let Some(table) = table {
            *tables.entry(table).or_default() += 1;
        }
    }
    Ok(tables)
}

/// The host clusters that an L2 table refers to, each as often as it does.
///
/// # Errors
/// When an entry is damaged.
pub(crate) fn references_in(entries: &[u8], at: HostOffset, layout: L2Layout) -> Result<Vec<Run>> {
    let geo = layout.geometry();
    let mut runs: Vec<Run> = Vec::new();
    let mut push = |start: HostCluster, count: u64| match runs.last_mut() {
        Some(last) if last.end() == start => last.count = ClusterCount::new(last.count.get() + count),
        _ => runs.push(Run { start, count: ClusterCount::new(count) }),
    };
    if layout.has_data_file() {
        // Another file has no counts.
        return Ok(runs);
    }
    for (index, entry) in layout.entries(entries).enumerate() {
        let mapping = entry.decode(layout).map_err(|flaw| flaw.at(TableKind::L2, at.get(), index, entry.raw()))?;
        if let L2Mapping::Compressed(extent) = mapping {
            let first = geo.host_cluster(extent.host);
            let last = geo.host_cluster(HostOffset::new(extent.end().get().saturating_sub(1)));
            push(first, last.get().saturating_sub(first.get()) + 1);
        } else if let Some(host) = mapping.host() {
            push(geo.host_cluster(host), 1);
        }
    }
    Ok(runs)
}

/// The host cluster of an entry that has a "copied" flag, and the flag.
fn copied_of(entry: L2Entry, layout: L2Layout) -> Option<(HostOffset, bool)> {
    // Compressed clusters have none.
    entry.decode(layout).ok()?.host().map(|host| (host, entry.is_copied()))
}

impl Meta {
    /// The L2 tables of the active state.
    pub(super) async fn active_tables(&mut self) -> Result<Tables> {
        self.load_all_l1().await?;
        tables_of(&self.l1, TableKind::ActiveL1, self.layout)
    }

    /// The L1 table of a snapshot, all of it in memory.
    ///
    /// # Errors
    /// When it is where no table can be, or longer than any table.
    pub(super) async fn snapshot_l1(&self, entry: &SnapshotEntry) -> Result<EntryTable> {
        let n_entries = u64::from(entry.l1_entries);
        check_table(self.geo, TableKind::SnapshotL1, entry.l1_offset, n_entries, L1_BYTES_MAX / 8)?;
        // The name of the kind of table is that of the active one, because it may become that.
        let mut table = EntryTable::new("L1 table", entry.l1_offset, entry.l1_entries as usize);
        for index in table.chunk_starts() {
            table.load(&self.storage, index).await?;
        }
        Ok(table)
    }

    /// All of the L2 table at `offset`. Nothing of it is dirty.
    pub(crate) async fn read_l2_table(&self, offset: HostOffset) -> Result<IoBuf> {
        if offset.get().saturating_add(self.geo.cluster_size()) > self.storage.len() {
            let text = format!("qcow2: the L2 table at offset {:#x} lies past the end of the image file", offset.get());
            return Err(BlockError::new(ErrorKind::Truncated, text));
        }
        self.storage.read_bytes(offset.get(), self.geo.cluster_len()).await
    }

    /// Changes the counts of everything that the L2 table at `table`, with these entries, refers to.
    pub(super) async fn change_references_in(
        &mut self,
        table: HostOffset,
        entries: &[u8],
        times: u64,
        change: Change,
    ) -> Result<()> {
        for run in references_in(entries, table, self.layout)? {
            match change {
                Change::Add => self.add_references(run, times).await?,
                Change::Drop => self.drop_references_of(run, times).await?,
            }
        }
        Ok(())
    }

    /// Drops all references of a state's L2 tables, and those to the tables.
    pub(super) async fn drop_tree(&mut self, tables: &Tables) -> Result<()> {
        for (table, times) in tables {
            let entries = self.read_l2_table(*table).await?;
            self.change_references_in(*table, &entries, *times, Change::Drop).await?;
            self.drop_references_of(self.run_of_table(*table), *times).await?;
        }
        Ok(())
    }

    /// Lets the new active state have what `tables` lead to, besides the state that has it already; returns the L1 entry
    /// for each table.
    pub(super) async fn inherit_tree(&mut self, tables: &Tables) -> Result<Successors> {
        let mut successors = Successors::new(self.geo);
        for table in tables.keys() {
            let content = self.read_l2_table(*table).await?;
            self.change_references_in(*table, &content, 1, Change::Add).await?;
            let layout = self.layout;
            let mut flags = layout.entries(&content).filter_map(|entry| copied_of(entry, layout));
            let has_flags = flags.any(|(_, copied)| copied);
            drop(flags);
            let entry = if has_flags {
                self.copy_with_flags(content, |_| false).await?
            } else {
                self.add_references(self.run_of_table(*table), 1).await?;
                self.regions.add_table(*table, Region::L2Table)?;
                L1Entry::table(*table, false)
            };
            successors.entries.insert(*table, entry);
        }
        Ok(successors)
    }

    /// The L1 entries for the tables of the active state, after the counts of what they lead to have changed; tables
    /// whose flags do not agree with the counts any more are replaced.
    pub(super) async fn renew_flags(&mut self, tables: &Tables) -> Result<Successors> {
        let mut successors = Successors::new(self.geo);
        for table in tables.keys() {
            let content = self.read_l2_table(*table).await?;
            let single = self.single_clusters(&content).await?;
            let layout = self.layout;
            let is_single = |index: usize| single.get(index).copied().unwrap_or(false);
            let mut flags = layout.entries(&content).map(|entry| copied_of(entry, layout)).enumerate();
            let has_wrong = flags.any(|(index, flag)| flag.is_some_and(|(_, copied)| copied != is_single(index)));
            drop(flags);
            let entry = if has_wrong {
                self.drop_references_of(self.run_of_table(*table), 1).await?;
                self.copy_with_flags(content, is_single).await?
            } else {
                self.regions.add_table(*table, Region::L2Table)?;
                L1Entry::table(*table, self.refcount(self.geo.host_cluster(*table)).await? == 1)
            };
            successors.entries.insert(*table, entry);
        }
        Ok(successors)
    }

    /// For each entry of an L2 table, whether it has a flag and its cluster exactly one reference.
    async fn single_clusters(&mut self, entries: &[u8]) -> Result<Vec<bool>> {
        let mut single = Vec::with_capacity(entries.len() / self.layout.entry_bytes());
        let layout = self.layout;
        for entry in layout.entries(entries) {
            single.push(match copied_of(entry, layout) {
                Some((host, _)) => self.refcount(self.geo.host_cluster(host)).await? == 1,
                None => false,
            });
        }
        Ok(single)
    }

    /// Writes an L2 table of the active state's own, with flags as `is_single` says; returns its L1 entry.
    async fn copy_with_flags(&mut self, mut entries: IoBuf, is_single: impl Fn(usize) -> bool) -> Result<L1Entry> {
        let layout = self.layout;
        for (index, bytes) in entries.chunks_exact_mut(layout.entry_bytes()).enumerate() {
            let entry = layout.load(bytes).unwrap_or_default();
            if copied_of(entry, layout).is_some() {
                layout.store(bytes, entry.with_copied(is_single(index)));
            }
        }
        let run = self.allocate(ClusterCount::ONE).await?.run;
        let offset = self.geo.host_start(run.start);
        self.storage.write(offset.get(), entries).await?;
        self.regions.add_table(offset, Region::L2Table)?;
        Ok(L1Entry::table(offset, true))
    }

    /// The cluster of an L2 table.
    pub(super) fn run_of_table(&self, table: HostOffset) -> Run {
        Run { start: self.geo.host_cluster(table), count: ClusterCount::ONE }
    }

    /// The clusters that the bytes from `offset` on touch; none if there are no bytes.
    pub(super) fn run_of_bytes(&self, offset: HostOffset, len: u64) -> Option<Run> {
        let last = HostOffset::new(offset.get().checked_add(len.checked_sub(1)?)?);
        let start = self.geo.host_cluster(offset);
        Some(Run { start, count: ClusterCount::new(self.geo.host_cluster(last).get() - start.get() + 1) })
    }
}
