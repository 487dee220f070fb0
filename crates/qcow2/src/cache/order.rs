//! The order in which metadata reaches the disk, so that a power cut leaves leaks at worst (rules R13 and R14).
//!
//! | step | written | why it may be written now |
//! |---|---|---|
//! | 1 | refcount blocks | a count that is too high is a leak, and counts are lowered only in step 6 |
//! | 2 | barrier, refcount table | the blocks that it points to are there |
//! | 3 | barrier, L2 tables | the clusters that they point to are counted, and their data is there |
//! | 4 | barrier, L1 table | the L2 tables that it points to are there |
//! | 5 | flush | everything above is durable |
//! | 6 | counts of dropped clusters go down | nothing on disk refers to them any more: they may be used again |
//!
//! A barrier is a flush of the storage node. QEMU keeps dependencies between its two caches instead, in both directions,
//! and lowers counts at once; it can therefore hand out a cluster that the table on disk still refers to.

use qemu_block::error::Result;

use crate::meta::Meta;

impl Meta {
    /// Steps 1 to 4: afterwards no metadata is dirty.
    pub(crate) async fn write_back(&mut self) -> Result<()> {
        let storage = self.storage.clone();
        self.refblocks.write_dirty(&storage).await?;
        if self.reftable.is_dirty() {
            storage.flush().await?;
            self.reftable.write_dirty(&storage).await?;
        }
        if self.l2.is_dirty() || self.l1.is_dirty() {
            storage.flush().await?;
            self.l2.write_dirty(&storage).await?;
        }
        if self.l1.is_dirty() {
            storage.flush().await?;
            self.l1.write_dirty(&storage).await?;
        }
        Ok(())
    }

    /// Steps 1 to 6: everything linked so far is durable, and what was dropped before can be allocated again.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        self.write_back().await?;
        self.storage.flush().await?;
        self.apply_releases().await
    }

    /// As [`Meta::flush`], and the lowered counts are written too: nothing is left to do in memory.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        self.flush().await?;
        if self.refblocks.is_dirty() {
            self.write_back().await?;
            self.storage.flush().await?;
        }
        Ok(())
    }
}
