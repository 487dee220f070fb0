//! Writing into tables that are where they should be.

use qemu_block::error::Result;
use qemu_block::types::CheckFixes;
use qemu_util::buf::IoBuf;

use crate::cache::file::MetaFile;
use crate::check::tables::repaired_entry;
use crate::format::l2::L2Layout;
use crate::limits::TABLE_CHUNK_BYTES;
use crate::units::HostOffset;

/// Bytes of a table entry.
const ENTRY_BYTES: u64 = 8;

/// Writes repairs. Whoever uses it has made sure that what it writes to is that table and nothing else.
pub(crate) struct Fixer<'a> {
    file: &'a MetaFile,
    /// What is repaired.
    pub(crate) fixes: CheckFixes,
}

impl<'a> Fixer<'a> {
    /// A fixer of the image in `file`.
    pub(super) fn new(file: &'a MetaFile, fixes: CheckFixes) -> Self {
        Self { file, fixes }
    }

    /// Writes a refcount block.
    pub(crate) async fn write(&self, offset: HostOffset, block: IoBuf) -> Result<()> {
        self.file.write(offset.get(), block).await
    }

    /// Writes entries of a table: indices in ascending order, and values.
    pub(crate) async fn write_entries(&self, table: HostOffset, entries: &[(u64, u64)]) -> Result<()> {
        let mut rest = entries;
        while let Some((first, _)) = rest.first() {
            // Neighbourhoods are written at once, with what is between the entries.
            let end = first.saturating_add(TABLE_CHUNK_BYTES / ENTRY_BYTES);
            let (near, later) = rest.split_at(rest.partition_point(|(index, _)| *index < end));
            let last = near.last().map_or(*first, |(index, _)| *index);
            let len = usize::try_from((last - first + 1) * ENTRY_BYTES).expect("a chunk");
            let start = table.get().saturating_add(first.saturating_mul(ENTRY_BYTES));
            let mut bytes = self.file.read_bytes(start, len).await?;
            let fields = bytes.as_chunks_mut::<8>().0;
            for (index, value) in near {
                let field = usize::try_from(index - first).expect("inside the chunk");
                fields[field] = value.to_be_bytes();
            }
            self.file.write(start, bytes).await?;
            rest = later;
        }
        Ok(())
    }

    /// Replaces the entries of an L2 table that are impossible.
    pub(super) async fn fix_l2_table(&self, table: HostOffset, layout: L2Layout) -> Result<()> {
        let mut bytes = self.file.read_bytes(table.get(), layout.geometry().cluster_len()).await?;
        for field in bytes.chunks_exact_mut(layout.entry_bytes()) {
            let fixed = layout.load(field).and_then(|entry| repaired_entry(entry, layout));
            if let Some(fixed) = fixed {
                layout.store(field, fixed);
            }
        }
        self.file.write(table.get(), bytes).await
    }
}
