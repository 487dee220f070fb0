//! I/O buffers: aligned, owned by the operation that uses them, sliceable without copying, recycled.
//!
//! | type | role |
//! |---|---|
//! | [`IoBuf`] | the only handle to a range of memory: readable and writable |
//! | [`IoBytes`] | a shared, read-only range: cloning it copies no data |
//! | [`IoVecMut`], [`IoVec`] | sequences of the two, for positional vectored requests |
//! | [`BufPool`] | where allocations come from and go back to |
//!
//! An operation takes its buffers by value and gives them back when it completes. Dropping the future of an operation
//! therefore never frees memory that a worker thread or the kernel may still write: whoever does the I/O holds the
//! handle.
//!
//! ```
//! use qemu_util::buf::{BufPool, IoVec, MEMORY_ALIGNMENT};
//!
//! let pool = BufPool::new();
//! let mut buf = pool.take_zeroed(8192);
//! assert!(buf.as_ptr().addr().is_multiple_of(MEMORY_ALIGNMENT));
//! buf[..5].copy_from_slice(b"hello");
//! let shared = buf.freeze();
//! let (head, tail) = (shared.slice(0..5), shared.slice(4096..8192)); // No byte is copied.
//! let mut request = IoVec::default();
//! request.push(head);
//! request.push(tail);
//! assert_eq!((request.len(), request.parts().len()), (4101, 2));
//! drop((shared, request)); // The memory goes back to the pool with its last handle,
//! assert_eq!(&pool.take(8192)[..5], b"hello"); // and comes out again as it was left.
//! ```
//!
//! QEMU: `qemu_blockalign` and `QEMUIOVector`, where the caller must keep the memory alive by hand.

mod aligned;
mod iov;
mod pool;

pub use aligned::{IoBuf, IoBytes};
pub use iov::{IoVec, IoVecMut};
pub use pool::BufPool;

/// Alignment of every allocation, in bytes: enough for `O_DIRECT` on any sector size in use.
pub const MEMORY_ALIGNMENT: usize = 4096;
