//! What a stranger's image says about itself, without opening it: references to other files, features that nobody knows,
//! data that is not there.
//!
//! Opening an image refuses what it cannot use, with the first reason that it finds. Whoever has to decide about images
//! wants to know everything, about images that cannot be opened, too. Nothing that the image names is followed.

use std::collections::HashSet;

use qemu_block::error::Result;
use qemu_block::node::Node;
use qemu_util::units::MIB;

use crate::format::features::{Autoclear, Compatible, Incompatible};
use crate::format::header::{FEATURES_OFFSET, Header, V2_BYTES, Version};
use crate::format::l1::L1Entry;
use crate::format::l2::{L2Entry, L2Layout};
use crate::limits::{HOST_OFFSET_END, TABLE_CHUNK_BYTES};
use crate::snapshots::read_snapshots;
use crate::units::HostOffset;

/// Bytes of tables that are looked at. A terabyte of data with the usual clusters has 128 MiB of them.
const TABLE_BYTES_MAX: u64 = 256 * MIB;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Size of the virtual disk in bytes, as the header says.
    pub virtual_size: u64,
    /// The backing file as the image names it; bytes that are no text are replaced.
    pub backing_file: Option<String>,
    /// The backing file's format as the image names it.
    pub backing_format: Option<String>,
    /// Whether guest data is in another file.
    pub has_data_file: bool,
    /// That file as the image names it.
    pub data_file: Option<String>,
    /// Features that must be known and are not.
    pub unknown_incompatible: u64,
    /// Features that may be ignored and are not known.
    pub unknown_compatible: u64,
    /// Features that are cleared before the image is written to.
    pub unknown_autoclear: u64,
    /// The image was not closed.
    pub dirty: bool,
    /// The image says of itself that its metadata is damaged.
    pub corrupt: bool,
    /// Guest data is encrypted.
    pub encrypted: bool,
    /// Internal snapshots.
    pub snapshots: u32,
    /// How long the file has to be for what its tables refer to, in bytes.
    pub needed_len: u64,
    /// Whether all tables were looked at. Those of very large images are not.
    pub complete: bool,
    /// Why the image cannot be used, whatever else is the matter.
    pub flaw: Option<String>,
}

/// Looks at the qcow2 image in `storage`. A file that only begins like one is one with a flaw.
///
/// # Errors
/// Reading failed.
pub async fn inspect(storage: &Node) -> Result<Inspection> {
    let mut found = Inspection::default();
    let start = read_start(storage, V2_BYTES as u64).await?;
    let wanted = match Header::wanted_len(&start) {
        Ok(wanted) => wanted,
        Err(error) => return Ok(Inspection { flaw: Some(error.to_string()), ..found }),
    };
    let mut first_cluster = read_start(storage, wanted).await?;
    found.take_unknown_features(&mut first_cluster);
    match Header::parse(&first_cluster, storage.len()) {
        Ok(header) => found.look_at(storage, &header).await?,
        Err(error) => found.flaw = Some(error.to_string()),
    }
    Ok(found)
}

/// The first `len` bytes of the file, or all of it if it is shorter.
async fn read_start(storage: &Node, len: u64) -> Result<Vec<u8>> {
    let len = usize::try_from(len.min(storage.len())).unwrap_or(0);
    Ok(storage.read_bytes(0, len).await?.to_vec())
}

impl Inspection {
    /// Notes the incompatible features that we do not know, and clears them, so that the rest can be looked at.
    fn take_unknown_features(&mut self, first_cluster: &mut [u8]) {
        let is_new = first_cluster.get(4..8) != Some(&[0, 0, 0, 2]);
        let at = usize::try_from(FEATURES_OFFSET).unwrap_or(usize::MAX);
        let word = at.checked_add(8).and_then(|end| first_cluster.get_mut(at..end)).filter(|_| is_new);
        let Some(word) = word.and_then(|word| <&mut [u8; 8]>::try_from(word).ok()) else { return };
        let features = Incompatible::from_bits_retain(u64::from_be_bytes(*word));
        self.unknown_incompatible = features.difference(Incompatible::KNOWN).bits();
        *word = features.intersection(Incompatible::KNOWN).bits().to_be_bytes();
    }

    async fn look_at(&mut self, storage: &Node, header: &Header) -> Result<()> {
        self.virtual_size = header.virtual_size;
        self.backing_file = header.backing_name.as_deref().map(|name| String::from_utf8_lossy(name).into_owned());
        self.backing_format = header.backing_format();
        self.has_data_file = header.has_data_file();
        self.data_file = header.data_file_name().filter(|name| !name.is_empty());
        self.unknown_compatible = header.compatible.difference(Compatible::LAZY_REFCOUNTS).bits();
        self.unknown_autoclear = header.autoclear.difference(Autoclear::MAINTAINED).bits();
        self.dirty = header.incompatible.contains(Incompatible::DIRTY);
        self.corrupt = header.incompatible.contains(Incompatible::CORRUPT);
        self.encrypted = header.encryption.is_some();
        self.snapshots = header.snapshots.count;
        let mut walk = Walk::new(storage, header);
        if let Err(error) = header.check_file_len(storage.len()) {
            self.flaw = Some(error.to_string());
        }
        walk.header().await?;
        self.needed_len = walk.needed_len;
        self.complete = walk.budget != 0;
        self.flaw = self.flaw.take().or(walk.flaw);
        Ok(())
    }
}

