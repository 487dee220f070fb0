//! Replacing the header of an open image as a whole. QEMU: `qcow2_update_header` (block/qcow2.c).
//!
//! Single fields of fixed places, such as that of a table, are written by [`MetaFile::commit_header`]; whatever changes
//! extensions, the version or the backing file name comes here. What this program does not know, fields after ours,
//! feature bits and extensions, stays as it is.
//!
//! [`MetaFile::commit_header`]: crate::cache::file::MetaFile::commit_header

use qemu_block::error::Result;

use crate::error::FormatError;
use crate::format::extension::MAGIC_FEATURE_NAMES;
use crate::format::header::Header;
use crate::format::transition;
use crate::meta::Meta;

impl Meta {
    /// Changes the header, on disk and in memory, and makes that durable. What the new one names must be durable before.
    ///
    /// # Errors
    /// When the changed header does not fit into a cluster: then nothing was changed. If I/O fails, or the future is
    /// dropped, nobody knows what the header says, and the image is poisoned.
    pub(crate) async fn rewrite_header(&mut self, change: impl FnOnce(&mut Header)) -> Result<()> {
        let mut new = self.header.clone();
        change(&mut new);
        new.reparse_extensions()?;
        let cluster_len = self.geo.cluster_size().min(self.storage.len());
        let cluster_len = usize::try_from(cluster_len).expect("at most a cluster");
        let old = self.storage.read_bytes(0, cluster_len).await?;
        let writes = match transition::writes(&old, &new) {
            Err(FormatError::HeaderNoSpace { .. }) => {
                // The names are a courtesy to other programs; nothing else is.
                new.extensions.retain(|extension| extension.magic != MAGIC_FEATURE_NAMES);
                transition::writes(&old, &new)
            }
            other => other,
        }?;
        let change = self.storage.begin_change();
        for write in writes {
            self.storage.commit_header(write.offset, &write.data).await?;
        }
        change.finish();
        self.header = new;
        Ok(())
    }
}
