//! The bitmap directory in memory: what each bitmap's state is, here and on disk.

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::manage::BitmapInfo;
use qemu_util::buf::IoBuf;

use crate::format::bitmap::{BitmapDirectoryEntry, BitmapsExtension, FLAG_AUTO, FLAG_IN_USE};
use crate::image::Image;
use crate::meta::Meta;
use crate::units::HostOffset;

/// Where the flags are in a directory entry.
const FLAGS_OFFSET: usize = 12;
/// Characters of a name that a message shows.
const SHOWN_CHARS_MAX: usize = 200;

/// Names a bitmap as long as the image is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BitmapId(u64);

/// All bitmaps of an image, in order.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) entries: Vec<Entry>,
    n_ids: u64,
}

/// One bitmap.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: BitmapId,
    /// The entry as the directory has it, or will have it: of a bitmap that is in memory the table is the one that will
    /// be replaced.
    pub(super) stored: BitmapDirectoryEntry,
    /// Where the entry is in the image file; none if the bitmap was never stored.
    pub(super) place: Option<HostOffset>,
    pub(super) state: State,
}

/// What is known of a bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// What is on disk is right; it may or may not have been looked at.
    Stored,
    /// What is in memory is right.
    Live {
        /// Whether the disk says, durably, that it is in use, or does not have it.
        marked: bool,
    },
    /// Nobody knows what is right.
    Inconsistent {
        /// Whether the disk says so, durably.
        marked: bool,
    },
}

impl Entry {
    pub(super) fn is_live(&self) -> bool {
        matches!(self.state, State::Live { .. })
    }

    pub(super) fn is_inconsistent(&self) -> bool {
        matches!(self.state, State::Inconsistent { .. })
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.stored.flags & FLAG_AUTO != 0
    }

    /// Whether its mark has to be written before the disk may change.
    fn lacks_mark(&self) -> bool {
        matches!(self.state, State::Live { marked: false } | State::Inconsistent { marked: false })
    }

    fn set_marked(&mut self) {
        match &mut self.state {
            State::Stored => {}
            State::Live { marked } | State::Inconsistent { marked } => *marked = true,
        }
    }

    /// Fails when the bitmap cannot be used.
    pub(super) fn check_consistent(&self) -> Result<()> {
        if !self.is_inconsistent() {
            return Ok(());
        }
        let text = format!(
            "Bitmap '{}' is inconsistent and cannot be used\n\
             Try block-dirty-bitmap-remove to delete this bitmap from disk",
            shown(&self.stored.name)
        );
        Err(BlockError::new(ErrorKind::Unsupported, text))
    }

    pub(super) fn info(&self) -> BitmapInfo {
        BitmapInfo {
            name: String::from_utf8_lossy(&self.stored.name).into_owned(),
            granularity: 1 << self.stored.granularity_bits,
            enabled: self.is_enabled(),
            inconsistent: self.is_inconsistent(),
        }
    }
}

impl Directory {
    /// Adds a bitmap to the end.
    pub(super) fn push(&mut self, stored: BitmapDirectoryEntry, place: Option<HostOffset>, state: State) -> BitmapId {
        let id = BitmapId(self.n_ids);
        self.n_ids += 1;
        self.entries.push(Entry { id, stored, place, state });
        id
    }

    pub(super) fn find(&self, name: &str) -> Result<usize> {
        let found = self.entries.iter().position(|entry| entry.stored.name == name.as_bytes());
        let missing = || BlockError::new(ErrorKind::NotFound, format!("Dirty bitmap '{}' not found", shown_text(name)));
        found.ok_or_else(missing)
    }

    /// Reads the directory. Everything in it must be known to this program, because what is kept must be understood.
    ///
    /// # Errors
    /// `Corrupt` or `Truncated` when it makes no sense or has things of other programs.
    async fn read(meta: &Meta, extension: BitmapsExtension) -> Result<Self> {
        let (offset, len) = (extension.directory_offset, extension.directory_len);
        if offset.get().checked_add(len).is_none_or(|end| end > meta.storage.len()) {
            return Err(BlockError::new(ErrorKind::Truncated, "Failed to read bitmap directory"));
        }
        if len == 0 {
            return Err(corrupt("Requested bitmap directory size is zero".to_owned()));
        }
        let len = usize::try_from(len).expect("bounded when the header was parsed");
        let bytes = meta.storage.read_bytes(offset.get(), len).await?;
        let mut directory = Self::default();
        let mut at = 0;
        while at < bytes.len() {
            let entry = BitmapDirectoryEntry::parse(&bytes[at..]);
            let entry = entry.ok_or_else(|| corrupt("Broken bitmap directory".to_owned()))?;
            if directory.entries.len() as u64 >= u64::from(extension.count) {
                return Err(corrupt("More bitmaps found than specified in header extension".to_owned()));
            }
            let place = HostOffset::new(offset.get() + at as u64);
            at += entry.entry_len;
            directory.add_read(entry, place, meta)?;
        }
        if (directory.entries.len() as u64) < u64::from(extension.count) {
            return Err(corrupt("Less bitmaps found than specified in header extension".to_owned()));
        }
        directory.check_names()?;
        directory.check_tables()?;
        Ok(directory)
    }

