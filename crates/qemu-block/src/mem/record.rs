//! What happened to several disks, in one order: enough to know what a power cut may leave of each.

use std::sync::Arc;

use qemu_util::primitive::{Mutex, unique_number};

use super::LogEntry;

/// Something that happened to a recorded disk, or to whoever uses the disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A change took effect: a write, zeroes or a discard, a new length.
    Changed {
        /// The number of the disk, as given to [`MemDisk::record`](super::MemDisk::record).
        disk: usize,
        /// What changed; never [`LogEntry::Flush`].
        change: LogEntry,
    },
    /// A flush was asked for. It covers the changes that took effect before.
    FlushStarted {
        /// The number of the disk.
        disk: usize,
        /// Names the flush; no two have the same one.
        flush: u64,
    },
    /// A flush completed. What took effect while it was under way may be durable or not.
    FlushDone {
        /// The number of the disk.
        disk: usize,
        /// The name that it was started with.
        flush: u64,
    },
    /// A remark of the user; see [`Recorder::note`].
    Note(usize),
}

/// Gathers events. Clones refer to the same ones.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    events: Arc<Mutex<Vec<Event>>>,
}

impl Recorder {
    /// A recorder that no disk tells anything yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a remark between the events.
    pub fn note(&self, note: usize) {
        self.events.lock().push(Event::Note(note));
    }

    /// The events so far, which are forgotten.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock())
    }
}

/// One disk of a recorder.
#[derive(Clone, Debug)]
pub(super) struct Track {
    recorder: Recorder,
    disk: usize,
}

impl Track {
    pub(super) fn new(recorder: Recorder, disk: usize) -> Self {
        Self { recorder, disk }
    }

    fn push(&self, event: Event) {
        self.recorder.events.lock().push(event);
    }

    /// Notes a change. Completed flushes are noted by [`Track::flush_done`], as a log entry does not name them.
    pub(super) fn log(&self, entry: &impl Fn() -> LogEntry) {
        match entry() {
            LogEntry::Flush => {}
            change => self.push(Event::Changed { disk: self.disk, change }),
        }
    }

    /// Notes that a flush begins; returns its name.
    pub(super) fn flush_started(&self) -> u64 {
        let flush = unique_number();
        self.push(Event::FlushStarted { disk: self.disk, flush });
        flush
    }

    pub(super) fn flush_done(&self, flush: u64) {
        self.push(Event::FlushDone { disk: self.disk, flush });
    }
}
