//! Read-copy-update: readers that write no shared memory, and writers that wait until no reader can see the old value.
//!
//! | file | holds |
//! |---|---|
//! | `reader` | a thread's slot, [`read_lock`], [`RcuGuard`] |
//! | `grace` | [`synchronize`]: waiting for a grace period |
//! | `callback` | [`call_rcu`], [`drain_call_rcu`] and their thread |
//! | `cell` | [`RcuCell`] |
//! | `dump` | what all of it looks like from outside |
//! | `fence` | the pair of fences of which the reader's half is almost free |
//!
//! ```
//! use qemu_util::rcu::{RcuCell, read_lock};
//!
//! let table = RcuCell::new(vec![1, 2, 3]);
//! let guard = read_lock();
//! let seen = table.read(&guard);
//! table.replace(vec![4]);
//! assert_eq!(seen, &[1, 2, 3]); // still there: the guard keeps it
//! assert_eq!(table.read(&guard), &[4]);
//! ```
//!
//! Three ways to get rid of an old value:
//!
//! ```
//! use qemu_util::rcu::{RcuCell, call_rcu, drain_call_rcu, synchronize};
//!
//! let cell = RcuCell::new(String::from("old"));
//! // 1. Wait until nobody reads it any more, and have it back.
//! assert_eq!(cell.replace_and_wait(String::from("new")), "old");
//! // 2. Do not wait: it is dropped later, on another thread.
//! cell.replace(String::from("newer"));
//! // 3. Do something else once nobody can be reading what was reachable until now; and wait for all of that.
//! let (sender, receiver) = std::sync::mpsc::channel();
//! call_rcu(move || sender.send("nobody reads it").expect("the receiver is there"));
//! drain_call_rcu();
//! assert_eq!(receiver.try_recv(), Ok("nobody reads it"));
//! // All of them are made of this one, which waits for the sections that have begun, and for none that begin later.
//! synchronize();
//! ```
//!
//! # The protocol
//!
//! The domain has a counter of grace periods, each thread a slot with the value that the counter had when the thread
//! entered its section, 0 outside.
//!
//! | reader | writer |
//! |---|---|
//! | `slot = counter` (relaxed) | replace the pointer (release) |
//! | light fence | heavy fence |
//! | read the pointer | `counter += 2` (relaxed) |
//! | ... | `waiting = 1` in each slot that was registered (relaxed) |
//! | `slot = 0` (release) | heavy fence |
//! | light fence | until each slot is 0 or equal to `counter` (acquire): sleep |
//! | `waiting` set: wake the writer | |
//!
//! Either the writer sees the slot of a reader and waits for it, or that reader's section began after the fence and
//! sees the new pointer. And either the reader sees `waiting` when it leaves, or the writer sees that it has left.
//!
//! # One domain
//!
//! There is one domain for the process, as there is one set of threads; QEMU has one, too. Users who do not know of each
//! other share it, and this is all that they notice:
//!
//! - A section that lasts delays everybody's reclamation, never anybody's reading. Sections are to be short anyway.
//! - Functions of [`call_rcu`] are called one after the other, by one thread: one that blocks holds up the others. A
//!   panic is contained.
//! - [`drain_call_rcu`] waits for everybody's functions that were queued before, not for those queued later.
//! - [`synchronize`] and [`drain_call_rcu`] panic inside a section of the same thread, whoever has begun it: do not call
//!   foreign code inside a section.
//!
//! A domain of one's own would need a slot for each thread in each domain, found by a search where there is now a load
//! from a fixed place, and a thread for each; that is a lot for the sake of users who block where they must not.
//!
//! QEMU: util/rcu.c, docs/devel/rcu.rst

mod callback;
mod cell;
mod dump;
mod fence;
mod grace;
mod reader;

pub use callback::{call_rcu, drain_call_rcu};
pub use cell::RcuCell;
#[cfg(qemu_loom)]
pub(crate) use cell::retire;
pub use dump::{RcuState, state};
pub use grace::synchronize;
pub use reader::{RcuGuard, read_lock};

use self::callback::Callbacks;
use self::grace::Grace;
use self::reader::Registry;

/// What readers and writers share.
struct Domain {
    grace: Grace,
    registry: Registry,
    callbacks: Callbacks,
}

impl Domain {
    #[cfg(not(qemu_loom))]
    const fn new() -> Self {
        Self { grace: Grace::new(), registry: Registry::new(), callbacks: Callbacks::new() }
    }

    #[cfg(qemu_loom)]
    fn new() -> Self {
        Self { grace: Grace::new(), registry: Registry::new(), callbacks: Callbacks::new() }
    }
}

#[cfg(not(qemu_loom))]
fn domain() -> &'static Domain {
    static DOMAIN: Domain = Domain::new();
    &DOMAIN
}

/// A new one for each execution of a model.
#[cfg(qemu_loom)]
fn domain() -> &'static Domain {
    loom::lazy_static! {
        static ref DOMAIN: Domain = Domain::new();
    }
    &DOMAIN
}

#[cfg(all(test, not(qemu_loom)))]
mod tests;

#[cfg(all(test, qemu_loom))]
pub(crate) mod loom_tests;
