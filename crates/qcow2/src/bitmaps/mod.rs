//! Persistent bitmaps: which parts of the disk were written since some moment. QEMU: block/qcow2-bitmap.c.
//!
//! | file | concept |
//! |---|---|
//! | here | what an open image knows of its bitmaps |
//! | `list` | what `info` shows, read from the directory alone |
//! | `directory` | the directory in memory, and which bitmaps are marked as in use on disk |
//! | `load` | the content of a bitmap |
//! | `track` | requests that change the disk, and what they mark; changes of size |
//! | `store` | writing bitmaps and directory back, and freeing what they replace |
//! | `ops` | what users do with bitmaps |
//!
//! # Never valid and stale
//!
//! On disk a bitmap is either marked as in use, so that nobody relies on it, or it says exactly what was written up to
//! the disk's present state:
//!
//! | moment | what is on disk |
//! |---|---|
//! | opened | as it was; nothing is read, nothing is written |
//! | first change of the disk | the bitmaps that track writes are loaded, marked as in use, and that is made durable; only then the change begins |
//! | later | the same; writes are tracked in memory, flushes store nothing |
//! | closed | new clusters with the bits, a new directory without the marks, a flush, then the header that names it |
//!
//! Bitmaps that do not track writes stay as they are until somebody changes them. When the directory makes no sense, or
//! has things of other programs that only those could keep up to date, the first change of the disk clears the header's
//! autoclear bit instead, which says that all bitmaps are out of date. A bitmap whose own content makes no sense is marked as
//! in use, and the others live on.
//!
//! # Locks
//!
//! [`Bitmaps::directory`], then the metadata lock; [`Bitmaps::loaded`] is the innermost and never held across I/O.
//! Requests that change the disk look at one relaxed flag, and lock only if something tracks them.

mod directory;
mod list;
mod load;
mod ops;
mod store;
mod track;

use std::collections::BTreeMap;

use qemu_block::bitmap::DirtyBitmap;
use qemu_util::primitive::Mutex;
use qemu_util::primitive::atomic::{AtomicU8, Ordering};
use qemu_util::sync::CoMutex;

use self::directory::{BitmapId, Directory};
pub(crate) use self::list::list;

/// What an open image knows of its bitmaps.
#[derive(Debug)]
pub(crate) struct Bitmaps {
    phase: AtomicU8,
    /// The contents that are in memory.
    loaded: Mutex<BTreeMap<BitmapId, Loaded>>,
    /// What the directory says; none until somebody asks.
    directory: CoMutex<Option<Directory>>,
}

/// A bitmap in memory.
#[derive(Debug)]
struct Loaded {
    bits: DirtyBitmap,
    /// Whether it records writes.
    enabled: bool,
}

/// What a request that changes the disk has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing.
    Idle,
    /// Before anything else, the bitmaps that track writes have to be loaded and marked.
    Unprepared,
    /// Mark what it changes.
    Tracking,
}

impl Bitmaps {
    /// The bitmaps of an image; `may_track` says that it has some and is writable.
    pub(crate) fn new(may_track: bool) -> Self {
        let phase = if may_track { Phase::Unprepared } else { Phase::Idle };
        Self {
            phase: AtomicU8::new(phase.number()),
            loaded: Mutex::new(BTreeMap::new()),
            directory: CoMutex::new(None),
        }
    }

    fn phase(&self) -> Phase {
        // Ordering: relaxed. The bitmaps themselves are behind a mutex. A request that runs while a bitmap is added
        // marks what it changed once more when it is done, so it does not matter whether it saw the new phase at first.
        Phase::of(self.phase.load(Ordering::Relaxed))
    }

    /// Brings the phase up to date with the bitmaps in memory.
    fn update_phase(&self) {
        let tracking = self.loaded.lock().values().any(|bitmap| bitmap.enabled);
        let phase = if tracking { Phase::Tracking } else { Phase::Idle };
        // Ordering: relaxed, as in `phase`.
        self.phase.store(phase.number(), Ordering::Relaxed);
    }
}

impl Phase {
    fn number(self) -> u8 {
        match self {
            Self::Idle => 0,
            Self::Unprepared => 1,
            Self::Tracking => 2,
        }
    }

    fn of(number: u8) -> Self {
        match number {
            0 => Self::Idle,
            1 => Self::Unprepared,
            _ => Self::Tracking,
        }
    }
}
