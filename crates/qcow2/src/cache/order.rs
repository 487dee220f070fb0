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
//!
//! Steps 1 to 4 hold the metadata lock. The flush of step 5, the longest of all, does not have to (see
//! [`Image::flush_metadata`]): what step 6 may lower is settled before the lock is released, by the
//! [`Mark`] that [`Meta::seal`] sets.
//! Whatever was dropped before the mark was dropped in a table that steps 3 and 4 have written, so step 5 makes that
//! durable; what is dropped while the flush is under way comes after the mark and waits for the next one. Until
//! step 6 the counts stay, so nobody can be given those clusters, whether the flush succeeds, fails or is given up.

use qemu_block::error::Result;

use crate::alloc::Mark;
use crate::image::Image;
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

    /// Steps 1 to 4; the mark separates what was dropped in the tables just written from what will be dropped later.
    async fn seal(&mut self) -> Result<Mark> {
        self.write_back().await?;
        Ok(self.releases.seal())
    }

    /// Steps 1 to 6 for those who hold the lock: everything linked so far is durable, and what was dropped before can
    /// be allocated again.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        let mark = self.seal().await?;
        self.storage.flush().await?;
        self.apply_releases(mark).await
    }
}

impl Image {
    /// As [`Meta::flush`], without the metadata lock while the disk makes things durable.
    pub(crate) async fn flush_metadata(&self) -> Result<()> {
        let mark = self.meta.lock().await.seal().await?;
        self.storage.flush().await?;
        self.meta.lock().await.apply_releases(mark).await
    }

    /// As [`Image::flush_metadata`], and the lowered counts are written too: nothing is left to do in memory.
    pub(crate) async fn settle(&self) -> Result<()> {
        self.flush_metadata().await?;
        let lowered = {
            let mut meta = self.meta.lock().await;
            let lowered = meta.refblocks.is_dirty();
            if lowered {
                meta.write_back().await?;
            }
            lowered
        };
        if lowered { self.storage.flush().await } else { Ok(()) }
    }
}