    fn add_read(&mut self, entry: BitmapDirectoryEntry, place: HostOffset, meta: &Meta) -> Result<()> {
        if entry.extra_len != 0 {
            return Err(corrupt("Bitmap extra data is not supported".to_owned()));
        }
        if !entry.is_usable(meta.geo, meta.header.virtual_size) {
            return Err(corrupt(format!("Bitmap '{}' doesn't satisfy the constraints", shown(&entry.name))));
        }
        let in_use = entry.flags & FLAG_IN_USE != 0;
        let state = if in_use { State::Inconsistent { marked: true } } else { State::Stored };
        self.push(entry, Some(place), state);
        Ok(())
    }

    fn check_names(&self) -> Result<()> {
        let mut names: Vec<&[u8]> = self.entries.iter().map(|entry| &entry.stored.name[..]).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(corrupt(format!("Bitmap already exists: {}", shown(pair[0])))),
            None => Ok(()),
        }
    }
}

impl Directory {
    /// Fails when two bitmaps share a part of their tables: then a small file could stand for many large bitmaps, and
    /// freeing one would take away the other.
    fn check_tables(&self) -> Result<()> {
        let range = |entry: &Entry| {
            let start = entry.stored.table_offset.get();
            (start, start.saturating_add(u64::from(entry.stored.table_entries) * 8))
        };
        let mut tables: Vec<(u64, u64)> = self.entries.iter().map(range).collect();
        tables.sort_unstable();
        match tables.windows(2).find(|pair| pair[1].0 < pair[0].1) {
            Some(pair) => Err(corrupt(format!("The tables of two bitmaps overlap at {:#x}", pair[1].0))),
            None => Ok(()),
        }
    }
}

impl Image {
    /// The directory, read if nobody did so before. The caller holds it.
    pub(super) async fn read_directory<'a>(&self, directory: &'a mut Option<Directory>) -> Result<&'a mut Directory> {
        if directory.is_none() {
            let meta = self.meta.lock().await;
            let read = match meta.header.bitmaps {
                Some(extension) => Directory::read(&meta, extension).await?,
                None => Directory::default(),
            };
            *directory = Some(read);
        }
        Ok(directory.get_or_insert_default())
    }

    /// Marks on disk what is in memory, or is not right, as in use, and makes that durable.
    ///
    /// It happens in place: the marks are all that changes, so whichever of the sectors reach the disk, each bitmap is
    /// as it was or marked.
    pub(super) async fn mark_in_use(&self, directory: &mut Directory) -> Result<()> {
        let lacking = || directory.entries.iter().filter(|entry| entry.lacks_mark());
        let places = || lacking().filter_map(|entry| entry.place).map(HostOffset::get);
        if let (Some(first), Some(last)) = (places().min(), places().max()) {
            let mut meta = self.meta.lock().await;
            // An image in which the directory lies over something else must not be written.
            meta.know_metadata().await?;
            let len = usize::try_from(last - first).expect("a directory is small") + FLAGS_OFFSET + 4;
            let mut bytes = meta.storage.read_bytes(first, len).await?.to_vec();
            for entry in lacking() {
                let Some(place) = entry.place else { continue };
                let at = usize::try_from(place.get() - first).expect("inside the directory") + FLAGS_OFFSET;
                let flags = (entry.stored.flags | FLAG_IN_USE).to_be_bytes();
                bytes[at..at + 4].copy_from_slice(&flags);
            }
            meta.storage.write(first, IoBuf::copy_of(&bytes)).await?;
            meta.storage.flush().await?;
        }
        directory.entries.iter_mut().for_each(Entry::set_marked);
        Ok(())
    }
}

/// Whether an error says that something on disk makes no sense, rather than that it could not be read.
pub(super) fn is_damage(error: &BlockError) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Truncated)
}

pub(super) fn corrupt(text: String) -> BlockError {
    BlockError::new(ErrorKind::Corrupt, text).with_errno(libc::EINVAL)
}

/// A name from an image as messages show it: readable, and of bearable length (rule R5).
pub(super) fn shown(name: &[u8]) -> String {
    shown_text(&String::from_utf8_lossy(name))
}

/// A name as messages show it.
pub(super) fn shown_text(name: &str) -> String {
    let mut text = String::new();
    for (i, character) in name.chars().enumerate() {
        if i == SHOWN_CHARS_MAX {
            text.push_str("...");
            break;
        }
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}
