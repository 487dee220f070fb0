//! Whether snapshots have what version 2 of the format does not know: clusters that read as zeros by a flag.

use qemu_block::error::Result;

use super::Snapshots;
use super::refcounts::tables_of;
use crate::error::TableKind;
use crate::format::l2::L2Mapping;
use crate::meta::Meta;

impl Meta {
    /// Whether a table of a snapshot has such a cluster. Nothing of the tables is dirty.
    ///
    /// # Errors
    /// When a table cannot be read, or is damaged.
    pub(crate) async fn snapshots_have_zeros(&self) -> Result<bool> {
        for entry in Snapshots::read(self).await?.entries {
            let l1 = self.snapshot_l1(&entry).await?;
            for at in tables_of(&l1, TableKind::SnapshotL1, self.layout)?.into_keys() {
                let table = self.read_l2_table(at).await?;
                for (index, entry) in self.layout.entries(&table).enumerate() {
                    let mapping = entry.decode(self.layout);
                    let mapping = mapping.map_err(|flaw| flaw.at(TableKind::L2, at.get(), index, entry.raw()))?;
                    if matches!(mapping, L2Mapping::Zero { .. }) {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }
}
