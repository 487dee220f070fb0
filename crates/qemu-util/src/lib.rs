//! QEMU's `util` layer in Rust: what a block layer needs below the disks.
//!
//! | module | concept | QEMU |
//! |---|---|---|
//! | [`primitive`] | atomics, cells, locks and threads: std's, or loom's in a model | |
//! | [`mutant`] | orderings that a test can take away | |
//! | [`signals`] | threads that are nobody's signal handler | util/qemu-thread-posix.c |
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
//! Each module begins with an example that can be run. Together they look like this: a loop in one thread, tasks in it,
//! a table that everybody reads without a lock, and a worker that tells the loop when it is done.
//!
//! ```
//! use qemu_util::aio::AioContext;
//! use qemu_util::rcu::{RcuCell, read_lock};
//! use qemu_util::sync::{CoMutex, oneshot};
//! use std::sync::Arc;
//!
//! let ctx = AioContext::new()?; // The thread that makes it is its home.
//! let names = Arc::new(RcuCell::new(vec!["disk0"]));
//! let journal = Arc::new(CoMutex::new(Vec::new()));
//! let (done, finished) = oneshot::channel();
//!
//! let (table, log) = (Arc::clone(&names), Arc::clone(&journal));
//! let task = ctx.spawn(async move {
//!     let size: u64 = finished.await.expect("the worker answers");
//!     log.lock().await.push(format!("{} has {size} bytes", table.read(&read_lock())[0]));
//! });
//! std::thread::spawn(move || done.send(512)); // Wakes the task in its home thread.
//! ctx.block_on(task).expect("it does not panic");
//! names.replace(vec!["disk1"]); // The old table goes when nobody reads it any more.
//! assert_eq!(*journal.try_lock().expect("nobody holds it"), ["disk0 has 512 bytes"]);
//! # std::io::Result::Ok(())
//! ```
//!
//! `examples/` has longer ones: `event_loop`, `rcu_table`, `pipeline`.
//!
//! # What belongs to the process
//!
//! Everything else belongs to a value that its user made. Two users of the crate, or two copies of it, who do not know of
//! each other get along in one process:
//!
//! | what | where | why it does not hurt |
//! |---|---|---|
//! | the RCU domain | [`rcu`] | sections and functions of others only delay reclamation; see the module |
//! | the thread `call_rcu` | [`rcu`] | made at the first use, blocks all signals, never ends: do not unload the crate |
//! | `membarrier` | [`rcu`] | registering twice is allowed, and nothing depends on who did it first |
//! | the number of a thread, the current context | [`aio`] | locals of the thread; [`aio::AioContext::current`] names the innermost loop, whosoever it is |
//! | the time zone | [`local_time`] | read with the C library, never set |
//!
//! Two copies (two versions, say) have each their own of all this: a guard of one keeps nothing of the other from being
//! freed, and their types do not mix. No signal handler is installed, no environment is read, no file descriptor is
//! inherited by programs that are executed. In the child of a `fork` that does not execute a program, the thread
//! `call_rcu` is missing: nothing of the crate may be used there.
//!
//! # Layers
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

pub mod signals;

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

#[cfg(all(test, not(qemu_loom)))]
mod two_copies_tests;

/// The examples of the README are tested with those of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
