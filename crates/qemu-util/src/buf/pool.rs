//! A pool of allocations, one shelf a size class.

use std::sync::{Arc, Weak};

use crossbeam_queue::ArrayQueue;

use super::aligned::{Allocation, IoBuf};

const CLASS_BITS_MIN: u32 = 12;
const CLASS_BITS_MAX: u32 = 22;
const CLASSES: usize = (CLASS_BITS_MAX - CLASS_BITS_MIN + 1) as usize;
/// Bytes that one shelf keeps at most.
const SHELF_BYTES_MAX: usize = 32 << 20;
/// Allocations that one shelf keeps at most, however small.
const SHELF_SLOTS_MAX: usize = 256;

/// The free allocations, by power-of-two size class.
pub(super) struct Shelves {
    shelves: [ArrayQueue<Allocation>; CLASSES],
}

impl Shelves {
    fn new() -> Self {
        let slots = |class: usize| (SHELF_BYTES_MAX >> (class + CLASS_BITS_MIN as usize)).clamp(1, SHELF_SLOTS_MAX);
        Self { shelves: std::array::from_fn(|class| ArrayQueue::new(slots(class))) }
    }

    /// The class whose allocations hold `len` bytes; none for lengths that are not pooled.
    fn class_of(len: usize) -> Option<usize> {
        let bits = len.max(1).checked_next_power_of_two()?.trailing_zeros().max(CLASS_BITS_MIN);
        (bits <= CLASS_BITS_MAX).then_some((bits - CLASS_BITS_MIN) as usize)
    }

    pub(super) fn put(&self, memory: Allocation) -> Result<(), Allocation> {
        match Self::class_of(memory.capacity()) {
            Some(class) => self.shelves[class].push(memory),
            None => Err(memory),
        }
    }
}

/// A source of recycled buffers. Cloning it gives another handle to the same pool.
///
/// A buffer taken from a pool goes back to it when its last handle is dropped, on whatever thread that happens. What a
/// pool keeps is bounded; lengths above 4 MiB are never kept.
#[derive(Clone)]
pub struct BufPool {
    shelves: Arc<Shelves>,
}

impl BufPool {
    /// An empty pool.
    pub fn new() -> Self {
        Self { shelves: Arc::new(Shelves::new()) }
    }

    /// A buffer of `len` bytes. Its contents are initialised but unspecified: zeros, or what an earlier user left.
    pub fn take(&self, len: usize) -> IoBuf {
        let home = Arc::downgrade(&self.shelves);
        let Some(class) = Shelves::class_of(len) else {
            return IoBuf::whole(Arc::new(Allocation::new(len, Weak::new())), len);
        };
        let memory = match self.shelves.shelves[class].pop() {
            Some(recycled) => recycled.adopted_by(home),
            None => Allocation::new(1 << (class + CLASS_BITS_MIN as usize), home),
        };
        IoBuf::whole(Arc::new(memory), len)
    }

    /// A buffer of `len` zero bytes.
    pub fn take_zeroed(&self, len: usize) -> IoBuf {
        let mut buf = self.take(len);
        buf.fill(0);
        buf
    }
}

impl Default for BufPool {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for BufPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BufPool").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_used_again() {
        let pool = BufPool::new();
        let mut first = pool.take(5000);
        first[4999] = 9;
        let address = first.as_ptr();
        drop(first);
        let second = pool.take(8192);
        assert_eq!(second.as_ptr(), address);
        assert_eq!(pool.take_zeroed(5000)[4999], 0);
    }

    #[test]
    fn slices_keep_the_memory_out_of_the_pool() {
        let pool = BufPool::new();
        let bytes = pool.take_zeroed(8192).freeze();
        let part = bytes.slice(10..20);
        let address = bytes.as_ptr();
        drop(bytes);
        assert_ne!(pool.take(8192).as_ptr(), address);
        assert_eq!(&part[..], &[0; 10]);
    }

    #[test]
    fn a_buffer_outlives_its_pool() {
        let pool = BufPool::new();
        let buf = pool.take_zeroed(4096);
        drop(pool);
        assert_eq!(buf[4095], 0);
    }
}
