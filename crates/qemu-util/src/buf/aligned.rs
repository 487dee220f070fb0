//! Aligned allocations and the two kinds of handle to parts of them.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use super::MEMORY_ALIGNMENT;
use super::pool::Shelves;

/// One allocation. All its bytes are initialised: it starts zeroed and only whole bytes are ever written.
pub(super) struct Allocation {
    ptr: NonNull<u8>,
    layout: Layout,
    home: Weak<Shelves>,
}

// SAFETY: an `Allocation` is plain memory without thread affinity; access to it goes through `IoBuf` and `IoBytes`,
// whose ranges never overlap unless all of them are read-only.
unsafe impl Send for Allocation {}
// SAFETY: as above: `&Allocation` gives no access to the bytes by itself.
unsafe impl Sync for Allocation {}

impl Allocation {
    /// Memory of at least `len` bytes, zeroed.
    pub(super) fn new(len: usize, home: Weak<Shelves>) -> Self {
        let layout = Layout::from_size_align(len.max(1), MEMORY_ALIGNMENT).expect("buffer lengths fit in isize");
        // SAFETY: the layout's size is at least one.
        let ptr = unsafe { alloc_zeroed(layout) };
        let Some(ptr) = NonNull::new(ptr) else { handle_alloc_error(layout) };
        Self { ptr, layout, home }
    }

    pub(super) fn capacity(&self) -> usize {
        self.layout.size()
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            // The memory moves to the shelf inside a new owner; this one must not free it.
            let moved = Self { ptr: self.ptr, layout: self.layout, home: Weak::new() };
            match home.put(moved) {
                Ok(()) => return,
                // The shelf is full: it hands the new owner back, which frees the memory when it goes.
                Err(full) => drop(full),
            }
            return;
        }
        // SAFETY:
        // - `ptr` came from `alloc_zeroed` with this layout;
        // - no handle is left: each holds an `Arc` of this value, or the memory was moved out above.
        unsafe { dealloc(self.ptr.as_ptr(), self.layout) };
    }
}

impl Allocation {
    /// The same memory, to return to `home` when it is dropped.
    pub(super) fn adopted_by(self, home: Weak<Shelves>) -> Self {
        let adopted = Self { ptr: self.ptr, layout: self.layout, home };
        std::mem::forget(self);
        adopted
    }
}

/// The unique handle to a range of aligned memory.
///
/// Splitting yields handles to disjoint ranges; [`IoBuf::try_join`] puts neighbours together again. The contents are
/// always initialised, though a recycled buffer holds old data until it is written.
///
/// ```
/// use qemu_util::buf::IoBuf;
///
/// let mut whole = IoBuf::zeroed(4096);
/// let mut tail = whole.split_off(1024);
/// tail[0] = 7;
/// let whole = whole.try_join(tail).expect("they are neighbours");
/// assert_eq!((whole.len(), whole[1024]), (4096, 7));
/// ```
pub struct IoBuf {
    memory: Arc<Allocation>,
    start: usize,
    len: usize,
}

impl IoBuf {
    /// A fresh buffer of `len` zero bytes that belongs to no pool.
    pub fn zeroed(len: usize) -> Self {
        Self::whole(Arc::new(Allocation::new(len, Weak::new())), len)
    }

    /// A fresh buffer with a copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut buf = Self::zeroed(bytes.len());
        buf.copy_from_slice(bytes);
        buf
    }

    /// The handle to the first `len` bytes of an allocation that has no other handle.
    pub(super) fn whole(memory: Arc<Allocation>, len: usize) -> Self {
        assert!(len <= memory.capacity(), "a buffer is no longer than its memory");
        Self { memory, start: 0, len }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the range is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keeps the first `at` bytes and returns the rest.
    ///
    /// # Panics
    /// If `at` is past the end.
    #[must_use = "dropping the tail gives its range up"]
    pub fn split_off(&mut self, at: usize) -> Self {
        assert!(at <= self.len, "split inside the buffer");
        let tail = Self { memory: Arc::clone(&self.memory), start: self.start + at, len: self.len - at };
        self.len = at;
        tail
    }

    /// Shortens the buffer to `len` bytes; no effect when it is not longer.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Joins two handles whose ranges follow one another in the same memory.
    ///
    /// # Errors
    /// Gives both back when they are not neighbours in this order.
    pub fn try_join(mut self, next: Self) -> Result<Self, (Self, Self)> {
        let neighbours = Arc::ptr_eq(&self.memory, &next.memory) && self.start + self.len == next.start;
        if !neighbours {
            return Err((self, next));
        }
        self.len += next.len;
        Ok(self)
    }

    /// Gives up the right to write, so that the range can be shared.
    pub fn freeze(self) -> IoBytes {
        IoBytes { memory: self.memory, start: self.start, len: self.len }
    }

    fn first_byte(&self) -> *mut u8 {
        // SAFETY: `start` is inside the allocation or one past its end.
        unsafe { self.memory.ptr.as_ptr().add(self.start) }
    }
}

impl Deref for IoBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY:
        // - `start + len` is within the allocation, whose bytes are initialised and live while `memory` is held;
        // - nobody else has a handle to this range, so nobody writes it while the slice lives.
        unsafe { std::slice::from_raw_parts(self.first_byte(), self.len) }
    }
}

impl DerefMut for IoBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`; `&mut self` of the only handle makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.first_byte(), self.len) }
    }
}

impl fmt::Debug for IoBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoBuf").field("len", &self.len).finish_non_exhaustive()
    }
}

/// A shared, read-only range of aligned memory; clones and slices refer to the same bytes.
#[derive(Clone)]
pub struct IoBytes {
    memory: Arc<Allocation>,
    start: usize,
    len: usize,
}

impl IoBytes {
    /// A fresh copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Self {
        IoBuf::copy_of(bytes).freeze()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the range is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A part of this range, without copying.
    ///
    /// # Panics
    /// If `range` does not lie inside.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len, "slice inside the buffer");
        Self { memory: Arc::clone(&self.memory), start: self.start + range.start, len: range.end - range.start }
    }

    /// Joins two ranges that follow one another in the same memory.
    ///
    /// # Errors
    /// Gives both back when they are not neighbours in this order.
    pub fn try_join(mut self, next: Self) -> Result<Self, (Self, Self)> {
        let neighbours = Arc::ptr_eq(&self.memory, &next.memory) && self.start + self.len == next.start;
        if !neighbours {
            return Err((self, next));
        }
        self.len += next.len;
        Ok(self)
    }

    /// Gets the right to write back, if no other handle to the memory is left.
    ///
    /// # Errors
    /// Gives the shared range back when it is still shared.
    pub fn try_unfreeze(mut self) -> Result<IoBuf, Self> {
        if Arc::get_mut(&mut self.memory).is_none() {
            return Err(self);
        }
        Ok(IoBuf { memory: self.memory, start: self.start, len: self.len })
    }
}

impl Deref for IoBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` is inside the allocation or one past its end.
        let first = unsafe { self.memory.ptr.as_ptr().add(self.start) };
        // SAFETY:
        // - `start + len` is within the allocation, whose bytes are initialised and live while `memory` is held;
        // - every handle to this range is an `IoBytes` (`freeze` consumed the unique one), so nobody writes it.
        unsafe { std::slice::from_raw_parts(first, self.len) }
    }
}

impl fmt::Debug for IoBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoBytes").field("len", &self.len).finish_non_exhaustive()
    }
}
