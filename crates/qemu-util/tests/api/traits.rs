//! What may be sent to another thread, shared with it, and printed. That it compiles is the test.

use std::cell::Cell;
use std::fmt::Debug;

use qemu_util::{aio, buf, event, futex, rcu, sync, task};

fn sent<T: Send + Debug>() {}
fn shared<T: Send + Sync + Debug>() {}

#[test]
fn the_loop_and_its_handles_are_used_from_any_thread() {
    shared::<aio::AioContext>();
    shared::<aio::Bh>();
    shared::<aio::Timer>();
    shared::<aio::Sleep>();
    shared::<aio::FdHandler>();
    shared::<aio::FdCallbacks>();
    shared::<aio::PollParams>();
    shared::<aio::NotHomeThread>();
    shared::<aio::HomeIsBusy>();
}

#[test]
fn a_result_need_not_be_shareable_to_be_joined() {
    shared::<task::JoinHandle<Cell<u8>>>();
    sent::<task::JoinError>();
    shared::<task::YieldNow>();
}

#[test]
fn what_a_lock_protects_need_not_be_shareable() {
    shared::<sync::CoMutex<Cell<u8>>>();
    sent::<sync::CoMutexGuard<'static, Cell<u8>>>();
    shared::<sync::CoMutexGuard<'static, u8>>();
    shared::<sync::CoRwLock<u8>>();
    shared::<sync::CoRwLockReadGuard<'static, u8>>();
    shared::<sync::CoRwLockWriteGuard<'static, u8>>();
    shared::<sync::CoQueue>();
    shared::<sync::QueueWait<'static>>();
    shared::<sync::Semaphore>();
    shared::<sync::SemaphorePermit<'static>>();
    shared::<sync::oneshot::Sender<Cell<u8>>>();
    shared::<sync::oneshot::Receiver<Cell<u8>>>();
}

#[test]
fn everything_else_is_shared_as_well() {
    shared::<event::QemuEvent>();
    shared::<futex::Futex>();
    shared::<rcu::RcuCell<Vec<u8>>>();
    shared::<buf::IoBuf>();
    shared::<buf::IoBytes>();
    shared::<buf::IoVec>();
    shared::<buf::IoVecMut>();
    shared::<buf::BufPool>();
}

/// Futures of the locks are spawned on loops in other threads.
#[test]
fn futures_are_sent() {
    fn is_sent(_: &impl Send) {}
    let (mutex, lock, semaphore) = (sync::CoMutex::new(0), sync::CoRwLock::new(0), sync::Semaphore::new(1));
    is_sent(&mutex.lock());
    is_sent(&lock.read());
    is_sent(&lock.write());
    is_sent(&semaphore.acquire(1));
    let queue = sync::CoQueue::new();
    is_sent(&queue.wait(mutex.try_lock().unwrap()));
}
