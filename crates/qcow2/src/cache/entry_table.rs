//! Arrays of big-endian 64-bit entries that may be large and mostly empty: the L1 table and the refcount table.
//!
//! Chunks are loaded when first looked at, and chunks without an entry cost no memory (rules R2 and R3): an empty image
//! of 1 EiB has a 16 MiB L1 table.

use std::collections::BTreeSet;
use std::ops::Range;

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_util::buf::IoBuf;

use super::file::MetaFile;
use crate::units::HostOffset;

/// Entries per chunk: 64 KiB on disk, one read.
const CHUNK_ENTRIES: usize = 8192;
/// Dirty entries are written in pieces of this many, 512 bytes, which disks write atomically.
const SECTOR_ENTRIES: usize = 64;
const ENTRY_BYTES: usize = 8;

#[derive(Debug)]
enum Chunk {
    /// Not looked at yet.
    Absent,
    /// All entries are zero.
    Zero,
    Loaded(Box<[u64]>),
}

/// A table of 64-bit entries at a fixed place in the image.
#[derive(Debug)]
pub(crate) struct EntryTable {
    what: &'static str,
    offset: HostOffset,
    n_entries: usize,
    chunks: Vec<Chunk>,
    dirty: BTreeSet<usize>,
    /// Whether the chunks that lie in holes of the file are known.
    holes_known: bool,
}

impl EntryTable {
    /// The table of `n_entries` at `offset`; nothing is read yet. `what` names it in errors.
    pub(crate) fn new(what: &'static str, offset: HostOffset, n_entries: usize) -> Self {
        let mut chunks = Vec::new();
        chunks.resize_with(n_entries.div_ceil(CHUNK_ENTRIES), || Chunk::Absent);
        // What is read at once needs no question before.
        let holes_known = chunks.len() <= 1;
        Self { what, offset, n_entries, chunks, dirty: BTreeSet::new(), holes_known }
    }

    /// A table of zeros that nothing has to be read of, and nothing written.
    pub(crate) fn zeroed(what: &'static str, offset: HostOffset, n_entries: usize) -> Self {
        let mut table = Self::new(what, offset, n_entries);
        table.chunks.fill_with(|| Chunk::Zero);
        // What the file has there is not this table's content.
        table.holes_known = true;
        table
    }

    /// The same entries at another place and with room for `n_entries`; all of them dirty that are not zero.
    ///
    /// The caller has loaded every chunk.
    pub(crate) fn moved_to(&self, offset: HostOffset, n_entries: usize) -> Self {
        self.moved_with(offset, n_entries, |_, value| value)
    }

    /// As [`EntryTable::moved_to`], with every entry that is not zero replaced by what `value_of` makes of it.
    pub(crate) fn moved_with(
        &self,
        offset: HostOffset,
        n_entries: usize,
        value_of: impl Fn(usize, u64) -> u64,
    ) -> Self {
        let mut moved = Self::zeroed(self.what, offset, n_entries);
        for (index, value) in self.loaded_entries() {
            let value = value_of(index, value);
            if value != 0 {
                moved.put(index, value);
            }
        }
        moved
    }

    pub(crate) fn offset(&self) -> HostOffset {
        self.offset
    }

    pub(crate) fn n_entries(&self) -> usize {
        self.n_entries
    }

    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The entries of loaded chunks that are not zero.
    pub(crate) fn loaded_entries(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.chunks.iter().enumerate().flat_map(|(at, chunk)| {
            let entries: &[u64] = match chunk {
                Chunk::Loaded(entries) => entries,
                Chunk::Absent | Chunk::Zero => &[],
            };
            let first = at * CHUNK_ENTRIES;
            entries.iter().enumerate().filter(|(_, entry)| **entry != 0).map(move |(i, entry)| (first + i, *entry))
        })
    }

