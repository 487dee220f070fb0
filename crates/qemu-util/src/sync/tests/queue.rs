use std::sync::Mutex;

use super::*;
use crate::sync::{CoMutex, CoQueue};

#[test]
fn waiting_releases_the_mutex_and_takes_it_again() {
    let (mutex, queue) = (CoMutex::new(1), CoQueue::new());
    assert_send_sync(&queue);
    let waiter = Driven::waiting(queue.wait(mutex.try_lock().expect("free")));
    assert!(!queue.is_empty());
    let mut guard = mutex.try_lock().expect("released by the waiter");
    *guard = 2;
    assert!(queue.wake_one());
    assert!(queue.is_empty());
    assert!(!queue.wake_one(), "nobody is left");
    let mut waiter = waiter;
    assert!(waiter.poll().is_none(), "the mutex is held");
    drop(guard);
    let guard = waiter.poll().expect("woken and free");
    assert_eq!(*guard, 2);
    assert!(mutex.try_lock().is_none());
}

/// The place is taken by the call, not by the first poll: a change in between wakes the waiter.
#[test]
fn a_wake_up_before_the_first_poll_is_not_lost() {
    let (mutex, queue) = (CoMutex::new(()), CoQueue::new());
    let mut waiter = Driven::new(queue.wait(mutex.try_lock().expect("free")));
    assert!(queue.wake_one());
    assert!(waiter.poll().is_some());
}

#[test]
fn waiters_are_woken_in_the_order_of_their_arrival() {
    let (mutex, queue) = (Mutex::new(()), CoQueue::new());
    let waiters: Vec<_> = (0..4).map(|_| Driven::waiting(queue.wait_unlocked(mutex.lock().unwrap()))).collect();
    for waiter in waiters {
        assert_eq!(waiter.n_wakes(), 0);
        assert!(queue.wake_one());
        waiter.woken();
    }
    let waiters: Vec<_> = (0..4).map(|_| Driven::waiting(queue.wait_unlocked(()))).collect();
    queue.wake_all();
    waiters.into_iter().for_each(Driven::woken);
    assert!(queue.is_empty());
}

#[test]
fn a_dropped_waiter_hands_on_at_every_position() {
    for woken_first in [false, true] {
        for dropped in 0..4 {
            let queue = CoQueue::new();
            let mut waiters: Vec<_> = (0..4).map(|_| Driven::waiting(queue.wait_unlocked(()))).collect();
            if woken_first {
                queue.wake_one();
            }
            drop(waiters.remove(dropped));
            // One wake-up was given in all, or is given now: it must be with the first who is left.
            if !woken_first {
                queue.wake_one();
            }
            let n_woken = waiters.iter().map(Driven::n_wakes).sum::<usize>();
            assert_eq!(n_woken, 1, "dropped {dropped}, woken first: {woken_first}");
            waiters.remove(0).woken();
        }
    }
}

/// Woken, but dropped while it waits for the mutex: the wake-up has not been used.
#[test]
fn a_waiter_dropped_before_it_locks_hands_on() {
    let (mutex, queue) = (CoMutex::new(()), CoQueue::new());
    let mut first = Driven::waiting(queue.wait(mutex.try_lock().expect("free")));
    let second = Driven::waiting(queue.wait(mutex.try_lock().expect("free")));
    let guard = mutex.try_lock();
    queue.wake_one();
    assert!(first.poll().is_none());
    drop(first);
    drop(guard);
    drop(second.woken());
    assert!(mutex.try_lock().is_some());
}

/// Everybody was woken: a later waiter is not owed anything.
#[test]
fn what_wake_all_gave_is_not_handed_on() {
    let (mutex, queue) = (CoMutex::new(()), CoQueue::new());
    let unused = Driven::waiting(queue.wait_unlocked(()));
    let mut locking = Driven::waiting(queue.wait(mutex.try_lock().expect("free")));
    let guard = mutex.try_lock();
    queue.wake_all();
    assert!(locking.poll().is_none());
    let later = Driven::waiting(queue.wait_unlocked(()));
    drop(unused);
    drop(locking);
    drop(guard);
    assert_eq!(later.n_wakes(), 0);
    assert!(!queue.is_empty());
}

/// A waker that panics.
struct BadWaker;

impl std::task::Wake for BadWaker {
    fn wake(self: std::sync::Arc<Self>) {
        crate::panics::tests::panic_with_bomb();
    }
}

#[test]
fn a_panicking_waker_does_not_cost_the_others_their_turn() {
    let queue = CoQueue::new();
    let bad = std::task::Waker::from(std::sync::Arc::new(BadWaker));
    let mut first = std::pin::pin!(queue.wait_unlocked(()));
    assert!(first.as_mut().poll(&mut std::task::Context::from_waker(&bad)).is_pending());
    let others = [(); 3].map(|()| Driven::waiting(queue.wait_unlocked(())));
    queue.wake_all();
    assert!(others.iter().all(|other| other.n_wakes() == 1));
}

/// A waker that looks at the queue when it is dropped; with the lock held that would be a deadlock.
struct Curious(std::sync::Arc<CoQueue>);

impl std::task::Wake for Curious {
    fn wake(self: std::sync::Arc<Self>) {}
}

impl Drop for Curious {
    fn drop(&mut self) {
        assert!(!self.0.is_empty());
    }
}

#[test]
fn wakers_are_dropped_with_no_lock_held() {
    let queue = std::sync::Arc::new(CoQueue::new());
    let (wait, _last) = (queue.wait_unlocked(()), queue.wait_unlocked(()));
    let mut wait = std::pin::pin!(wait);
    for _ in 0..3 {
        let waker = std::task::Waker::from(std::sync::Arc::new(Curious(std::sync::Arc::clone(&queue))));
        assert!(wait.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
    }
}
