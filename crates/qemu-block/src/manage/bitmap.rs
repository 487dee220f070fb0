//! Persistent dirty bitmaps: which parts of a disk were written since some moment.

use crate::bitmap::DirtyBitmap;
use crate::driver::IoFuture;

/// Persistent dirty bitmaps of an open image. QEMU: `bdrv_*_dirty_bitmap`, `qmp_block_dirty_bitmap_*`.
///
/// Changes are kept in memory and stored when the image is closed, except that what is removed is gone at once. Until
/// then the stored bitmaps are marked as in use, so that nobody takes an old one for the present one.
pub trait BitmapOps: Send + Sync {
    /// Whether this image can hold bitmaps at all; an old version of its format may not. QEMU:
    /// `bdrv_supports_persistent_dirty_bitmap`.
    fn is_supported(&self) -> bool;

    /// All bitmaps in the order of the image's directory.
    fn list(&self) -> IoFuture<'_, Vec<BitmapInfo>>;

    /// Adds an empty bitmap.
    ///
    /// # Errors
    /// When one of that name exists, or the image cannot hold it.
    fn add(&self, new: NewBitmap) -> IoFuture<'_, ()>;

    /// Removes a bitmap, even an inconsistent one.
    ///
    /// # Errors
    /// `NotFound` when there is none of that name; so for all methods below.
    fn remove<'a>(&'a self, name: &'a str) -> IoFuture<'a, ()>;

    /// Makes a bitmap empty.
    fn clear<'a>(&'a self, name: &'a str) -> IoFuture<'a, ()>;

    /// Lets a bitmap record writes, or not.
    fn set_enabled<'a>(&'a self, name: &'a str, enabled: bool) -> IoFuture<'a, ()>;

    /// Adds to a bitmap everything that `source` marks, which may come from another image of the same size.
    fn merge<'a>(&'a self, name: &'a str, source: &'a DirtyBitmap) -> IoFuture<'a, ()>;

    /// What a bitmap marks.
    fn content<'a>(&'a self, name: &'a str) -> IoFuture<'a, DirtyBitmap>;
}

/// A bitmap to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBitmap {
    /// Its name, unique within the image.
    pub name: String,
    /// Bytes that one bit stands for, a power of two; the default of the format if none is given.
    pub granularity: Option<u64>,
    /// Whether it records writes from now on.
    pub enabled: bool,
}

/// One bitmap, without its content. QEMU: `Qcow2BitmapInfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitmapInfo {
    /// Its name.
    pub name: String,
    /// Bytes that one bit stands for.
    pub granularity: u64,
    /// Whether it records writes.
    pub enabled: bool,
    /// Whether it was in use by somebody who did not store it, so that what it says cannot be relied on.
    pub inconsistent: bool,
}