    /// Entry `index`. The chunk must be loaded (see [`EntryTable::load`]); entries past the end are zero.
    pub(crate) fn entry(&self, index: usize) -> u64 {
        match self.chunks.get(index / CHUNK_ENTRIES) {
            Some(Chunk::Loaded(entries)) => entries[index % CHUNK_ENTRIES],
            Some(Chunk::Absent | Chunk::Zero) | None => 0,
        }
    }

    /// Makes sure that the chunk with entry `index` is in memory; returns the indices that were read, if any were.
    pub(crate) async fn load(&mut self, storage: &MetaFile, index: usize) -> Result<Option<Range<usize>>> {
        let at = index / CHUNK_ENTRIES;
        if !std::mem::replace(&mut self.holes_known, true) {
            self.skip_holes(storage).await;
        }
        if !matches!(self.chunks.get(at), Some(Chunk::Absent)) {
            return Ok(None);
        }
        let range = at * CHUNK_ENTRIES..self.n_entries.min((at + 1) * CHUNK_ENTRIES);
        let offset = self.offset.get() + (range.start * ENTRY_BYTES) as u64;
        let len = range.len() * ENTRY_BYTES;
        if offset + len as u64 > storage.len() {
            let text = format!("qcow2: the {} ends past the end of the image file, which is truncated", self.what);
            return Err(BlockError::new(ErrorKind::Truncated, text));
        }
        let bytes = storage.read_bytes(offset, len).await?;
        self.chunks[at] = if qemu_util::zero::is_zero(&bytes) {
            Chunk::Zero
        } else {
            let mut entries = vec![0; CHUNK_ENTRIES].into_boxed_slice();
            for (entry, raw) in entries.iter_mut().zip(bytes.as_chunks::<ENTRY_BYTES>().0) {
                *entry = u64::from_be_bytes(*raw);
            }
            Chunk::Loaded(entries)
        };
        Ok(Some(range))
    }

    /// Finds the chunks that lie in holes of the file, so that they need not be read: a table of many MiB that nothing
    /// was ever written to costs one question. At most two questions a chunk are asked.
    async fn skip_holes(&mut self, storage: &MetaFile) {
        const CHUNK_BYTES: u64 = (CHUNK_ENTRIES * ENTRY_BYTES) as u64;
        let start = self.offset.get();
        let len = ((self.n_entries * ENTRY_BYTES) as u64).min(storage.len().saturating_sub(start));
        let mut at = 0;
        while at < len {
            let zeros = storage.zeros_at(start + at, len - at).await;
            if zeros == 0 {
                at = (at / CHUNK_BYTES + 1) * CHUNK_BYTES;
                continue;
            }
            let end = at + zeros;
            let whole_end = if end == (self.n_entries * ENTRY_BYTES) as u64 {
                end.div_ceil(CHUNK_BYTES)
            } else {
                end / CHUNK_BYTES
            };
            for chunk in at.div_ceil(CHUNK_BYTES)..whole_end {
                let chunk = &mut self.chunks[usize::try_from(chunk).expect("a chunk of this table")];
                if matches!(chunk, Chunk::Absent) {
                    *chunk = Chunk::Zero;
                }
            }
            at = end;
        }
    }

    /// Takes the chunk with entry `index`, in which nothing was changed, out of memory: it is loaded, and judged, anew.
    pub(crate) fn unload(&mut self, index: usize) {
        self.chunks[index / CHUNK_ENTRIES] = Chunk::Absent;
    }

