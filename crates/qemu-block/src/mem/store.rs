//! Sparse bytes: a map of the pages that were written.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::record::Track;

/// Size of a page in bytes.
const PAGE_LEN: usize = 4096;
const PAGE: u64 = PAGE_LEN as u64;

/// Bytes that several disks may share until one of them changes them.
#[derive(Clone, Debug)]
struct Page {
    bytes: [u8; PAGE_LEN],
    /// What [`Page::digest`] found since the last change.
    digest: OnceLock<u64>,
}

impl Page {
    fn zeroed() -> Self {
        Self { bytes: [0; PAGE_LEN], digest: OnceLock::new() }
    }

    /// The bytes, to be changed, and not seen by others who share the page.
    fn bytes_mut(this: &mut Arc<Self>) -> &mut [u8; PAGE_LEN] {
        let page = Arc::make_mut(this);
        page.digest = OnceLock::new();
        &mut page.bytes
    }

    /// A number that follows from the content, zero for zeros.
    fn digest(&self) -> u64 {
        *self.digest.get_or_init(|| {
            let words = self.bytes.as_chunks::<8>().0;
            let mut any = 0;
            let sum = words.iter().fold(0, |sum, word| {
                let word = u64::from_le_bytes(*word);
                any |= word;
                mixed(sum, word)
            });
            if any == 0 { 0 } else { sum }
        })
    }
}

fn mixed(sum: u64, word: u64) -> u64 {
    (sum.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (sum >> 29)
}

/// A change of the content, or the promise that all earlier ones are durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEntry {
    /// Data was written.
    Write {
        /// Where.
        offset: u64,
        /// What.
        data: Vec<u8>,
    },
    /// A range was made zero, or given up: it reads as zeros in both cases.
    Zero {
        /// Where.
        offset: u64,
        /// How much.
        len: u64,
    },
    /// The length was set.
    Truncate {
        /// The new length.
        len: u64,
    },
    /// A flush completed.
    Flush,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    len: u64,
    pages: BTreeMap<u64, Arc<Page>>,
    log: Option<Vec<LogEntry>>,
    track: Option<Track>,
}

impl Store {
    pub(super) fn new(len: u64) -> Self {
        Self { len, ..Self::default() }
    }

    /// The same content, without the log.
    pub(super) fn fork(&self) -> Self {
        Self { len: self.len, pages: self.pages.clone(), ..Self::default() }
    }

    /// A number that follows from length and content.
    pub(super) fn digest(&self) -> u64 {
        let pages = self.pages.iter().map(|(number, page)| (*number, page.digest())).filter(|(_, digest)| *digest != 0);
        pages.fold(self.len, |sum, (number, digest)| mixed(mixed(sum, number), digest))
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn allocated_bytes(&self) -> u64 {
        self.pages.len() as u64 * PAGE
    }

    pub(super) fn start_log(&mut self) {
        self.log = Some(Vec::new());
    }

    pub(super) fn take_log(&mut self) -> Vec<LogEntry> {
        self.log.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// From now on changes and flushes are told to a recorder.
    pub(super) fn set_track(&mut self, track: Track) {
        self.track = Some(track);
    }

    pub(super) fn track(&self) -> Option<&Track> {
        self.track.as_ref()
    }

    /// Notes an entry, if anybody wants to know.
    pub(super) fn log(&mut self, entry: impl Fn() -> LogEntry) {
        if let Some(log) = &mut self.log {
            log.push(entry());
        }
        if let Some(track) = &self.track {
            track.log(&entry);
        }
    }

    pub(super) fn apply(&mut self, entry: &LogEntry) {
        match entry {
            LogEntry::Write { offset, data } => self.write(*offset, data),
            LogEntry::Zero { offset, len } => self.zero(*offset, *len),
            LogEntry::Truncate { len } => self.truncate(*len),
            LogEntry::Flush => {}
        }
    }

    pub(super) fn read(&self, offset: u64, to: &mut [u8]) {
        to.fill(0);
        for (number, within, part) in parts(offset, to.len()) {
            if let Some(page) = self.pages.get(&number) {
                let len = part.len();
                to[part].copy_from_slice(&page.bytes[within..within + len]);
            }
        }
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (number, within, part) in parts(offset, bytes.len()) {
            let page = self.pages.entry(number).or_insert_with(|| Arc::new(Page::zeroed()));
            Page::bytes_mut(page)[within..within + part.len()].copy_from_slice(&bytes[part]);
        }
        self.len = self.len.max(offset.saturating_add(bytes.len() as u64));
    }

    /// Makes a range zero: whole pages go, others are filled. The disk grows if the range lies past its end.
    pub(super) fn zero(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        let touched: Vec<u64> =
            self.pages.range(offset / PAGE..end.div_ceil(PAGE)).map(|(number, _)| *number).collect();
        for number in touched {
            let start = number * PAGE;
            let (from, to) = (offset.max(start) - start, (end - start).min(PAGE));
            if (from, to) == (0, PAGE) {
                self.pages.remove(&number);
            } else if let Some(page) = self.pages.get_mut(&number) {
                Page::bytes_mut(page)[as_index(from)..as_index(to)].fill(0);
            }
        }
        self.len = self.len.max(end);
    }

    pub(super) fn truncate(&mut self, len: u64) {
        if len < self.len {
            // What is cut off must be zero should the disk grow again.
            self.zero(len, self.len - len);
        }
        self.len = len;
    }

    /// The length of the extent at `offset`, at most `len`, and whether it was written.
    pub(super) fn extent(&self, offset: u64, len: u64) -> (u64, bool) {
        let first = offset / PAGE;
        let written = self.pages.contains_key(&first);
        let end = if written {
            let last = (first..).zip(self.pages.range(first..)).take_while(|(want, (have, _))| want == *have).last();
            last.map_or(first, |(number, _)| number + 1)
        } else {
            self.pages.range(first..).next().map_or(u64::MAX / PAGE, |(number, _)| *number)
        };
        ((end * PAGE - offset).min(len), written)
    }
}

/// The pages of a range: number, position inside the page, and the indices into the caller's bytes.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = as_index(at % PAGE);
        let start = done;
        done = (done + PAGE_LEN - within).min(len);
        Some((at / PAGE, within, start..done))
    })
}

fn as_index(within_page: u64) -> usize {
    usize::try_from(within_page).expect("positions in a page are small")
}
