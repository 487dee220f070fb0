//! QEMU's `util` layer in Rust: what a block layer needs below the disks.
//!
//! | module | concept | QEMU |
//! |---|---|---|
//! | [`primitive`] | atomics, cells, locks and threads: std's, or loom's in a model | |
//! | [`mutant`] | orderings that a test can take away | |
//! | [`futex`] | a word that threads can sleep on | include/qemu/futex.h |
//! | [`event`] | an event that one side sets and others wait for | util/event.c |
//! | [`rcu`] | readers that write no shared memory | util/rcu.c |
//! | [`aio`] | the event loop: bottom halves, timers, file descriptors | util/async.c, util/aio-posix.c |
//! | [`task`] | futures that run in the loop's home thread | util/qemu-coroutine.c |
//! | [`sync`] | locks and queues for tasks | util/qemu-coroutine-lock.c |
//! | [`buf`] | aligned I/O buffers, recycled and sliceable | util/iov.c |
//! | [`zero`] | finding zeros as fast as memory can be read | util/bufferiszero.c |
//! | [`units`] | sizes as text | util/cutils.c |
//! | [`local_time`] | points in time as text | |
//!
//! Each module may use those above it. The crate knows nothing of disks, prints nothing and reads no environment. Every
//! atomic access says why its ordering is enough; `[pair: name]` marks the accesses and fences that belong together.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("offsets, lengths and counters are computed in 64 bits: 32-bit targets are not supported");

pub mod primitive;

pub mod mutant;

#[cfg(qemu_loom)]
#[doc(hidden)]
pub mod model;

mod panics;

pub mod futex;

pub mod event;

pub mod rcu;

mod push_list;

pub mod aio;
pub mod task;

pub mod sync;

pub mod buf;
pub mod local_time;
pub mod units;
pub mod zero;
