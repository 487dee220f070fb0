//! Functions to call after a grace period, on a thread that sleeps on a `QemuEvent` when there are none.
//!
//! The thread is made when the first function comes. If there is none to be had, functions wait in the queue, each new
//! one tries again, and [`drain_call_rcu`] does the work itself. Should the thread die, what is queued goes to a new one.
//!
//! A function leaves the queue after its grace period, never before, and is never dropped uncalled: what it owns may
//! still be in use by readers, so that leaking it is the only thing to do when it cannot be called.

use std::cell::Cell;
use std::mem::ManuallyDrop;

use super::{domain, grace, reader};
use crate::event::{EventState, QemuEvent};
use crate::mutant::{Mutant, either, is_on};
use crate::panics::{self, contain};
use crate::primitive::{Arc, Mutex, thread, thread_local};
use crate::signals::Blocked;

type Callback = ManuallyDrop<Box<dyn FnOnce() + Send>>;

thread_local! {
    /// Whether this thread is just calling queued functions.
    static CALLS: Cell<bool> = Cell::default();
}

/// What the callers and the thread share.
pub(super) struct Callbacks {
    queue: Mutex<Queue>,
    /// Set after something was queued; `serve` resets it before it looks.
    queued: QemuEvent,
    /// Held while functions are called: they are called in the order in which they were queued. The holder alone takes
    /// functions out of the queue.
    calling: Mutex<()>,
    #[cfg(qemu_loom)]
    model: model::State,
}

struct Queue {
    functions: Vec<Callback>,
    /// Whether there is a thread that serves the queue.
    is_served: bool,
}

impl Callbacks {
    #[cfg(not(qemu_loom))]
    pub(super) const fn new() -> Self {
        Self {
            queue: Mutex::new(Queue { functions: Vec::new(), is_served: false }),
            queued: QemuEvent::new(false),
            calling: Mutex::new(()),
        }
    }

    #[cfg(qemu_loom)]
    pub(super) fn new() -> Self {
        Self {
            queue: Mutex::new(Queue { functions: Vec::new(), is_served: false }),
            queued: QemuEvent::new(false),
            calling: Mutex::new(()),
            model: model::State::new(),
        }
    }

    /// Queues a function; says whether a thread will call it.
    fn push(&self, function: Callback) -> bool {
        either(Mutant::RcuSetsBeforeQueueing, || (), || self.queued.set());
        let mut queue = self.queue.lock();
        queue.functions.push(function);
        if !queue.is_served {
            queue.is_served = start_server();
        }
        let is_served = queue.is_served;
        drop(queue);
        either(Mutant::RcuSetsBeforeQueueing, || self.queued.set(), || ());
        is_served
    }

    fn serve(&self) {
        loop {
            either(Mutant::RcuServerResetsAfterLook, || self.queued.reset(), || ());
            let is_over = self.is_over();
            if self.call_queued() {
                continue;
            }
            if is_over {
                return;
            }
            either(Mutant::RcuServerResetsAfterLook, || (), || self.queued.reset());
            self.queued.wait();
        }
    }

    /// Whether the thread may end: never, except in a model, which lasts as long as its threads.
    #[cfg(not(qemu_loom))]
    #[inline]
    #[expect(clippy::unused_self, reason = "the signature of the model's")]
    fn is_over(&self) -> bool {
        false
    }