    /// One index in each chunk: loading all of these loads the whole table.
    pub(crate) fn chunk_starts(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.n_entries).step_by(CHUNK_ENTRIES)
    }

    /// How many entries from `index` on are known to be zero without reading anything: at most `max`, and none past the
    /// table's end.
    pub(crate) fn zero_run(&self, index: usize, max: usize) -> usize {
        let end = self.n_entries.min(index.saturating_add(max));
        let mut at = index;
        while at < end {
            match &self.chunks[at / CHUNK_ENTRIES] {
                Chunk::Absent => break,
                Chunk::Zero => at = (at / CHUNK_ENTRIES + 1) * CHUNK_ENTRIES,
                Chunk::Loaded(entries) => {
                    let first = at % CHUNK_ENTRIES;
                    let rest = &entries[first..CHUNK_ENTRIES.min(first + (end - at))];
                    let zeros = rest.iter().take_while(|entry| **entry == 0).count();
                    at += zeros;
                    if zeros < rest.len() {
                        break;
                    }
                }
            }
        }
        at.min(end).saturating_sub(index)
    }

    /// Changes entry `index`, whose chunk is loaded, and marks it dirty.
    pub(crate) fn put(&mut self, index: usize, value: u64) {
        assert!(index < self.n_entries, "the entry is inside the table");
        let chunk = &mut self.chunks[index / CHUNK_ENTRIES];
        if !matches!(chunk, Chunk::Loaded(_)) {
            *chunk = Chunk::Loaded(vec![0; CHUNK_ENTRIES].into_boxed_slice());
        }
        if let Chunk::Loaded(entries) = chunk {
            entries[index % CHUNK_ENTRIES] = value;
        }
        self.dirty.insert(index);
    }

    /// Writes the sectors with dirty entries, neighbours in one request.
    pub(crate) async fn write_dirty(&mut self, storage: &MetaFile) -> Result<()> {
        let mut sectors: Vec<Range<usize>> = Vec::new();
        for index in &self.dirty {
            let sector = index / SECTOR_ENTRIES;
            match sectors.last_mut() {
                Some(last) if last.end > sector => {}
                Some(last) if last.end == sector => last.end += 1,
                _ => sectors.push(sector..sector + 1),
            }
        }
        for range in sectors {
            let entries = range.start * SECTOR_ENTRIES..self.n_entries.min(range.end * SECTOR_ENTRIES);
            self.write_entries(storage, entries).await?;
        }
        self.dirty.clear();
        Ok(())
    }

    async fn write_entries(&self, storage: &MetaFile, entries: Range<usize>) -> Result<()> {
        let mut buf = IoBuf::zeroed(entries.len() * ENTRY_BYTES);
        for (raw, index) in buf.as_chunks_mut::<ENTRY_BYTES>().0.iter_mut().zip(entries.clone()) {
            *raw = self.entry(index).to_be_bytes();
        }
        let offset = self.offset.get() + (entries.start * ENTRY_BYTES) as u64;
        storage.write(offset, buf).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;
    use qemu_block::mem::MemDisk;
    use qemu_block::types::OpenFlags;

    use super::*;

    #[test]
    fn holes_of_the_file_do_not_replace_what_is_in_memory() {
        let node = MemDisk::new(1 << 20).node(OpenFlags::WRITE);
        let storage = MetaFile::new(node, None, Arc::default());
        let old = EntryTable::zeroed("a table", HostOffset::ZERO, CHUNK_ENTRIES);
        let mut moved = old.moved_to(HostOffset::ZERO, 4 * CHUNK_ENTRIES);
        let mut fresh = EntryTable::new("a table", HostOffset::ZERO, 4 * CHUNK_ENTRIES);
        for table in [&mut moved, &mut fresh] {
            table.put(1, 7);
            let loaded = Box::pin(table.load(&storage, 3 * CHUNK_ENTRIES)).now_or_never();
            assert!(loaded.expect("memory is fast").is_ok());
            assert_eq!(table.entry(1), 7);
        }
    }

    #[test]
    fn every_chunk_has_a_start() {
        let starts = |n| EntryTable::new("a table", HostOffset::ZERO, n).chunk_starts().collect::<Vec<_>>();
        assert_eq!(starts(0).len(), 0);
        assert_eq!(starts(1), [0]);
        assert_eq!(starts(2 * CHUNK_ENTRIES + 1), [0, CHUNK_ENTRIES, 2 * CHUNK_ENTRIES]);
    }
}
