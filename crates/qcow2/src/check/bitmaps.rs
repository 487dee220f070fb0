//! Persistent bitmaps: their clusters are counted, their contents are not looked at.

use super::Checker;
use super::findings::Class;
use super::regions::Region;
use crate::error::TableKind;
use crate::format::bitmap::{BitmapDirectoryEntry, BitmapTableEntry};
use crate::limits::BITMAP_TABLE_ENTRIES_MAX;
use crate::units::HostOffset;

impl Checker<'_> {
    /// Counts the bitmap directory and what it leads to. QEMU: `qcow2_check_bitmaps_refcounts`.
    pub(super) async fn count_bitmaps(&mut self) {
        let Some(extension) = self.header.bitmaps else { return };
        let (offset, len) = (extension.directory_offset, extension.directory_len);
        self.count_region(Region::table(TableKind::BitmapDirectory, offset, len), 1);
        // The length is bounded by the format, and the read by the file.
        let directory = match self.storage.read_available(offset.get(), len).await {
            Ok(directory) => directory,
            Err(error) => return self.findings.unreadable("the bitmap directory", &error),
        };
        let mut rest = &directory[..];
        for _ in 0..extension.count {
            let Some(entry) = BitmapDirectoryEntry::parse(rest) else {
                self.is_incomplete = true;
                return self.findings.corruption(Class::Directory, || {
                    "ERROR: the bitmap directory does not hold all its entries".to_owned()
                });
            };
            rest = &rest[entry.entry_len..];
            self.count_bitmap(&entry).await;
        }
    }

    async fn count_bitmap(&mut self, entry: &BitmapDirectoryEntry) {
        let geometry = self.header.geometry;
        let offset = entry.table_offset;
        if !geometry.is_aligned(offset) || offset == HostOffset::ZERO || entry.table_entries > BITMAP_TABLE_ENTRIES_MAX
        {
            self.is_incomplete = true;
            return self.findings.corruption(Class::Directory, || {
                format!("ERROR: the bitmap table at offset {:#x} cannot be there", offset.get())
            });
        }
        let region = Region::table(TableKind::BitmapTable, offset, u64::from(entry.table_entries) * 8);
        self.count_region(region, 1);
        for (index, raw) in self.table_entries(region, "a bitmap table").await {
            match BitmapTableEntry::from_raw(raw).decode(geometry) {
                Ok(Some(data)) => self.count_region(Region::data(data, geometry.cluster_size()), 1),
                Ok(None) => {}
                Err(flaw) => self.findings.corruption(Class::Directory, || {
                    format!("ERROR: bitmap table entry {index} at offset {:#x} is {raw:x}: {flaw}", offset.get())
                }),
            }
        }
    }
}
