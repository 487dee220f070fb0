//! Handlers for file descriptors.
//!
//! The list of handlers is replaced as a whole under a lock, by any thread, and read by the home thread under RCU. A
//! handler that is removed is marked, so that a round of the loop which has already found it ready does not call it.
//!
//! What was found about a handler is kept in the handler, and taken by whoever dispatches it: a nested poll consumes it,
//! so that the outer one does not call the functions again for something that is no longer there.
//!
//! QEMU: `AioHandler`, `aio_set_fd_handler` (util/aio-posix.c)

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::PollFlags;

use super::core::Core;
use crate::mutant::{Mutant, is_on, unless};
use crate::primitive::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::primitive::{Arc, Mutex};
use crate::rcu::{RcuCell, RcuGuard};

type Callback = Box<dyn Fn() + Send + Sync>;
type Check = Box<dyn Fn() -> bool + Send + Sync>;

/// What the home thread does about a file descriptor. Functions may add and remove handlers, also this one, and may
/// poll the context.
#[derive(Default)]
pub struct FdCallbacks {
    /// Called when there is something to read, the other side has hung up, or there is an error.
    pub read: Option<Callback>,
    /// Called when writing would not block, or there is an error; without `read` also when the other side has hung up.
    pub write: Option<Callback>,
    /// Asked while the loop spins before it sleeps: whether there is something to do, for example because a completion
    /// ring in memory is not empty. `poll_ready` is called then. It has to be short and may not wait for anything.
    ///
    /// The loop only spins when each of its handlers has both functions.
    pub poll: Option<Check>,
    /// Called after `poll` has said yes.
    pub poll_ready: Option<Callback>,
}

impl FdCallbacks {
    /// Calls `read` when there is something to read.
    pub fn on_readable(read: impl Fn() + Send + Sync + 'static) -> Self {
        Self { read: Some(Box::new(read)), ..Self::default() }
    }

    /// Calls `write` when writing would not block.
    pub fn on_writable(write: impl Fn() + Send + Sync + 'static) -> Self {
        Self { write: Some(Box::new(write)), ..Self::default() }
    }
}

impl std::fmt::Debug for FdCallbacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FdCallbacks")
            .field("read", &self.read.is_some())
            .field("write", &self.write.is_some())
            .field("poll", &self.poll.is_some())
            .finish_non_exhaustive()
    }
}

/// Beside the bits of [`PollFlags`] in [`Handler::found`]: its `poll` has said yes.
const POLLED: u32 = 1 << 16;

/// A registered descriptor.
pub(super) struct Handler {
    /// Unique in its context; never used again.
    pub(super) id: u64,
    fd: Arc<OwnedFd>,
    callbacks: FdCallbacks,
    removed: AtomicBool,
    /// What was found and not dispatched yet: [`PollFlags`] and [`POLLED`]. The home thread's.
    found: AtomicU32,
    /// It reports something that no function is for, and would do so for ever: not waited for any more. The home
    /// thread's.
    muted: AtomicBool,
}

/// A handler that was found to be ready.
pub(super) type Ready = Arc<Handler>;

impl Handler {
    /// What to wait for.
    #[cfg_attr(qemu_loom, expect(dead_code, reason = "the model of the monitor knows the eventfd alone"))]
    pub(super) fn interest(&self) -> PollFlags {
        let mut events = PollFlags::empty();
        events.set(PollFlags::POLLIN, self.callbacks.read.is_some());
        events.set(PollFlags::POLLOUT, self.callbacks.write.is_some());
        events
    }

    fn is_removed(&self) -> bool {
        // Ordering: Relaxed; a removal by another thread may come too late for this round anyway, one by the home
        // thread is seen by itself.
        self.removed.load(Ordering::Relaxed)
    }

    /// Notes what the monitor has found, instead of what was found before.
    #[cfg_attr(qemu_loom, expect(dead_code, reason = "the model of the monitor knows the eventfd alone"))]
    pub(super) fn set_found(&self, events: PollFlags) {
        let bits = u32::from(events.bits().cast_unsigned());
        // Ordering: Relaxed; only the home thread uses it.
        self.found.store(bits, Ordering::Relaxed);
    }

    #[cfg_attr(qemu_loom, expect(dead_code, reason = "the model of the monitor knows the eventfd alone"))]
    pub(super) fn is_muted(&self) -> bool {
        // Ordering: Relaxed; only the home thread uses it.
        self.muted.load(Ordering::Relaxed)
    }

