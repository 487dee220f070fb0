//! Internal snapshots. QEMU: block/qcow2-snapshot.c.
//!
//! A snapshot is an L1 table of its own. Every cluster that its tables lead to has one reference more, so a write to the
//! active state finds it shared and goes elsewhere.
//!
//! | module | what it does |
//! |---|---|
//! | [`table`] | reads and writes the snapshot table |
//! | [`refcounts`] | walks the tables of a state, and passes L2 tables on from one state to another |
//! | [`create`], [`apply`], [`delete`] | the three changes |
//! | [`commit`] | makes a change durable and true, by one write |
//! | [`load`] | shows a snapshot in place of the active state |
//! | [`zeros`] | looks for what version 2 of the format does not know |
//!
//! The snapshot table is read when it is needed; nothing of it is kept.

mod apply;
mod commit;
mod create;
mod delete;
mod load;
mod refcounts;
mod table;
mod zeros;

use std::ops::Range;

use qemu_block::driver::IoFuture;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::io::RangeMode;
use qemu_block::manage::{NewSnapshot, SnapshotOps, SnapshotSelector};
use qemu_block::types::SnapshotInfo;
use qemu_util::sync::CoMutexGuard;

use crate::format::snapshot::SnapshotEntry;
use crate::image::Image;
use crate::meta::Meta;
pub(crate) use refcounts::references_in;
pub(crate) use table::{read_snapshot_table, read_snapshots};

/// Bytes by which an entry can become longer when it is written anew: its extra data.
const ENTRY_GROWTH_MAX: u64 = 24;

/// The snapshots of an image, as read from its table.
struct Snapshots {
    entries: Vec<SnapshotEntry>,
    /// The bytes of the image file that the table occupies.
    place: Range<u64>,
}

impl Snapshots {
    async fn read(meta: &Meta) -> Result<Self> {
        let (entries, place) = read_snapshot_table(meta.storage.node(), &meta.header).await?;
        Ok(Self { entries, place })
    }

    /// Bytes of the table once it is written anew, with one more snapshot, at most.
    fn table_bytes_max(&self) -> u64 {
        // Entries of old programs grow by the extra data that they lack.
        let grown = self.entries.len() as u64 * ENTRY_GROWTH_MAX;
        (self.place.end - self.place.start) + grown + SnapshotEntry::LEN_MAX as u64
    }

    /// Index of the snapshot that is meant.
    ///
    /// # Errors
    /// `NotFound`.
    fn find(&self, which: &SnapshotSelector) -> Result<usize> {
        let names: Vec<(String, String)> =
            self.entries.iter().map(|entry| (text_of(&entry.id), text_of(&entry.name))).collect();
        let names = names.iter().map(|(id, name)| (id.as_str(), name.as_str()));
        which.find(names).ok_or_else(|| BlockError::from_errno(libc::ENOENT, "Can't find snapshot"))
    }
}

/// Text of the snapshot table, up to a NUL as the reference has it. Bytes that are not UTF-8 are replaced.
fn text_of(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// A snapshot as the block layer sees it.
pub(crate) fn snapshot_info(entry: &SnapshotEntry) -> SnapshotInfo {
    SnapshotInfo {
        id: text_of(&entry.id),
        name: text_of(&entry.name),
        vm_state_bytes: entry.vm_state_bytes,
        date_seconds: entry.date_seconds,
        date_nanoseconds: entry.date_nanoseconds,
        vm_clock_nanoseconds: entry.vm_clock_nanoseconds,
        icount: entry.icount,
    }
}

impl Image {
    async fn list_snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        self.check_open()?;
        let meta = self.meta.lock().await;
        let snapshots = read_snapshots(meta.storage.node(), &meta.header).await?;
        Ok(snapshots.iter().map(snapshot_info).collect())
    }

    /// Waits until no request is under way, and keeps new ones waiting as long as the future that `change` makes takes.
    /// When it fails the image is as it was.
    async fn change_snapshots<T>(&self, change: impl AsyncFnOnce(&mut Meta) -> Result<T>) -> Result<T> {
        self.check_writable()?;
        let _nobody_else = self.ranges.lock(0..u64::MAX, RangeMode::Exclusive).await;
        let mut meta: CoMutexGuard<'_, Meta> = self.meta.lock().await;
        // Given up halfway, memory would have counts that the header does not lead to.
        let whole = meta.storage.begin_change();
        let changed = change(&mut meta).await;
        if changed.is_err() {
            meta.abandon_shadow().await;
        }
        whole.finish();
        match changed {
            Ok(done) => {
                self.set_size(meta.header.virtual_size);
                Ok(done)
            }
            Err(error) => Err(self.note_failure(&mut meta, error).await),
        }
    }
}

impl SnapshotOps for Image {
    fn list(&self) -> IoFuture<'_, Vec<SnapshotInfo>> {
        Box::pin(self.list_snapshots())
    }

    fn create(&self, new: NewSnapshot) -> IoFuture<'_, SnapshotInfo> {
        Box::pin(self.change_snapshots(async move |meta| meta.create_snapshot(new).await))
    }

    fn apply<'a>(&'a self, which: &'a SnapshotSelector) -> IoFuture<'a, ()> {
        Box::pin(self.change_snapshots(async move |meta| meta.apply_snapshot(which).await))
    }

    fn delete<'a>(&'a self, which: &'a SnapshotSelector) -> IoFuture<'a, ()> {
        Box::pin(self.change_snapshots(async move |meta| meta.delete_snapshot(which).await))
    }

    fn load<'a>(&'a self, which: &'a SnapshotSelector) -> IoFuture<'a, ()> {
        Box::pin(self.load_snapshot(which))
    }
}

/// The error of changes that an image with an external data file cannot take part in: its clusters have no counts.
fn refuse_data_file(meta: &Meta) -> Result<()> {
    use crate::format::features::Incompatible;
    if meta.header.incompatible.contains(Incompatible::DATA_FILE) {
        let text = "qcow2: images with an external data file have no internal snapshots";
        return Err(BlockError::new(ErrorKind::Unsupported, text).with_errno(libc::ENOTSUP));
    }
    Ok(())
}
