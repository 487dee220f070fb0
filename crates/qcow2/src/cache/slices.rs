//! A bounded cache of table slices. QEMU: `Qcow2Cache` (block/qcow2-cache.c).
//!
//! Tables can be 2 MiB large, so the unit is a slice, of 4 KiB by default. The cache never writes on its own account: a
//! dirty slice leaves only through [`crate::cache::order`], which knows what must be on disk before it.

use std::collections::HashMap;

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_util::buf::IoBuf;

use super::file::MetaFile;
use super::sizes::CacheSize;
use crate::units::HostOffset;

/// Neighbouring dirty slices are written together up to this many bytes.
const WRITE_BYTES_MAX: usize = 1 << 20;

#[derive(Debug)]
struct Slot {
    offset: HostOffset,
    bytes: Box<[u8]>,
    dirty: bool,
    /// Used since the hand of the clock last passed.
    referenced: bool,
}

/// Slices of tables of one kind.
#[derive(Debug)]
pub(crate) struct SliceCache {
    what: &'static str,
    slice_bytes: usize,
    slots_max: usize,
    slots: Vec<Slot>,
    by_offset: HashMap<HostOffset, usize>,
    hand: usize,
    n_dirty: usize,
}

impl SliceCache {
    /// An empty cache of that size. `what` names the tables in errors.
    pub(crate) fn new(what: &'static str, size: CacheSize) -> Self {
        let CacheSize { slice_bytes, slices_max: slots_max } = size;
        Self { what, slice_bytes, slots_max, slots: Vec::new(), by_offset: HashMap::new(), hand: 0, n_dirty: 0 }
    }

    pub(crate) fn slice_bytes(&self) -> usize {
        self.slice_bytes
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.n_dirty > 0
    }

    /// The slot that holds the slice at `offset`, if it is in memory.
    pub(crate) fn find(&mut self, offset: HostOffset) -> Option<usize> {
        let slot = *self.by_offset.get(&offset)?;
        self.slots[slot].referenced = true;
        Some(slot)
    }

    /// Whether a further slice has a place without writing anything.
    pub(crate) fn has_room(&self) -> bool {
        self.slots.len() < self.slots_max || self.n_dirty < self.slots.len()
    }

    /// Reads the slice at `offset` into memory. There is room.
    pub(crate) async fn load(&mut self, storage: &MetaFile, offset: HostOffset) -> Result<usize> {
        let end = offset.get().checked_add(self.slice_bytes as u64);
        if end.is_none_or(|end| end > storage.len()) {
            let text = format!(
                "qcow2: {} at offset {:#x} lies past the end of the image file, which is truncated",
                self.what,
                offset.get()
            );
            return Err(BlockError::new(ErrorKind::Truncated, text));
        }
        let bytes = storage.read_bytes(offset.get(), self.slice_bytes).await?;
        Ok(self.insert(offset, bytes.to_vec().into_boxed_slice(), false))
    }

    /// Puts a slice of zeros at `offset` into memory, dirty. There is room.
    pub(crate) fn insert_zeroed(&mut self, offset: HostOffset) -> usize {
        self.insert(offset, vec![0; self.slice_bytes].into_boxed_slice(), true)
    }

    fn insert(&mut self, offset: HostOffset, bytes: Box<[u8]>, dirty: bool) -> usize {
        assert!(!self.by_offset.contains_key(&offset), "a slice is in memory once");
        let slot = Slot { offset, bytes, dirty, referenced: true };
        let at = if self.slots.len() < self.slots_max {
            self.slots.push(slot);
            self.slots.len() - 1
        } else {
            let at = self.victim();
            // A slot that was forgotten keeps its old offset, which may be somebody else's by now.
            if self.by_offset.get(&self.slots[at].offset) == Some(&at) {
                self.by_offset.remove(&self.slots[at].offset);
            }
            self.slots[at] = slot;
            at
        };
        self.n_dirty += usize::from(dirty);
        self.by_offset.insert(offset, at);
        at
    }

