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
//! A barrier is a flush of the storage node, and of the data file before it if the data is in another one. QEMU keeps
//! dependencies between its two caches instead, in both directions, and lowers counts at once; it can therefore hand out
//! a cluster that the table on disk still refers to.
//!
//! With lazy refcounts, steps 1 and 2 wait until the cache is full or the image is closed. Before the first mapping of
//! which refcounts do not know reaches the disk, the header says "dirty", durably; after a power cut the next writer
//! counts everything anew. The bit is taken back when the refcounts are durable. The barrier of step 3 stays: it is
//! there for the data, too.
//!
//! Steps 1 to 4 hold the metadata lock. The flush of step 5, the longest of all, does not have to (see
//! [`Image::flush_metadata`]): what step 6 may lower is settled before the lock is released, by the
//! [`Mark`] that [`Meta::seal`] sets.
//! Whatever was dropped before the mark was dropped in a table that steps 3 and 4 have written, so step 5 makes that
//! durable; what is dropped while the flush is under way comes after the mark and waits for the next one. Until
//! step 6 the counts stay, so nobody can be given those clusters, whether the flush succeeds, fails or is given up.

use qemu_block::debug::DebugEvent;
use qemu_block::error::Result;

use crate::alloc::Mark;
use crate::format::features::Incompatible;
use crate::format::header::FEATURES_OFFSET;
use crate::image::Image;
use crate::meta::Meta;

impl Meta {
    /// Steps 1 to 4: afterwards no metadata is dirty, but for refcounts that are written late.
    pub(crate) async fn write_back(&mut self) -> Result<()> {
        let storage = self.storage.clone();
        // A second view of the refcounts becomes true by a write of the header, so that it must be there before.
        if self.lazy_refcounts && self.shadow.is_none() {
            self.promise_refcounts().await?;
        } else {
            self.write_refcounts().await?;
        }
        if self.l2.is_dirty() || self.l1.is_dirty() {
            storage.flush().await?;
            storage.event(DebugEvent::L2Update).await;
            self.l2.write_dirty(&storage).await?;
        }
        if self.l1.is_dirty() {
            storage.flush().await?;
            storage.event(DebugEvent::L1Update).await;
            self.l1.write_dirty(&storage).await?;
        }
        Ok(())
    }

    /// Steps 1 and 2.
    async fn write_refcounts(&mut self) -> Result<()> {
        let storage = self.storage.clone();
        if self.refblocks.is_dirty() {
            storage.event(DebugEvent::RefblockUpdatePart).await;
            self.refblocks.write_dirty(&storage).await?;
        }
        if self.reftable.is_dirty() {
            storage.flush().await?;
            storage.event(DebugEvent::RefblockAllocHookup).await;
            self.reftable.write_dirty(&storage).await?;
        }
        Ok(())
    }

    /// Instead of steps 1 and 2: the header says that refcounts are not to be trusted. QEMU: `qcow2_mark_dirty`.
    async fn promise_refcounts(&mut self) -> Result<()> {
        let is_marked = self.header.incompatible.contains(Incompatible::DIRTY);
        if is_marked || !(self.refblocks.is_dirty() || self.reftable.is_dirty()) {
            return Ok(());
        }
        let marked = self.header.incompatible | Incompatible::DIRTY;
        self.storage.commit_header(FEATURES_OFFSET, &marked.bits().to_be_bytes()).await?;
        self.header.incompatible = marked;
        self.set_dirty = true;
        Ok(())
    }

    /// Makes the refcounts durable that are in memory, and takes back what was said about them.
    /// QEMU: `qcow2_mark_clean`.
    pub(crate) async fn keep_promise(&mut self) -> Result<()> {
        if self.refblocks.is_dirty() || self.reftable.is_dirty() {
            self.write_refcounts().await?;
            self.storage.flush().await?;
        }
        if !self.set_dirty {
            return Ok(());
        }
        let clean = self.header.incompatible.difference(Incompatible::DIRTY);
        self.storage.commit_header(FEATURES_OFFSET, &clean.bits().to_be_bytes()).await?;
        self.header.incompatible = clean;
        self.set_dirty = false;
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
        self.flush_nodes().await?;
        self.meta.lock().await.apply_releases(mark).await
    }

    /// As [`Image::flush_metadata`], and the lowered counts are written too: nothing is left to do in memory.
    pub(crate) async fn settle(&self) -> Result<()> {
        self.flush_metadata().await?;
        self.meta.lock().await.keep_promise().await
    }
}
