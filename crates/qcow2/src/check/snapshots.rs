//! The snapshot table and the L1 tables that it names.

use std::collections::BTreeMap;

use super::Checker;
use super::findings::{Class, Severity, printable};
use super::regions::Region;
use super::tables::L1Use;
use crate::error::{FormatError, TableKind};
use crate::format::header::Version;
use crate::format::snapshot::SnapshotEntry;
use crate::limits::{L1_BYTES_MAX, SNAPSHOT_TABLE_BYTES_MAX, TABLE_CHUNK_BYTES};
use crate::units::HostOffset;

/// Bytes of snapshots' L1 tables that are read at most. Tables that do not overlap each other are a small part of the
/// file; a hostile image can name the same bytes over and over.
const L1_BYTES_TOTAL_MAX: u64 = 4 << 30;

/// L1 tables of snapshots: start and entries, and how many snapshots share them.
type L1Tables = BTreeMap<(HostOffset, u32), u64>;

impl Checker<'_> {
    /// Counts the snapshot table and what it leads to.
    pub(super) async fn count_snapshots(&mut self) {
        let place = self.header.snapshots;
        if place.count == 0 {
            return;
        }
        let mut l1_tables = L1Tables::new();
        let table_len = self.read_snapshot_table(&mut l1_tables).await;
        let mut bytes_left = L1_BYTES_TOTAL_MAX;
        for ((offset, entries), snapshots) in l1_tables {
            let region = Region::table(TableKind::SnapshotL1, offset, u64::from(entries) * 8);
            let Some(left) = bytes_left.checked_sub(region.len) else {
                self.findings.corruption(Class::Directory, || {
                    "ERROR: the L1 tables of the snapshots overlap; not all of them were checked".to_owned()
                });
                self.is_incomplete = true;
                break;
            };
            bytes_left = left;
            self.count_l1(region, L1Use::snapshots(snapshots)).await;
        }
        self.count_region(Region::table(TableKind::Snapshots, place.offset, table_len), 1);
    }

    /// Collects the L1 tables of the snapshots, and returns the snapshot table's length in bytes.
    async fn read_snapshot_table(&mut self, l1_tables: &mut L1Tables) -> u64 {
        let place = self.header.snapshots;
        let mut len = 0u64;
        let mut unread = Vec::new();
        let mut next = place.offset.get();
        for index in 0..place.count {
            let parsed = loop {
                match SnapshotEntry::parse(&unread, index) {
                    Ok(None) => {}
                    other => break other,
                }
                let chunk = self.storage.read_available(next, TABLE_CHUNK_BYTES).await;
                match chunk {
                    Ok(chunk) if !chunk.is_empty() && len <= SNAPSHOT_TABLE_BYTES_MAX => {
                        next += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
                        unread.extend_from_slice(&chunk);
                    }
                    Ok(_) => break Err(FormatError::SnapshotTruncated { index }),
                    Err(error) => {
                        self.findings.unreadable("the snapshot table", &error);
                        return len;
                    }
                }
            };
            match parsed {
                Ok(Some((entry, entry_len))) => {
                    len = len.saturating_add(u64::try_from(entry_len).unwrap_or(u64::MAX));
                    unread.drain(..entry_len);
                    self.check_completeness(&entry, index);
                    self.note_snapshot(&entry, l1_tables);
                }
                Ok(None) => return len,
                Err(error) => {
                    self.is_incomplete = true;
                    self.findings.corruption(Class::Directory, || format!("ERROR {error}"));
                    return len;
                }
            }
        }
        len
    }

    /// Version 3 requires the size of the virtual disk.
    fn check_completeness(&mut self, entry: &SnapshotEntry, index: u32) {
        if self.header.version >= Version::V3 && entry.disk_size.is_none() {
            let word = self.corruption_word();
            let severity = if self.repairs_corruption() { Severity::RepairedCorruption } else { Severity::Corruption };
            self.snapshot_flaws += 1;
            self.findings
                .add(Class::Directory, severity, 1, || format!("{word} snapshot table entry {index} is incomplete"));
        }
    }

    fn note_snapshot(&mut self, entry: &SnapshotEntry, l1_tables: &mut L1Tables) {
        let label = || format!("{} ({})", printable(&entry.id), printable(&entry.name));
        let is_aligned = self.header.geometry.is_aligned(entry.l1_offset);
        // What such a snapshot uses is not counted, and must not be taken for leaked.
        self.is_incomplete |= !is_aligned || u64::from(entry.l1_entries) > L1_BYTES_MAX / 8;
        if !is_aligned {
            let offset = entry.l1_offset.get();
            return self.findings.corruption(Class::Directory, || {
                format!(
                    "ERROR snapshot {} l1_offset={offset:#x}: L1 table is not cluster aligned; snapshot table entry \
                     corrupted",
                    label()
                )
            });
        }
        if u64::from(entry.l1_entries) > L1_BYTES_MAX / 8 {
            return self.findings.corruption(Class::Directory, || {
                format!(
                    "ERROR snapshot {} l1_size={:#x}: L1 table is too large; snapshot table entry corrupted",
                    label(),
                    entry.l1_entries
                )
            });
        }
        *l1_tables.entry((entry.l1_offset, entry.l1_entries)).or_default() += 1;
    }
}
