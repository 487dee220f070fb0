//! I/O engines and the worker pool: where requests meet the operating system.
//!
//! A worker that completes an operation wakes the waiting future. For a task on an
//! [`AioContext`](qemu_util::aio::AioContext) that means: onto the context's list, bottom half scheduled, notified; so
//! all completions between two polls come back as one bottom half. Any other executor's waker works as well.

mod op;
mod pool;
mod syscall;
#[cfg(all(test, not(qemu_loom)))]
pub(crate) mod test_support;
mod threads;

use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use qemu_util::buf::BufPool;

pub use op::{AioFile, AioOp, AioResult, CopySource, FileExtent, RangeAction};
pub use pool::{JobFuture, PoolObserver, PoolState, WorkerPool};
pub use threads::ThreadsEngine;

/// Most threads that wait for system calls. QEMU: `THREAD_POOL_MAX_THREADS_DEFAULT`.
const IO_THREADS_MAX: usize = 64;

/// How long a worker waits for the next job before it exits. QEMU: the wait in `worker_thread` (util/thread-pool.c).
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs operations on file descriptors. QEMU: the `aio=` back ends (block/file-posix.c).
pub trait AioEngine: std::fmt::Debug + Send + Sync {
    /// Starts `op`; the future yields its result. Dropping the future does not stop the operation, which owns its
    /// buffers and its descriptor.
    fn submit(&self, op: AioOp) -> AioFuture;

    /// Looks at the pools that run the operations, for whoever looks into a program that hangs.
    fn observers(&self) -> Vec<PoolObserver>;
}

/// What [`AioEngine::submit`] returns.
pub type AioFuture = std::pin::Pin<Box<dyn Future<Output = crate::error::Result<AioResult>> + Send>>;

/// What all nodes of one graph share.
#[derive(Clone, Debug)]
pub struct Services {
    /// Runs system calls that may block.
    pub engine: Arc<dyn AioEngine>,
    /// Runs computations: one thread a processor.
    pub cpu: WorkerPool,
    /// Where buffers come from.
    pub buffers: BufPool,
}

impl Services {
    /// A threads engine with a pool of its own, a pool of as many threads as there are processors, an empty buffer
    /// pool. No thread runs until there is something to do.
    pub fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let io = WorkerPool::new("block-io", IO_THREADS_MAX, IDLE_TIMEOUT);
        Self {
            engine: Arc::new(ThreadsEngine::new(io)),
            cpu: WorkerPool::new("block-cpu", processors, IDLE_TIMEOUT),
            buffers: BufPool::new(),
        }
    }
}

impl Services {
    /// Looks at all pools, the engine's first, for whoever looks into a program that hangs.
    pub fn observers(&self) -> Vec<PoolObserver> {
        let mut observers = self.engine.observers();
        observers.push(self.cpu.observer());
        observers
    }
}

impl Default for Services {
    fn default() -> Self {
        Self::new()
    }
}