    /// Calls what is queued, after one grace period for all of it; says whether there was anything.
    fn call_queued(&self) -> bool {
        let _in_order = either(Mutant::RcuCallsWithoutLock, || Some(self.calling.lock()), || None);
        let n_functions = self.queue.lock().functions.len();
        if n_functions == 0 {
            return false;
        }
        // They stay in the queue meanwhile: should this panic, nothing is lost.
        either(Mutant::RcuCallsAtOnce, grace::synchronize, || ());
        // Those that came meanwhile are behind them, and have to wait for a grace period of their own.
        let mut queue = self.queue.lock();
        let n_functions = if is_on(Mutant::RcuCallsLatecomers) { queue.functions.len() } else { n_functions };
        let functions: Vec<_> = queue.functions.drain(..n_functions).collect();
        drop(queue);
        let outer = CALLS.with(|calls| calls.replace(true));
        for function in functions {
            // The functions of others are not to suffer from a panic.
            contain(ManuallyDrop::into_inner(function));
            // No grace period would ever end on this thread. Its owner is gone, and nobody else could end the section.
            if reader::is_inside_section() {
                panics::abort("a function of call_rcu has left a read-side section open");
            }
        }
        CALLS.with(|calls| calls.set(outer));
        true
    }
}

fn start_server() -> bool {
    #[cfg(qemu_loom)]
    if domain().callbacks.model.has_no_threads() {
        return false;
    }
    let _blocked = Blocked::here();
    let builder = thread::Builder::new().name("call_rcu".to_owned());
    let started = builder.spawn(|| {
        let _serving = Serving;
        domain().callbacks.serve();
    });
    #[cfg(qemu_loom)]
    let started = started.map(|server| domain().callbacks.model.keep(server));
    started.is_ok()
}

/// The thread serves the queue; when it dies, another one takes over.
struct Serving;

impl Drop for Serving {
    fn drop(&mut self) {
        let mut queue = domain().callbacks.queue.lock();
        // Without functions the next one that comes sees to it.
        queue.is_served = !queue.functions.is_empty() && start_server();
    }
}

/// Has `function` called after a grace period, by a thread that exists for this. Never blocks for one.
///
/// Functions are called in the order of these calls. A panic in one of them is reported and otherwise ignored. One that
/// leaks a guard of its thread ends the process, since reclamation would stand still from then on.
///
/// QEMU: `call_rcu` (include/qemu/rcu.h)
pub fn call_rcu(function: impl FnOnce() + Send + 'static) {
    domain().callbacks.push(ManuallyDrop::new(Box::new(function)));
}

/// Waits until all functions have been called that were handed to [`call_rcu`] before.
///
/// # Panics
/// Inside a read-side section of the calling thread, and inside such a function: it would wait for itself.
///
/// QEMU: `drain_call_rcu` (util/rcu.c)
pub fn drain_call_rcu() {
    assert!(
        !reader::is_inside_section(),
        "rcu::drain_call_rcu is called inside a read-side section of the same thread"
    );
    let is_called_by_one = CALLS.try_with(Cell::get).unwrap_or(false);
    assert!(!is_called_by_one, "rcu::drain_call_rcu is called inside a function of call_rcu");
    let callbacks = &domain().callbacks;
    let called = Arc::new(QemuEvent::new(false));
    let call = Arc::clone(&called);
    if !callbacks.push(ManuallyDrop::new(Box::new(move || call.set()))) {
        // There is no thread: this one does its work, or waits for one that does.
        callbacks.call_queued();
    }
    called.wait();
}

#[cfg(qemu_loom)]
mod model;

#[cfg(all(test, qemu_loom))]
pub(super) use model::{end_server, forbid_threads};

/// What the end of the thread would do.
#[cfg(all(test, not(qemu_loom)))]
pub(super) fn pretend_that_the_server_has_died() {
    drop(Serving);
}

/// Calls what is queued on this thread, as [`drain_call_rcu`] does when there is no other.
#[cfg(all(test, not(qemu_loom)))]
pub(super) fn call_queued_here() {
    domain().callbacks.call_queued();
}

/// For information, from any thread.
impl Callbacks {
    /// What the thread sleeps on.
    pub(super) fn queued_state(&self) -> EventState {
        self.queued.state()
    }

    /// Whether functions are being called.
    pub(super) fn is_calling(&self) -> bool {
        self.calling.try_lock().is_none()
    }

    /// How many functions are queued; none when the queue is locked.
    pub(super) fn try_len(&self) -> Option<usize> {
        self.queue.try_lock().map(|queue| queue.functions.len())
    }
}
