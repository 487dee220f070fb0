//! The engine that makes blocking system calls on worker threads. QEMU: `aio=threads` (block/file-posix.c).

use super::op::{AioOp, AioResult};
use super::pool::{PoolObserver, WorkerPool};
use super::{AioEngine, AioFuture, syscall};

/// Longest read, in bytes, that is tried without leaving the submitting thread.
///
/// Copying this much from the page cache takes about as long as handing a job to another thread and back (some ten
/// microseconds). Longer copies are better done in parallel.
const INLINE_READ_MAX: usize = 64 << 10;

/// Runs operations on a [`WorkerPool`], short cached reads at once.
#[derive(Debug)]
pub struct ThreadsEngine {
    pool: WorkerPool,
}

impl ThreadsEngine {
    /// An engine on `pool`, which may have other users.
    pub fn new(pool: WorkerPool) -> Self {
        Self { pool }
    }

    /// Hands `op` to a worker; `filled` bytes of a read are there already.
    fn hand_over(&self, op: AioOp, filled: usize) -> AioFuture {
        let pool = std::ptr::from_ref(&self.pool).addr();
        tracing::trace!(name: "thread_pool_submit_aio", pool = format_args!("{pool:#x}"));
        Box::pin(self.pool.run(move || {
            let result = syscall::execute(op, filled);
            let ret = result.as_ref().map_or_else(|error| -error.errno(), |_| 0);
            tracing::trace!(name: "thread_pool_complete_aio", pool = format_args!("{pool:#x}"), ret);
            result
        }))
    }
}

impl AioEngine for ThreadsEngine {
    fn submit(&self, op: AioOp) -> AioFuture {
        match op {
            AioOp::Read { file, offset, mut buf } if buf.len() <= INLINE_READ_MAX && file.can_nowait() => {
                let filled = syscall::read_cached(&file, offset, &mut buf);
                if filled == buf.len() {
                    return Box::pin(std::future::ready(Ok(AioResult::Read { buf, filled })));
                }
                self.hand_over(AioOp::Read { file, offset, buf }, filled)
            }
            // Looking up extents reads no data and takes about a microsecond where the file system keeps its extents
            // in memory, far less than a round trip to a worker. But it takes the lock of the inode, which a write
            // holds until it is done: a file that we write to is looked at by a worker.
            AioOp::Extent { file, offset } if file.is_read_only() => {
                Box::pin(std::future::ready(Ok(AioResult::Extent(syscall::find_extent(&file, offset)))))
            }
            op => self.hand_over(op, 0),
        }
    }

    fn observers(&self) -> Vec<PoolObserver> {
        vec![self.pool.observer()]
    }
}

#[cfg(all(test, not(qemu_loom)))]
mod tests;
