//! Requests that change the disk: what has to be on disk before they may, and what they mark.

use std::future::Future;
use std::ops::Range;

use qemu_block::error::Result;
use qemu_block::types::PreallocMode;

use super::directory::{Directory, State, is_damage, shown};
use super::ops::check_constraints;
use super::{Bitmaps, Loaded, Phase};
use crate::format::features::Autoclear;
use crate::format::header::FEATURES_OFFSET;
use crate::image::Image;

/// The autoclear features follow the incompatible and the compatible ones, eight bytes each.
const AUTOCLEAR_OFFSET: u64 = FEATURES_OFFSET + 16;

/// Marks a range in the bitmaps that track writes: when it is made, because the request may be given up at any time while
/// its I/O goes on; and when it is dropped, because a bitmap that was added or cleared meanwhile must know of a change
/// that was not complete then.
struct Changing<'a> {
    bitmaps: &'a Bitmaps,
    range: Range<u64>,
}

impl<'a> Changing<'a> {
    fn new(bitmaps: &'a Bitmaps, range: Range<u64>) -> Self {
        bitmaps.mark(&range);
        Self { bitmaps, range }
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.bitmaps.mark(&self.range);
    }
}

impl Bitmaps {
    fn mark(&self, range: &Range<u64>) {
        if self.phase() != Phase::Tracking {
            return;
        }
        for bitmap in self.loaded.lock().values_mut().filter(|bitmap| bitmap.enabled) {
            bitmap.bits.mark(range.clone());
        }
    }
}

/// What to do when the bitmap directory makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnDamage {
    /// Say on disk that the bitmaps are out of date, and go on.
    Drop,
    /// Fail.
    Fail,
}

impl Image {
    /// Does a request that changes the `len` bytes from `offset` on, and marks them in the bitmaps that track writes.
    pub(crate) async fn tracked<T>(
        &self,
        offset: u64,
        len: u64,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if self.bitmaps.phase() == Phase::Unprepared {
            self.check_writable()?;
            Box::pin(self.prepare_bitmaps(OnDamage::Drop)).await?;
        }
        let _changing = Changing::new(&self.bitmaps, offset..offset.saturating_add(len));
        request.await
    }

    /// Sees to it that the disk may change: loads the bitmaps that track writes, and marks them as in use.
    pub(super) async fn prepare_bitmaps(&self, on_damage: OnDamage) -> Result<()> {
        let mut directory = self.bitmaps.directory.lock().await;
        if self.bitmaps.phase() != Phase::Unprepared {
            return Ok(());
        }
        match self.read_directory(&mut directory).await {
            Err(error) if is_damage(&error) && on_damage == OnDamage::Drop => {
                self.drop_bitmaps().await?;
                *directory = Some(Directory::default());
            }
            Err(error) => return Err(error),
            Ok(directory) => {
                self.load_enabled(directory).await?;
                self.note_result(self.mark_in_use(directory).await).await?;
            }
        }
        self.bitmaps.update_phase();
        Ok(())
    }

    async fn load_enabled(&self, directory: &mut Directory) -> Result<()> {
        for entry in &mut directory.entries {
            if entry.state != State::Stored || !entry.is_enabled() {
                continue;
            }
            match self.load(&entry.stored).await {
                Ok(bits) => {
                    self.bitmaps.loaded.lock().insert(entry.id, Loaded { bits, enabled: true });
                    entry.state = State::Live { marked: false };
                }
                Err(error) if is_damage(&error) => entry.state = State::Inconsistent { marked: false },
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says on disk that all bitmaps are out of date. Their clusters leak: nobody can tell which they are.
    async fn drop_bitmaps(&self) -> Result<()> {
        let mut meta = self.meta.lock().await;
        let kept = meta.header.autoclear.difference(Autoclear::BITMAPS);
        meta.storage.commit_header(AUTOCLEAR_OFFSET, &kept.bits().to_be_bytes()).await?;
        meta.header.autoclear = kept;
        meta.header.bitmaps = None;
        Ok(())
    }

    /// Changes the size of the disk, and of all bitmaps. QEMU: `qcow2_truncate_bitmaps_check`,
    /// `bdrv_dirty_bitmap_truncate`.
    ///
    /// Each of them is marked as in use before the size changes, as what is stored is of the wrong size then.
    ///
    /// # Errors
    /// Also when a bitmap is inconsistent, which must be removed first, or when one would become too large.
    pub(crate) async fn truncate_tracked(&self, len: u64, prealloc: PreallocMode) -> Result<()> {
        self.check_writable()?;
        if len != self.size() && self.bitmaps_may_exist().await {
            Box::pin(self.claim_all(len)).await?;
        }
        let done = self.truncate_guest(len, prealloc).await;
        // After a failure some steps may have been taken.
        for bitmap in self.bitmaps.loaded.lock().values_mut() {
            bitmap.bits.resize(self.size());
        }
        done
    }

    async fn bitmaps_may_exist(&self) -> bool {
        !self.bitmaps.loaded.lock().is_empty() || self.meta.lock().await.header.bitmaps.is_some()
    }

    async fn claim_all(&self, len: u64) -> Result<()> {
        self.prepare_bitmaps(OnDamage::Drop).await?;
        let mut directory = self.bitmaps.directory.lock().await;
        let directory = self.read_directory(&mut directory).await?;
        for i in 0..directory.entries.len() {
            directory.entries[i].check_consistent()?;
            let stored = &directory.entries[i].stored;
            check_constraints(self.geo, stored.granularity_bits, stored.name.len(), len).map_err(|error| {
                error.context(format!("Bitmap '{}' doesn't satisfy the constraints", shown(&stored.name)))
            })?;
        }
        for i in 0..directory.entries.len() {
            self.load_live(directory, i).await?;
        }
        self.note_result(self.mark_in_use(directory).await).await
    }

    /// Takes note of a failure to change metadata.
    pub(super) async fn note_result(&self, result: Result<()>) -> Result<()> {
        match result {
            Ok(()) => Ok(()),
            Err(error) => Err(self.note_failure(&mut *self.meta.lock().await, error).await),
        }
    }
}
