//! What users do with bitmaps: [`BitmapOps`]. QEMU: `qmp_block_dirty_bitmap_*` (block/monitor/bitmap-qmp-cmds.c).

use qemu_block::bitmap::DirtyBitmap;
use qemu_block::driver::IoFuture;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::manage::{BitmapInfo, BitmapOps, NewBitmap};

use super::Loaded;
use super::directory::{Directory, State, shown_text};
use super::store::When;
use super::track::OnDamage;
use crate::format::bitmap::{BitmapDirectoryEntry, FLAG_AUTO, KIND_DIRTY_TRACKING};
use crate::format::header::Version;
use crate::image::Image;
use crate::limits::{
    BITMAP_BYTES_MAX, BITMAP_DIRECTORY_BYTES_MAX, BITMAP_GRANULARITY_BITS, BITMAP_NAME_BYTES_MAX, BITMAPS_MAX,
};
use crate::units::{Geometry, HostOffset};

/// The grain of a bitmap for which none is asked for is a cluster, within these bounds, in bytes. QEMU:
/// `bdrv_get_default_bitmap_granularity`.
const DEFAULT_GRANULARITY: std::ops::RangeInclusive<u64> = 4096..=65536;

impl BitmapOps for Image {
    fn is_supported(&self) -> bool {
        self.version() >= Version::V3
    }

    fn list(&self) -> IoFuture<'_, Vec<BitmapInfo>> {
        Box::pin(async {
            self.check_open()?;
            let mut directory = self.bitmaps.directory.lock().await;
            let directory = self.read_directory(&mut directory).await?;
            Ok(directory.entries.iter().map(super::directory::Entry::info).collect())
        })
    }

    fn add(&self, new: NewBitmap) -> IoFuture<'_, ()> {
        Box::pin(self.add_bitmap(new))
    }

    fn remove<'a>(&'a self, name: &'a str) -> IoFuture<'a, ()> {
        Box::pin(self.remove_bitmap(name))
    }

    fn clear<'a>(&'a self, name: &'a str) -> IoFuture<'a, ()> {
        Box::pin(self.change_live(name, |_, bitmap| {
            bitmap.bits.clear();
            Ok(())
        }))
    }

    fn set_enabled<'a>(&'a self, name: &'a str, enabled: bool) -> IoFuture<'a, ()> {
        Box::pin(self.change_live(name, move |stored, bitmap| {
            bitmap.enabled = enabled;
            stored.flags = if enabled { FLAG_AUTO } else { 0 };
            Ok(())
        }))
    }

    fn merge<'a>(&'a self, name: &'a str, source: &'a DirtyBitmap) -> IoFuture<'a, ()> {
        Box::pin(self.change_live(name, |_, bitmap| {
            let (to, from) = (bitmap.bits.size(), source.size());
            if to != from {
                let text = format!(
                    "Bitmaps are of different sizes (destination size is {to}, source size is {from}) and can't be merged"
                );
                return Err(BlockError::new(ErrorKind::InvalidArgument, text));
            }
            bitmap.bits.merge(source);
            Ok(())
        }))
    }

    fn content<'a>(&'a self, name: &'a str) -> IoFuture<'a, DirtyBitmap> {
        Box::pin(async move {
            self.check_open()?;
            let mut directory = self.bitmaps.directory.lock().await;
            let directory = self.read_directory(&mut directory).await?;
            let entry = &directory.entries[directory.find(name)?];
            entry.check_consistent()?;
            if let Some(bitmap) = self.bitmaps.loaded.lock().get(&entry.id) {
                return Ok(bitmap.bits.clone());
            }
            self.load(&entry.stored).await
        })
    }
}

impl Image {
    /// The new bitmap exists in memory only until the image is closed.
    async fn add_bitmap(&self, new: NewBitmap) -> Result<()> {
        self.check_writable()?;
        self.prepare_bitmaps(OnDamage::Fail).await?;
        if new.name.is_empty() {
            return Err(BlockError::new(ErrorKind::InvalidArgument, "Bitmap name cannot be empty"));
        }
        let default = self.geo.cluster_size().clamp(*DEFAULT_GRANULARITY.start(), *DEFAULT_GRANULARITY.end());
        let granularity = new.granularity.unwrap_or(default);
        if granularity < 512 || !granularity.is_power_of_two() {
            let text = "Granularity must be power of 2 and at least 512";
            return Err(BlockError::new(ErrorKind::InvalidArgument, text));
        }
        let mut directory = self.bitmaps.directory.lock().await;
        let directory = self.read_directory(&mut directory).await?;
        if directory.find(&new.name).is_ok() {
            let text = format!("Bitmap already exists: {}", shown_text(&new.name));
            return Err(BlockError::new(ErrorKind::InvalidArgument, text));
        }
        let granularity_bits = u8::try_from(granularity.trailing_zeros()).expect("less than 64");
        self.check_can_store(directory, &new.name, granularity_bits).map_err(|error| {
            let name = shown_text(&new.name);
            error.context(format!("Can't make bitmap '{name}' persistent in '{}'", self.filename))
        })?;
        let stored = BitmapDirectoryEntry {
            table_offset: HostOffset::ZERO,
            table_entries: 0,
            flags: if new.enabled { FLAG_AUTO } else { 0 },
            kind: KIND_DIRTY_TRACKING,
            granularity_bits,
            extra_len: 0,
            entry_len: BitmapDirectoryEntry::len_for(new.name.as_bytes()),
            name: new.name.into_bytes(),
        };
        let id = directory.push(stored, None, State::Live { marked: true });
        let bits = DirtyBitmap::new(self.size(), u32::from(granularity_bits));
        self.bitmaps.loaded.lock().insert(id, Loaded { bits, enabled: new.enabled });
        self.bitmaps.update_phase();
        Ok(())
    }