    /// Calls what is due; says whether anything was.
    fn dispatch(&self, found: u32) -> bool {
        let polled = found & POLLED != 0;
        let events = u16::try_from(found & !POLLED)
            .map_or(PollFlags::empty(), |bits| PollFlags::from_bits_truncate(bits.cast_signed()));
        let broken = PollFlags::POLLERR | PollFlags::POLLNVAL;
        let readable = events.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | broken);
        // A hang-up is reported asked for or not: it goes to `write` when there is no `read`.
        let hung_up = self.callbacks.read.is_none() && events.contains(PollFlags::POLLHUP);
        let writable = hung_up || events.intersects(PollFlags::POLLOUT | broken);
        let due = [
            (polled && !readable, &self.callbacks.poll_ready),
            (readable, &self.callbacks.read),
            (writable, &self.callbacks.write),
        ];
        let mut progress = false;
        for (is_due, callback) in due {
            if let Some(callback) = callback.as_ref().filter(|_| is_due && !self.is_removed()) {
                callback();
                progress = true;
            }
        }
        progress
    }
}

impl AsFd for Handler {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The handlers of one context.
pub(super) struct Handlers {
    list: RcuCell<Vec<Arc<Handler>>>,
    /// Held while the list is replaced.
    writer: Mutex<Writer>,
    /// Changes with the list, so that the epoll set can be brought up to date.
    generation: AtomicU64,
    /// The length of the list, for information: to look at the list itself takes a read-side section.
    len: AtomicUsize,
}

struct Writer {
    next_id: u64,
    /// The context was shut down: the list stays empty.
    closed: bool,
}

impl Handlers {
    pub(super) fn new() -> Self {
        let writer = Mutex::new(Writer { next_id: 1, closed: false });
        Self { list: RcuCell::new(Vec::new()), writer, generation: AtomicU64::new(0), len: AtomicUsize::new(0) }
    }

    pub(super) fn read<'a>(&'a self, guard: &'a RcuGuard) -> &'a [Arc<Handler>] {
        self.list.read(guard)
    }

    #[cfg_attr(
        all(qemu_loom, not(test)),
        expect(dead_code, reason = "the model of the monitor knows the eventfd alone")
    )]
    pub(super) fn generation(&self) -> u64 {
        // Ordering: Acquire; the list is at least as new as the number. [pair: fd.generation]
        self.generation.load(unless(Mutant::GenerationWithoutAcquire, Ordering::Acquire, Ordering::Relaxed))
    }

    /// Replaces the list; `_writer` is the held lock.
    fn publish(&self, list: Vec<Arc<Handler>>, _writer: &Writer) {
        // Ordering: Relaxed; for information only.
        self.len.store(list.len(), Ordering::Relaxed);
        if is_on(Mutant::GenerationBeforeList) {
            self.bump_generation();
        }
        #[cfg(not(qemu_loom))]
        self.list.replace(list);
        #[cfg(qemu_loom)]
        let free = crate::rcu::retire(&self.list, list);
        if !is_on(Mutant::GenerationBeforeList) {
            self.bump_generation();
        }
        // In a model the old list is freed here: the thread that would do it never ends.
        #[cfg(qemu_loom)]
        {
            crate::rcu::synchronize();
            free();
        }
    }

    /// How many handlers there are; for information, from any thread.
    pub(super) fn len(&self) -> usize {
        // Ordering: Relaxed; for information only.
        self.len.load(Ordering::Relaxed)
    }

    fn bump_generation(&self) {
        // Ordering: Release; the list before the number. [pair: fd.generation]
        self.generation.fetch_add(1, unless(Mutant::GenerationWithoutRelease, Ordering::Release, Ordering::Relaxed));
    }

    pub(super) fn add(&self, fd: Arc<OwnedFd>, callbacks: FdCallbacks) -> Arc<Handler> {
        let mut writer = self.writer.lock();
        let handler = Arc::new(Handler {
            id: writer.next_id,
            fd,
            callbacks,
            removed: AtomicBool::new(writer.closed),
            found: AtomicU32::new(0),
            muted: AtomicBool::new(false),
        });
        writer.next_id += 1;
        if !writer.closed {
            let mut list = self.read(&crate::rcu::read_lock()).to_vec();
            list.push(Arc::clone(&handler));
            self.publish(list, &writer);
        }
        handler
    }

    fn remove(&self, handler: &Handler) {
        // Ordering: Relaxed; see `is_removed`.
        handler.removed.store(true, Ordering::Relaxed);
        let writer = self.writer.lock();
        let mut list = self.read(&crate::rcu::read_lock()).to_vec();
        let before = list.len();
        list.retain(|other| other.id != handler.id);
        if list.len() != before {
            self.publish(list, &writer);
        }
    }

    /// Has a handler that cannot be served not waited for any more. Called by the home thread.
    fn mute(&self, handler: &Handler) {
        // Ordering: Relaxed; only the home thread uses it.
        handler.muted.store(true, Ordering::Relaxed);
        self.bump_generation();
    }

    /// Removes all handlers and takes no more.
    pub(super) fn close(&self) {
        let mut writer = self.writer.lock();
        writer.closed = true;
        let list = self.read(&crate::rcu::read_lock()).to_vec();
        if list.is_empty() {
            return;
        }
        self.publish(Vec::new(), &writer);
        drop(writer);
        for handler in &list {
            // Ordering: Relaxed; see `is_removed`.
            handler.removed.store(true, Ordering::Relaxed);
        }
    }
}

