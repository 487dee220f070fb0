//! The event loop: [`AioContext`].
//!
//! | file | holds |
//! |---|---|
//! | `notify` | waking the loop: `notify_me`, the eventfd, the fences |
//! | `bh` | bottom halves |
//! | `timer` | timers |
//! | `fd`, `monitor` | handlers for file descriptors; sleeping on ppoll or epoll |
//! | `polling` | how long to spin before sleeping |
//! | `poll` | one round of the loop |
//! | `home` | which thread may do that |
//! | `dump` | what a context looks like from outside, for whoever looks into a program that hangs |
//!
//! Timers are functions ([`AioContext::timer`]) or futures ([`AioContext::sleep`]). Other threads schedule, the home
//! thread does the work:
//!
//! ```
//! use qemu_util::aio::AioContext;
//! use std::time::{Duration, Instant};
//!
//! let ctx = AioContext::new()?;
//! let start = Instant::now();
//! ctx.block_on(ctx.sleep(Duration::from_millis(2)));
//! assert!(start.elapsed() >= Duration::from_millis(2));
//!
//! let (sender, receiver) = std::sync::mpsc::channel();
//! let remote = ctx.clone();
//! std::thread::spawn(move || {
//!     remote.schedule_oneshot(move || sender.send(AioContext::current().is_some()).expect("somebody listens"));
//! });
//! while !ctx.poll(true) {}
//! assert_eq!(receiver.try_recv(), Ok(true));
//! # std::io::Result::Ok(())
//! ```
//!
//! # Nested polling
//!
//! What runs in the loop may run the loop, to wait for something without giving up its place: bottom halves, tasks,
//! timers and handlers that are due are then served from inside it.
//!
//! ```
//! use qemu_util::aio::AioContext;
//!
//! let ctx = AioContext::new()?;
//! let inner = ctx.spawn(async { "done meanwhile" });
//! let outer = ctx.clone();
//! let task = ctx.spawn(async move { outer.block_on(inner).expect("it does not panic") });
//! assert_eq!(ctx.block_on(task).expect("it does not panic"), "done meanwhile");
//! # std::io::Result::Ok(())
//! ```
//!
//! # Busy polling
//!
//! Before it sleeps, the loop spins for a moment, and learns from how long it then had to sleep whether that is worth
//! while; see [`PollParams`].
//!
//! ```
//! use qemu_util::aio::{AioContext, PollParams};
//! use std::time::Duration;
//!
//! let ctx = AioContext::new()?;
//! ctx.set_poll_params(PollParams { max: Duration::ZERO, grow: 0, shrink: 0 }); // Never spin.
//! ctx.set_poll_params(PollParams { max: Duration::from_micros(10), ..PollParams::for_this_machine() });
//! # std::io::Result::Ok(())
//! ```
//!
//! QEMU: util/async.c, util/aio-posix.c

pub(crate) mod bh;
pub(crate) mod core;
mod current;
mod dump;
mod eventfd;
mod fd;
pub(crate) mod home;
mod monitor;
mod notify;
mod poll;
mod polling;
mod timer;

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

pub use bh::Bh;
pub use dump::{AioObserver, AioState, ListState, TaskCounts};
pub use fd::{FdCallbacks, FdHandler};
pub use polling::PollParams;
pub use timer::{Sleep, Timer};

use self::core::Core;
use crate::primitive::Arc;
use crate::task::JoinHandle;

/// An event loop with a home thread: bottom halves, tasks, timers and file descriptors, all served by that thread.
///
/// The value is a handle; clones refer to the same loop. The thread that creates a context is its home thread until
/// another one calls [`bind_home`](Self::bind_home). Everything may be scheduled from any thread; [`poll`](Self::poll)
/// and [`block_on`](Self::block_on) work in the home thread only, at any level of nesting.
///
/// When the last handle is dropped, or at [`shut_down`](Self::shut_down), whatever is pending is dropped without being
/// run. Bottom halves, tasks, timers and wakers are no handles in this sense, and stay harmless afterwards. A task or
/// a function that owns a handle of its own context keeps it alive: such a program calls `shut_down`.
///
/// ```
/// use qemu_util::aio::AioContext;
///
/// let ctx = AioContext::new()?;
/// let task = ctx.spawn(async { 6 * 7 });
/// assert_eq!(ctx.block_on(task).unwrap(), 42);
/// # std::io::Result::Ok(())
/// ```
///
/// QEMU: `AioContext` (include/block/aio.h)
#[derive(Clone)]
pub struct AioContext {
    handle: Arc<Handle>,
}

/// Shuts the context down when the last handle goes.
struct Handle {
    core: Arc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Nobody is inside the loop: a poll borrows a handle.
        self.core.shut_down();
    }
}

/// The calling thread is not the home thread of the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the context is polled outside its home thread")]
pub struct NotHomeThread;

/// Another thread is inside the loop of the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the context is being polled by another thread")]
pub struct HomeIsBusy;

impl AioContext {
    /// A new context whose home is the calling thread.
    ///
    /// # Errors
    /// When the kernel has no eventfd to give.
    pub fn new() -> io::Result<Self> {
        Ok(Self { handle: Arc::new(Handle { core: Arc::new(Core::new()?) }) })
    }

    /// The innermost context whose loop the calling thread is in.
    pub fn current() -> Option<Self> {
        current::get()
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.handle.core
    }

    /// Makes the calling thread the home thread.
    ///
    /// # Errors
    /// When another thread is inside the loop.
    pub fn bind_home(&self) -> Result<(), HomeIsBusy> {
        if self.core().home.bind() { Ok(()) } else { Err(HomeIsBusy) }
    }

    /// Whether the calling thread is the home thread.
    pub fn is_home_thread(&self) -> bool {
        self.core().home.is_here()
    }

