use super::*;
use crate::sync::{CoMutex, CoMutexGuard};

#[test]
fn the_guard_gives_access_and_releases() {
    let mut mutex = CoMutex::new(1);
    assert_send_sync(&mutex);
    {
        let mut guard = block_on(mutex.lock());
        assert_send_sync(&guard);
        *guard += 1;
        assert!(mutex.try_lock().is_none());
        assert!(std::ptr::eq(CoMutexGuard::mutex(&guard), &raw const mutex));
    }
    assert_eq!(*mutex.try_lock().expect("free again"), 2);
    *mutex.get_mut() = 3;
    assert_eq!(mutex.into_inner(), 3);
}

#[test]
fn waiters_get_the_lock_in_the_order_of_their_arrival() {
    let mutex = CoMutex::new(());
    let mut guard = mutex.try_lock().expect("free");
    let waiters: Vec<_> = (0..5).map(|_| Driven::waiting(mutex.lock())).collect();
    for waiter in waiters {
        assert_eq!(waiter.n_wakes(), 0);
        drop(guard);
        assert!(mutex.try_lock().is_none(), "handed over, never free in between");
        guard = waiter.woken();
    }
    drop(guard);
    assert!(mutex.try_lock().is_some());
}

#[test]
fn a_newcomer_does_not_overtake() {
    let mutex = CoMutex::new(());
    let guard = mutex.try_lock();
    let first = Driven::waiting(mutex.lock());
    drop(guard);
    let late = Driven::waiting(mutex.lock());
    drop(first.woken());
    drop(late.woken());
}

/// Each of four waiters is dropped in turn, before and after the lock has been handed over.
#[test]
fn a_dropped_waiter_hands_on_at_every_position() {
    for released_first in [false, true] {
        for dropped in 0..4 {
            let mutex = CoMutex::new(());
            let mut guard = mutex.try_lock();
            let mut waiters: Vec<_> = (0..4).map(|_| Driven::waiting(mutex.lock())).collect();
            if released_first {
                guard = None;
            }
            drop(waiters.remove(dropped));
            drop(guard);
            for waiter in waiters {
                drop(waiter.woken());
            }
            assert!(mutex.try_lock().is_some(), "dropped {dropped}, released first: {released_first}");
        }
    }
}

#[test]
fn a_future_that_was_never_polled_holds_no_place() {
    let mutex = CoMutex::new(());
    let guard = mutex.try_lock();
    let unpolled = Driven::new(mutex.lock());
    let waiter = Driven::waiting(mutex.lock());
    drop(guard);
    drop(waiter.woken());
    drop(unpolled);
    assert!(mutex.try_lock().is_some());
}

/// A task may move to another executor while it waits: the waker of the last poll counts.
#[test]
fn the_last_waker_is_woken() {
    let mutex = CoMutex::new(());
    let guard = mutex.try_lock();
    let mut waiter = Driven::waiting(mutex.lock());
    let first = std::mem::take(&mut waiter.wakes);
    assert!(waiter.poll().is_none());
    drop(guard);
    assert_eq!(first.0.load(Ordering::Relaxed), 0);
    drop(waiter.woken());
}

/// Dropping a waker may drop a task, and with it a guard or a waiter of the same lock.
#[test]
fn wakers_are_dropped_outside_of_the_internal_mutex() {
    #[expect(dead_code, reason = "the guard is there to be dropped")]
    struct Holder(Option<CoMutexGuard<'static, ()>>);
    impl Wake for Holder {
        fn wake(self: Arc<Self>) {}
    }
    let mutex: &'static CoMutex<()> = Box::leak(Box::new(CoMutex::new(())));
    let guard = mutex.try_lock();
    let mut waiter = Box::pin(mutex.lock());
    let waker = Waker::from(Arc::new(Holder(guard)));
    assert!(waiter.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    // Replaces the last reference to the guard, which hands the lock to this very waiter.
    assert!(waiter.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert!(waiter.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

#[test]
fn debug_output_does_not_lock() {
    let mutex = CoMutex::new(5);
    let guard = mutex.try_lock().expect("free");
    assert_eq!(format!("{mutex:?} {guard:?}"), "CoMutex { locked: true, .. } 5");
}