/// A registered file descriptor; dropping it removes the handler.
///
/// ```
/// use qemu_util::aio::{AioContext, FdCallbacks};
/// use std::io::{Read, Write};
/// use std::sync::Arc;
///
/// let ctx = AioContext::new()?;
/// let (reader, mut writer) = std::io::pipe()?;
/// let fd = Arc::new(reader.try_clone()?.into());
/// let handler = ctx.add_fd(fd, FdCallbacks::on_readable(move || {
///     let mut byte = [0];
///     (&reader).read_exact(&mut byte).expect("it is readable");
///     assert_eq!(byte, *b"x");
/// }));
/// writer.write_all(b"x")?;
/// assert!(ctx.poll(true));
/// drop(handler);
/// # std::io::Result::Ok(())
/// ```
///
/// The descriptor stays open at least until then. The functions are dropped a little later, by any thread.
#[must_use = "dropping it removes the handler"]
pub struct FdHandler {
    core: Arc<Core>,
    handler: Arc<Handler>,
}

impl FdHandler {
    pub(super) fn new(core: Arc<Core>, fd: Arc<OwnedFd>, callbacks: FdCallbacks) -> Self {
        if is_on(Mutant::FdKicksBeforeAdding) {
            core.kick();
        }
        let handler = core.handlers.add(fd, callbacks);
        // The loop may be asleep on the list as it was.
        if !is_on(Mutant::FdKicksBeforeAdding) {
            core.kick();
        }
        Self { core, handler }
    }
}

impl Drop for FdHandler {
    fn drop(&mut self) {
        self.core.handlers.remove(&self.handler);
        self.core.kick();
    }
}

impl std::fmt::Debug for FdHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FdHandler").field("fd", &self.handler.fd).field("callbacks", &self.handler.callbacks).finish()
    }
}

impl Core {
    /// Asks the handlers' `poll` functions; none means that the loop must not spin because a handler has none, or none
    /// to call afterwards.
    pub(super) fn check_handlers(&self, guard: &RcuGuard) -> Option<smallvec::SmallVec<[Ready; 4]>> {
        let mut ready = smallvec::SmallVec::new();
        for handler in self.handlers.read(guard) {
            let check = handler.callbacks.poll.as_ref().filter(|_| handler.callbacks.poll_ready.is_some())?;
            if !handler.is_removed() && check() {
                // Ordering: Relaxed; only the home thread uses it.
                handler.found.store(POLLED, Ordering::Relaxed);
                ready.push(Arc::clone(handler));
            }
        }
        Some(ready)
    }

    /// Calls the functions of a handler that was found to be ready; says whether there were any to call.
    pub(super) fn dispatch_handler(&self, handler: &Handler) -> bool {
        // Ordering: Relaxed; only the home thread uses it.
        let found = handler.found.swap(0, Ordering::Relaxed);
        if found == 0 || handler.is_removed() {
            // A nested poll was faster, or the handler has been removed meanwhile.
            return false;
        }
        let progress = handler.dispatch(found);
        if !progress && !handler.is_removed() {
            self.handlers.mute(handler);
        }
        progress
    }
}
