//! All metadata of an open image that can change: what the one metadata lock protects.
//!
//! The lock is held while tables are looked at and changed, which may include loading or writing back a table, and never
//! across data I/O. The lock order is: guest ranges ([`RangeLock`](qemu_block::io::RangeLock)), then this lock.

use qemu_block::debug::DebugEvent;
use qemu_block::error::Result;

use crate::alloc::{AllocState, Releases, Shadow};
use crate::cache::entry_table::EntryTable;
use crate::cache::file::MetaFile;
use crate::cache::sizes::CacheSizes;
use crate::cache::slices::SliceCache;
use crate::format::features::Compatible;
use crate::format::header::{Header, Version};
use crate::format::l1::L1Entry;
use crate::format::l2::L2Layout;
use crate::format::refcount::ReftableEntry;
use crate::limits::L1_BYTES_MAX;
use crate::overlap::{MetadataRegions, Region};
use crate::snapshots::read_snapshot_table;
use crate::units::{Geometry, HostOffset};

/// The changing metadata. See the module's description.
#[derive(Debug)]
pub(crate) struct Meta {
    pub(crate) geo: Geometry,
    /// How L2 entries are read and written.
    pub(crate) layout: L2Layout,
    pub(crate) storage: MetaFile,
    /// The header as it is on disk.
    pub(crate) header: Header,
    pub(crate) l1: EntryTable,
    pub(crate) l2: SliceCache,
    pub(crate) reftable: EntryTable,
    pub(crate) refblocks: SliceCache,
    pub(crate) regions: MetadataRegions,
    pub(crate) alloc: AllocState,
    pub(crate) releases: Releases,
    /// The way back from the refcounts in memory to those that the header leads to, if they differ.
    pub(crate) shadow: Option<Box<Shadow>>,
    /// How much memory the caches take.
    pub(crate) caches: CacheSizes,
    /// Whether refcounts are written only when the cache is full and when the image is closed; see
    /// [`crate::cache::order`].
    pub(crate) lazy_refcounts: bool,
    /// Whether the header's dirty bit was set by this session, for that reason.
    pub(crate) set_dirty: bool,
    /// Whether `regions` has everything; see [`Meta::know_metadata`].
    knows_metadata: bool,
}

/// How the L2 entries of an image with this header are laid out.
fn layout_of(header: &Header) -> L2Layout {
    L2Layout::new(header.geometry, header.version == Version::V3).with_data_file(header.has_data_file())
}

impl Meta {
    /// The metadata of the image in `storage`; no table is read yet.
    pub(crate) fn new(storage: MetaFile, header: Header, sizes: CacheSizes) -> Self {
        let geo = header.geometry;
        let n_reftable_entries = usize::try_from(geo.reftable_entries(header.reftable.count)).expect("at most 8 MiB");
        Self {
            l1: EntryTable::new("L1 table", header.l1.offset, header.l1.count as usize),
            l2: SliceCache::new("an L2 table", sizes.l2),
            reftable: EntryTable::new("refcount table", header.reftable.offset, n_reftable_entries),
            refblocks: SliceCache::new("a refcount block", sizes.refblocks),
            regions: MetadataRegions::new(&header, geo),
            alloc: AllocState::new(storage.node(), geo),
            releases: Releases::default(),
            shadow: None,
            caches: sizes,
            lazy_refcounts: header.version == Version::V3 && header.compatible.contains(Compatible::LAZY_REFCOUNTS),
            set_dirty: false,
            knows_metadata: false,
            layout: layout_of(&header),
            geo,
            storage,
            header,
        }
    }

    /// Takes over what another version, or counts of another width, change; the header is on disk already.
    pub(crate) fn adopt_header(&mut self) {
        self.geo = self.header.geometry;
        self.layout = layout_of(&self.header);
    }

    /// Loads the chunk of the L1 table with entry `index`.
    ///
    /// # Errors
    /// Beyond those of reading: `Corrupt` when an entry names a table that is known already. Then no entry of the chunk
    /// can be used, as writing through one of them would change what another one maps.
    pub(crate) async fn load_l1(&mut self, index: usize) -> Result<()> {
        let Some(loaded) = self.l1.load(&self.storage, index).await? else { return Ok(()) };
        // Damaged entries name no table; whoever looks at one of them is told so.
        let tables = loaded.filter_map(|i| L1Entry::from_raw(self.l1.entry(i)).decode(self.geo).ok().flatten());
        let added = self.regions.add_tables(tables, Region::L2Table);
        added.inspect_err(|_| self.l1.unload(index))
    }

