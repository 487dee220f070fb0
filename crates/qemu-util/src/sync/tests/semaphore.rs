use super::*;
use crate::sync::Semaphore;

#[test]
fn permits_are_counted() {
    let semaphore = Semaphore::new(3);
    assert_send_sync(&semaphore);
    let two = block_on(semaphore.acquire(2));
    assert_eq!((two.n_permits(), semaphore.available()), (2, 1));
    assert!(semaphore.try_acquire(2).is_none());
    let one = semaphore.try_acquire(1).expect("one is left");
    drop(two);
    one.forget();
    assert_eq!(semaphore.available(), 2);
    semaphore.add_permits(1);
    semaphore.add_permits(usize::MAX);
    assert_eq!(semaphore.available(), usize::MAX);
}

#[test]
fn a_large_request_is_not_overtaken() {
    let semaphore = Semaphore::new(4);
    let (held_a, held_b) = (semaphore.try_acquire(2), semaphore.try_acquire(2));
    let large = Driven::waiting(semaphore.acquire(4));
    let small = Driven::waiting(semaphore.acquire(1));
    drop(held_a);
    assert_eq!((large.n_wakes(), small.n_wakes()), (0, 0));
    assert!(semaphore.try_acquire(1).is_none(), "two are free, and reserved");
    drop(held_b);
    assert_eq!(small.n_wakes(), 0);
    drop(large.woken());
    drop(small.woken());
    assert_eq!(semaphore.available(), 4);
}

#[test]
fn a_dropped_large_request_lets_small_ones_through() {
    let semaphore = Semaphore::new(4);
    let held = semaphore.try_acquire(2);
    let large = Driven::waiting(semaphore.acquire(3));
    let (small_a, small_b) = (Driven::waiting(semaphore.acquire(1)), Driven::waiting(semaphore.acquire(1)));
    let next = Driven::waiting(semaphore.acquire(1));
    drop(large);
    let small = (small_a.woken(), small_b.woken());
    assert_eq!(next.n_wakes(), 0);
    drop(small);
    drop(next.woken());
    drop(held);
    assert_eq!(semaphore.available(), 4);
}

#[test]
fn one_release_may_serve_many() {
    let semaphore = Semaphore::new(0);
    let waiters: Vec<_> = (0..10).map(|_| Driven::waiting(semaphore.acquire(1))).collect();
    semaphore.add_permits(10);
    let permits: Vec<_> = waiters.into_iter().map(Driven::woken).collect();
    assert_eq!(semaphore.available(), 0);
    drop(permits);
    assert_eq!(semaphore.available(), 10);
}