    fn check_can_store(&self, directory: &Directory, name: &str, granularity_bits: u8) -> Result<()> {
        let unsupported = |text: &str| Err(BlockError::new(ErrorKind::Unsupported, text));
        if self.version() == Version::V2 {
            return unsupported("Cannot store dirty bitmaps in qcow2 v2 files");
        }
        check_constraints(self.geo, granularity_bits, name.len(), self.size())?;
        if directory.entries.len() as u64 >= u64::from(BITMAPS_MAX) {
            return unsupported("Maximum number of persistent bitmaps is already reached");
        }
        let lens = directory.entries.iter().map(|entry| entry.stored.entry_len as u64);
        let len = lens.sum::<u64>() + BitmapDirectoryEntry::len_for(name.as_bytes()) as u64;
        if len > BITMAP_DIRECTORY_BYTES_MAX {
            return unsupported("Not enough space in the bitmap directory");
        }
        Ok(())
    }

    /// What is removed is gone from the disk when this completes, because nobody keeps it up to date any more.
    async fn remove_bitmap(&self, name: &str) -> Result<()> {
        self.check_writable()?;
        self.prepare_bitmaps(OnDamage::Fail).await?;
        let mut directory = self.bitmaps.directory.lock().await;
        let directory = self.read_directory(&mut directory).await?;
        let index = directory.find(name)?;
        let removed = directory.entries.remove(index);
        if removed.place.is_some() {
            let written = self.write_directory(directory, When::Now, Some(&removed.stored)).await;
            if let Err(error) = written {
                directory.entries.insert(index, removed);
                return Err(error);
            }
        }
        self.bitmaps.loaded.lock().remove(&removed.id);
        self.bitmaps.update_phase();
        Ok(())
    }

    /// Changes a bitmap in memory, which is marked as in use on disk before.
    async fn change_live(
        &self,
        name: &str,
        change: impl FnOnce(&mut BitmapDirectoryEntry, &mut Loaded) -> Result<()> + Send,
    ) -> Result<()> {
        self.check_writable()?;
        self.prepare_bitmaps(OnDamage::Fail).await?;
        let mut directory = self.bitmaps.directory.lock().await;
        let directory = self.read_directory(&mut directory).await?;
        let index = directory.find(name)?;
        directory.entries[index].check_consistent()?;
        self.load_live(directory, index).await?;
        self.note_result(self.mark_in_use(directory).await).await?;
        let entry = &mut directory.entries[index];
        let changed = match self.bitmaps.loaded.lock().get_mut(&entry.id) {
            Some(bitmap) => change(&mut entry.stored, bitmap),
            None => Err(BlockError::new(ErrorKind::Corrupt, "the bitmap is not in memory")),
        };
        self.bitmaps.update_phase();
        changed
    }

    /// Sees to it that what is in memory of a consistent bitmap is right.
    pub(super) async fn load_live(&self, directory: &mut Directory, index: usize) -> Result<()> {
        let entry = &mut directory.entries[index];
        if entry.is_live() {
            return Ok(());
        }
        let bits = self.load(&entry.stored).await?;
        self.bitmaps.loaded.lock().insert(entry.id, Loaded { bits, enabled: entry.is_enabled() });
        entry.state = State::Live { marked: false };
        Ok(())
    }
}

/// Fails when an image cannot hold a bitmap like that of a disk of `size` bytes. QEMU: `check_constraints_on_bitmap`.
pub(super) fn check_constraints(geo: Geometry, granularity_bits: u8, name_len: usize, size: u64) -> Result<()> {
    let invalid = |text: String| Err(BlockError::new(ErrorKind::InvalidArgument, text));
    if granularity_bits > *BITMAP_GRANULARITY_BITS.end() {
        return invalid(format!("Granularity exceeds maximum ({} bytes)", 1_u64 << BITMAP_GRANULARITY_BITS.end()));
    }
    if granularity_bits < *BITMAP_GRANULARITY_BITS.start() {
        let min = 1_u64 << BITMAP_GRANULARITY_BITS.start();
        return invalid(format!("Granularity is under minimum ({min} bytes)"));
    }
    let n_bytes = size.div_ceil(1 << granularity_bits).div_ceil(8);
    if n_bytes.div_ceil(geo.cluster_size()).saturating_mul(geo.cluster_size()) > BITMAP_BYTES_MAX {
        return invalid("Too much space will be occupied by the bitmap. Use larger granularity".to_owned());
    }
    if n_bytes == 0 {
        return invalid("the disk has no bytes, and a bitmap of no bits cannot be stored".to_owned());
    }
    if name_len > BITMAP_NAME_BYTES_MAX {
        return invalid(format!("Name length exceeds maximum ({BITMAP_NAME_BYTES_MAX} characters)"));
    }
    Ok(())
}
