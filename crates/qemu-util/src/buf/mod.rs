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
//! QEMU: `qemu_blockalign` and `QEMUIOVector`, where the caller must keep the memory alive by hand.

mod aligned;
mod iov;
mod pool;

pub use aligned::{IoBuf, IoBytes};
pub use iov::{IoVec, IoVecMut};
pub use pool::BufPool;

/// Alignment of every allocation, in bytes: enough for `O_DIRECT` on any sector size in use.
pub const MEMORY_ALIGNMENT: usize = 4096;