/// The way through the tables, each of which is looked at once.
struct Walk<'a> {
    storage: &'a Node,
    header: &'a Header,
    layout: L2Layout,
    seen: HashSet<(u64, u64)>,
    /// Bytes of tables that may still be read.
    budget: u64,
    needed_len: u64,
    flaw: Option<String>,
}

impl<'a> Walk<'a> {
    fn new(storage: &'a Node, header: &'a Header) -> Self {
        let has_zeros = header.version >= Version::V3;
        let layout = L2Layout::new(header.geometry, has_zeros).with_data_file(header.has_data_file());
        let (seen, budget, needed_len) = (HashSet::new(), TABLE_BYTES_MAX, header.geometry.cluster_size());
        // A file that is shorter than its first cluster may still be whole: small images are not padded.
        let needed_len = needed_len.min(storage.len());
        Self { storage, header, layout, seen, budget, needed_len, flaw: None }
    }

    async fn header(&mut self) -> Result<()> {
        let Header { l1, reftable, snapshots, .. } = self.header;
        let cluster_size = self.header.geometry.cluster_size();
        let reftable_len = u64::from(reftable.count).saturating_mul(cluster_size);
        let mut at = 0;
        while let Some(blocks) = self.numbers(reftable.offset, reftable_len, &mut at).await? {
            blocks.into_iter().for_each(|block| self.need(HostOffset::new(block & !0x1ff), cluster_size));
        }
        self.l1(l1.offset, l1.count).await?;
        if snapshots.count != 0 {
            // Entries have no fixed length, so this is the least that there must be.
            self.need(snapshots.offset, u64::from(snapshots.count).saturating_mul(40));
            match read_snapshots(self.storage, self.header).await {
                Ok(entries) => {
                    for entry in entries {
                        self.l1(entry.l1_offset, entry.l1_entries).await?;
                    }
                }
                Err(error) => self.flaw = Some(error.chain()),
            }
        }
        Ok(())
    }

    async fn l1(&mut self, offset: HostOffset, entries: u32) -> Result<()> {
        let mut at = 0;
        while let Some(tables) = self.numbers(offset, u64::from(entries).saturating_mul(8), &mut at).await? {
            for raw in tables {
                self.l2(L1Entry::from_raw(raw).offset_bits()).await?;
            }
        }
        Ok(())
    }

    async fn l2(&mut self, offset: HostOffset) -> Result<()> {
        let cluster_size = self.header.geometry.cluster_size();
        let Some(table) = self.table(offset, cluster_size).await? else { return Ok(()) };
        let layout = self.layout;
        let entries: Vec<L2Entry> = layout.entries(&table).filter(|entry| *entry != L2Entry::UNALLOCATED).collect();
        if self.header.has_data_file() {
            // What they refer to is in the other file, which is not looked at.
            return Ok(());
        }
        for entry in entries {
            if entry.is_compressed() {
                let extent = entry.compressed_extent(layout);
                // The last sector may be cut off: data is not padded.
                self.need(extent.host, extent.len_max.saturating_sub(511));
            } else if entry.offset_bits() != HostOffset::ZERO {
                // So may the last cluster.
                self.need(entry.offset_bits(), 1);
            }
        }
        Ok(())
    }

    /// Notes that the file has to have these bytes.
    fn need(&mut self, offset: HostOffset, len: u64) {
        self.needed_len = self.needed_len.max(offset.get().saturating_add(len).min(HOST_OFFSET_END));
    }

    /// The numbers that are not zero in the next piece of a table, which begins `at` bytes into it; none at its end, and
    /// where it goes on as another one did before.
    async fn numbers(&mut self, table: HostOffset, len: u64, at: &mut u64) -> Result<Option<Vec<u64>>> {
        let part = TABLE_CHUNK_BYTES.min(len.saturating_sub(*at));
        let Some(offset) = table.checked_add(*at).filter(|_| part != 0) else { return Ok(None) };
        *at = at.saturating_add(part);
        let Some(piece) = self.table(offset, part).await? else { return Ok(None) };
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_be_bytes);
        Ok(Some(piece.chunks_exact(8).map(number).filter(|number| *number != 0).collect()))
    }

    /// A table, as far as the file has it; none if it was looked at before, or there were too many already.
    async fn table(&mut self, offset: HostOffset, len: u64) -> Result<Option<Vec<u8>>> {
        if offset == HostOffset::ZERO || self.budget == 0 || !self.seen.insert((offset.get(), len)) {
            return Ok(None);
        }
        self.need(offset, len);
        self.budget = self.budget.saturating_sub(len);
        let there = len.min(self.storage.len().saturating_sub(offset.get()));
        let there = usize::try_from(there).unwrap_or(0);
        if there == 0 {
            return Ok(None);
        }
        Ok(Some(self.storage.read_bytes(offset.get(), there).await?.to_vec()))
    }
}