    /// One round of the loop: runs what is ready; when `blocking`, sleeps until something is. Says whether anything was
    /// done; idle bottom halves and [`notify`](Self::notify) do not count.
    ///
    /// May be called from inside bottom halves, handlers, timers and tasks of the same context. After
    /// [`shut_down`](Self::shut_down) it never sleeps.
    ///
    /// # Panics
    /// In debug builds, outside the home thread. A release build refuses: it does nothing and returns false; use
    /// [`try_poll`](Self::try_poll) to tell.
    ///
    /// QEMU: `aio_poll` (util/aio-posix.c)
    pub fn poll(&self, blocking: bool) -> bool {
        let polled = self.try_poll(blocking);
        debug_assert!(polled.is_ok(), "AioContext::poll outside the home thread of the context");
        polled.unwrap_or(false)
    }

    /// As [`poll`](Self::poll).
    ///
    /// # Errors
    /// Outside the home thread, in every build.
    pub fn try_poll(&self, blocking: bool) -> Result<bool, NotHomeThread> {
        let entered = self.core().home.enter().ok_or(NotHomeThread)?;
        let _current = current::set(self);
        Ok(self.core().poll(&entered, blocking))
    }

    /// Makes the loop go round once: a poll that sleeps, or the next one that would, returns.
    ///
    /// Memory ordering: what the caller wrote before is visible after that poll.
    ///
    /// QEMU: `aio_notify` (util/async.c)
    pub fn notify(&self) {
        self.core().kick();
    }

    /// A bottom half that calls `function` each time it has been scheduled.
    ///
    /// QEMU: `aio_bh_new` (include/block/aio.h)
    pub fn bh(&self, function: impl Fn() + Send + Sync + 'static) -> Bh {
        Bh::new(Arc::clone(self.core()), bh::Node::many(function))
    }

    /// Has `function` called once by the home thread, soon. It is dropped uncalled when the context shuts down before.
    ///
    /// QEMU: `aio_bh_schedule_oneshot` (include/block/aio.h)
    pub fn schedule_oneshot(&self, function: impl FnOnce() + Send + 'static) {
        self.core().schedule(&bh::Node::once(function), bh::Urgency::Now);
    }

    /// A timer that calls `function` each time its deadline has come. Once the context is shut down, it is never called.
    pub fn timer(&self, function: impl Fn() + Send + Sync + 'static) -> Timer {
        Timer::new(Arc::clone(self.core()), Arc::new(function))
    }

    /// A future that is ready after `duration`. It counts from now, not from the first poll.
    ///
    /// When the context shuts down it is ready early: nobody would ever wake it. It may be awaited in any executor.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(Arc::clone(self.core()), duration)
    }

    /// Has the home thread call `callbacks` when `fd` is ready, until the handle is dropped.
    ///
    /// Readiness is a level: a function that does not take what there is to read is called again in the next round.
    /// When a descriptor reports an error or a hang-up that none of the functions is for, it is no longer waited for.
    ///
    /// After [`shut_down`](Self::shut_down) the functions are never called.
    ///
    /// QEMU: `aio_set_fd_handler` (util/aio-posix.c)
    pub fn add_fd(&self, fd: Arc<OwnedFd>, callbacks: FdCallbacks) -> FdHandler {
        FdHandler::new(Arc::clone(self.core()), fd, callbacks)
    }

    /// Runs `future` as a task in the home thread. The handle is a future of its result; dropping the handle lets the
    /// task go on by itself.
    ///
    /// After [`shut_down`](Self::shut_down) the future is dropped at once, and the handle yields
    /// [`JoinError::Cancelled`](crate::task::JoinError::Cancelled).
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        crate::task::spawn(self.core(), future)
    }

    /// Runs the loop until `future` is ready. The future need not be `Send`; it may borrow from the caller.
    ///
    /// May be nested: from inside a task, other tasks of the context go on meanwhile, the calling one does not.
    ///
    /// # Panics
    /// Outside the home thread, and when the context is shut down while the future waits for something, since nobody
    /// would ever wake it.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let entered = self.core().home.enter();
        let entered = entered.expect("AioContext::block_on is called in the home thread of the context");
        let _current = current::set(self);
        crate::task::block_on(self.core(), future, |core| {
            let nested = core.home.enter().expect("this thread is inside the loop");
            core.poll(if entered.is_outermost() { &entered } else { &nested }, true);
        })
    }

    /// Sets how long the loop spins before it sleeps.
    ///
    /// QEMU: `aio_context_set_poll_params` (util/aio-posix.c)
    pub fn set_poll_params(&self, params: PollParams) {
        self.core().polling.set(params);
    }

    /// Drops everything that is pending, without running it, and refuses what comes later. Joining a dropped task yields
    /// [`JoinError::Cancelled`](crate::task::JoinError::Cancelled).
    ///
    /// A task that is running, because this is called from inside it, is dropped when it returns to the loop.
    ///
    /// # Errors
    /// Outside the home thread.
    pub fn shut_down(&self) -> Result<(), NotHomeThread> {
        let _entered = self.core().home.enter().ok_or(NotHomeThread)?;
        let _current = current::set(self);
        self.core().shut_down();
        Ok(())
    }
}

impl PartialEq for AioContext {
    /// Whether both are handles of the same loop.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.core(), other.core())
    }
}

impl Eq for AioContext {}

impl std::fmt::Debug for AioContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AioContext").field("home", &self.core().home).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(qemu_loom)))]
mod fd_tests;
#[cfg(all(test, not(qemu_loom)))]
mod hostile_tests;
#[cfg(all(test, qemu_loom))]
pub(crate) mod loom_tests;
#[cfg(all(test, not(qemu_loom)))]
mod tests;