    /// Loads the chunk of the refcount table with entry `index`; fails as [`Meta::load_l1`].
    pub(crate) async fn load_reftable(&mut self, index: usize) -> Result<()> {
        self.storage.event(DebugEvent::ReftableLoad).await;
        let Some(loaded) = self.reftable.load(&self.storage, index).await? else { return Ok(()) };
        let blocks =
            loaded.filter_map(|i| ReftableEntry::from_raw(self.reftable.entry(i)).decode(self.geo).ok().flatten());
        let added = self.regions.add_tables(blocks, Region::RefcountBlock);
        added.inspect_err(|_| self.reftable.unload(index))
    }

    /// Loads the whole L1 table: 32 MiB at most, of which holes cost no memory.
    pub(crate) async fn load_all_l1(&mut self) -> Result<()> {
        for index in self.l1.chunk_starts() {
            self.load_l1(index).await?;
        }
        Ok(())
    }

    /// Loads the whole refcount table: 8 MiB at most, of which holes cost no memory.
    pub(crate) async fn load_all_reftable(&mut self) -> Result<()> {
        for index in self.reftable.chunk_starts() {
            self.load_reftable(index).await?;
        }
        Ok(())
    }

    /// Sees to it that all metadata is known to `regions` that clusters must not be allocated over, whatever the
    /// refcounts say, and that data must not be written over, whatever the L2 tables say. Done once, before the first
    /// write.
    pub(crate) async fn know_metadata(&mut self) -> Result<()> {
        if self.knows_metadata {
            return Ok(());
        }
        self.load_all_l1().await?;
        self.load_all_reftable().await?;
        let (snapshots, table) = read_snapshot_table(self.storage.node(), &self.header).await?;
        let l1_range = |entries: u32, start: u64| {
            let bytes = u64::from(entries) * 8;
            // No program writes larger ones; one that is must not make the whole file look like metadata.
            (bytes <= L1_BYTES_MAX).then(|| start..start.saturating_add(bytes))
        };
        let tables = snapshots.iter().filter_map(|entry| l1_range(entry.l1_entries, entry.l1_offset.get())).collect();
        self.regions.add_snapshots(table, tables)?;
        self.knows_metadata = true;
        Ok(())
    }

    /// The offset of the slice, and the index within it, of entry `index` of the table at `table`.
    pub(crate) fn slice_of(&self, table: HostOffset, byte_in_table: u64) -> (HostOffset, usize) {
        let slice_bytes = self.l2.slice_bytes() as u64;
        let in_slice = byte_in_table % slice_bytes;
        let offset = HostOffset::new(table.get() + (byte_in_table - in_slice));
        (offset, usize::try_from(in_slice).expect("inside a slice"))
    }

    /// The slot with the L2 slice at `offset`, loaded if need be.
    pub(crate) async fn l2_slot(&mut self, offset: HostOffset) -> Result<usize> {
        if let Some(slot) = self.l2.find(offset) {
            return Ok(slot);
        }
        if !self.l2.has_room() {
            Box::pin(self.write_back()).await?;
        }
        self.storage.event(DebugEvent::L2Load).await;
        self.l2.load(&self.storage, offset).await
    }

    /// The slot with the refcount block slice at `offset`, loaded if need be.
    pub(crate) async fn refblock_slot(&mut self, offset: HostOffset) -> Result<usize> {
        if let Some(slot) = self.refblocks.find(offset) {
            return Ok(slot);
        }
        self.make_refblock_room().await?;
        self.storage.event(DebugEvent::RefblockLoad).await;
        self.refblocks.load(&self.storage, offset).await
    }

    /// Counts may be written at any time, so dirty blocks need nothing else to go first.
    pub(crate) async fn make_refblock_room(&mut self) -> Result<()> {
        if !self.refblocks.has_room() {
            self.refblocks.write_dirty(&self.storage).await?;
        }
        Ok(())
    }
}