    /// A clean slot that was not used lately (the clock algorithm). There is a clean one.
    fn victim(&mut self) -> usize {
        assert!(self.n_dirty < self.slots.len(), "the caller made room");
        loop {
            self.hand = (self.hand + 1) % self.slots.len();
            let slot = &mut self.slots[self.hand];
            if slot.dirty {
                continue;
            }
            if !std::mem::take(&mut slot.referenced) {
                return self.hand;
            }
        }
    }

    pub(crate) fn bytes(&self, slot: usize) -> &[u8] {
        &self.slots[slot].bytes
    }

    /// The slice's bytes, to change them; it is dirty from now on.
    pub(crate) fn bytes_mut(&mut self, slot: usize) -> &mut [u8] {
        let slot = &mut self.slots[slot];
        if !slot.dirty {
            slot.dirty = true;
            self.n_dirty += 1;
        }
        &mut slot.bytes
    }

    /// Forgets the slices of a table that is no longer one, dirty or not.
    pub(crate) fn forget(&mut self, table: HostOffset, table_bytes: usize) {
        let (start, end) = (table.get(), table.get() + table_bytes as u64);
        for (at, slot) in self.slots.iter_mut().enumerate() {
            let offset = slot.offset.get();
            if start <= offset && offset < end && self.by_offset.get(&slot.offset) == Some(&at) {
                self.by_offset.remove(&slot.offset);
                self.n_dirty -= usize::from(slot.dirty);
                slot.dirty = false;
                slot.referenced = false;
            }
        }
    }

    /// Forgets everything, dirty or not.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        self.by_offset.clear();
        self.hand = 0;
        self.n_dirty = 0;
    }

    /// Writes all dirty slices, neighbours in one request. The caller has seen to what must be on disk before.
    pub(crate) async fn write_dirty(&mut self, storage: &MetaFile) -> Result<()> {
        let mut dirty: Vec<usize> = (0..self.slots.len()).filter(|slot| self.slots[*slot].dirty).collect();
        dirty.sort_unstable_by_key(|slot| self.slots[*slot].offset);
        let mut rest = &dirty[..];
        while let Some(first) = rest.first() {
            let start = self.slots[*first].offset.get();
            let follows = |(i, slot): (usize, &usize)| {
                let expected = start + (i * self.slice_bytes) as u64;
                self.slots[*slot].offset.get() == expected && (i + 1) * self.slice_bytes <= WRITE_BYTES_MAX
            };
            let n = rest.iter().enumerate().take_while(|(i, slot)| follows((*i, slot))).count();
            let (run, later) = rest.split_at(n.max(1));
            self.write_run(storage, start, run).await?;
            rest = later;
        }
        Ok(())
    }

    /// Writes slices that follow one another, from a copy, and marks them clean.
    async fn write_run(&mut self, storage: &MetaFile, start: u64, run: &[usize]) -> Result<()> {
        let mut buf = IoBuf::zeroed(run.len() * self.slice_bytes);
        for (piece, slot) in buf.chunks_exact_mut(self.slice_bytes).zip(run) {
            piece.copy_from_slice(&self.slots[*slot].bytes);
        }
        storage.write(start, buf).await?;
        for slot in run {
            self.slots[*slot].dirty = false;
            self.n_dirty -= 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_clean_slot_is_enough_for_a_dirty_slice() {
        let mut cache = SliceCache::new("a table", CacheSize { slice_bytes: 512, slices_max: 2 });
        let slice = |index: u64| HostOffset::new(index * 512);
        cache.insert_zeroed(slice(1));
        cache.insert(slice(2), vec![7; 512].into_boxed_slice(), false);
        assert!(cache.has_room());
        let third = cache.insert_zeroed(slice(3));
        assert_eq!(
            (cache.find(slice(1)).is_some(), cache.find(slice(2)), cache.find(slice(3))),
            (true, None, Some(third))
        );
        assert!(!cache.has_room() && cache.is_dirty());
    }
}
