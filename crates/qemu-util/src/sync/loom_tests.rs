//! Models of the hand-off.
//!
//! The locks have no atomics of their own; what is modelled is that the internal mutex is taken and released in the right
//! places, so that no turn is lost (the model would deadlock) and no two owners meet (loom's cell would report it).

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Wake, Waker};

use super::{CoMutex, CoQueue, CoRwLock, CoRwLockWriteGuard, Semaphore, oneshot};
use crate::model::{Checked, explore, explore_bounded, reached};
use crate::primitive::{Arc, Condvar, Mutex, thread};

#[derive(Default)]
struct Parker {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        *self.woken.lock() = true;
        self.changed.notify_one();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let parker = Arc::new(Parker::default());
    let waker = Waker::from(Arc::clone(&parker));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        let mut woken = parker.woken.lock();
        while !*woken {
            woken = parker.changed.wait(woken);
        }
        *woken = false;
    }
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A future that has been polled, by a task that shows no interest in it any more, and has to wait.
fn waiting<T>(future: impl Future<Output = T> + Send + 'static) -> Boxed<T> {
    let mut future: Boxed<T> = Box::pin(future);
    assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    future
}

/// Guards borrow what they lock: an object of a model that goes through several threads lasts for ever.
fn leaked<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

#[test]
pub(crate) fn mutex_excludes_and_hands_over() {
    explore(|| {
        let mutex = Arc::new(CoMutex::new(0));
        let other = Arc::clone(&mutex);
        let locking = thread::spawn(move || *block_on(other.lock()) += 1);
        *block_on(mutex.lock()) += 1;
        locking.join().unwrap();
        assert_eq!(*mutex.try_lock().unwrap(), 2);
    });
}

#[test]
fn three_lock_a_mutex() {
    explore_bounded(3, || {
        let mutex = leaked(CoMutex::new(0));
        let locking = [(); 2].map(|()| thread::spawn(|| *block_on(mutex.lock()) += 1));
        *block_on(mutex.lock()) += 1;
        locking.into_iter().for_each(|locking| locking.join().unwrap());
        assert_eq!(*mutex.try_lock().unwrap(), 3);
    });
}

/// The waiter gives up before or after it was handed the lock.
#[test]
pub(crate) fn mutex_waiter_that_gives_up_hands_on() {
    explore_bounded(4, || {
        let mutex = leaked(CoMutex::new(0));
        let guard = mutex.try_lock().unwrap();
        let gives_up = waiting(mutex.lock());
        let giving_up = thread::spawn(move || drop(gives_up));
        let locking = thread::spawn(|| *block_on(mutex.lock()) += 1);
        drop(guard);
        giving_up.join().unwrap();
        locking.join().unwrap();
        assert_eq!(*mutex.try_lock().unwrap(), 1);
    });
}

/// One of three in the line gives up while the lock goes from one to the next; the others get it in their order.
#[test]
fn a_waiter_gives_up_in_the_middle_of_the_line() {
    explore_bounded(3, || {
        let mutex = leaked(CoMutex::new(Vec::new()));
        let guard = mutex.try_lock().unwrap();
        let note = |name| async move { mutex.lock().await.push(name) };
        let [first, gives_up, last] = ["first", "gives up", "last"].map(|name| waiting(note(name)));
        let giving_up = thread::spawn(move || drop(gives_up));
        let locking = thread::spawn(move || block_on(last));
        drop(guard);
        block_on(first);
        giving_up.join().unwrap();
        locking.join().unwrap();
        assert_eq!(*mutex.try_lock().unwrap(), ["first", "last"]);
    });
}

#[test]
pub(crate) fn a_waiter_is_polled_by_another_task() {
    explore(|| {
        let mutex = leaked(CoMutex::new(0));
        let guard = mutex.try_lock().unwrap();
        let lock = waiting(mutex.lock());
        let locking = thread::spawn(move || *block_on(lock) += 1);
        drop(guard);
        locking.join().unwrap();
        assert_eq!(*mutex.try_lock().unwrap(), 1);
    });
}

/// The first in the line asks for more than there is, the second for less.
#[test]
pub(crate) fn who_gives_up_lets_the_next_one_in() {
    explore(|| {
        let semaphore = leaked(Semaphore::new(1));
        let (gives_up, modest) = (waiting(semaphore.acquire(2)), waiting(semaphore.acquire(1)));
        let giving_up = thread::spawn(move || drop(gives_up));
        drop(block_on(modest));
        giving_up.join().unwrap();
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn permits_are_not_lost() {
    explore_bounded(3, || {
        let semaphore = leaked(Semaphore::new(2));
        let data = leaked(Checked::new(0));
        let acquiring = thread::spawn(move || {
            let _all = block_on(semaphore.acquire(2));
            data.set(1);
        });
        let reading = thread::spawn(move || {
            let _one = block_on(semaphore.acquire(1));
            data.get()
        });
        let one = block_on(semaphore.acquire(1));
        data.get();
        drop(one);
        acquiring.join().unwrap();
        reading.join().unwrap();
        assert_eq!(semaphore.available(), 2);
    });
}

#[test]
fn readers_and_a_writer_exclude_each_other() {
    explore_bounded(3, || {
        let lock = leaked(CoRwLock::new(0));
        let reading = thread::spawn(|| assert!(*block_on(lock.read()) <= 1));
        let writing = thread::spawn(|| *block_on(lock.write()) += 1);
        assert!(*block_on(lock.read()) <= 1);
        reading.join().unwrap();
        writing.join().unwrap();
        assert_eq!(*lock.try_read().unwrap(), 1);
    });
}

#[test]
fn nobody_comes_between_a_writer_and_its_reading() {
    explore_bounded(3, || {
        let lock = leaked(CoRwLock::new(0));
        let mut writer = lock.try_write().unwrap();
        let reading = waiting(lock.read());
        let writing = thread::spawn(|| *block_on(lock.write()) += 10);
        let reading = thread::spawn(move || assert_eq!(*block_on(reading), 1));
        *writer = 1;
        let reader = CoRwLockWriteGuard::downgrade(writer);
        assert_eq!(*reader, 1);
        drop(reader);
        reading.join().unwrap();
        writing.join().unwrap();
        assert_eq!(*lock.try_read().unwrap(), 11);
    });
}

#[test]
pub(crate) fn a_reader_does_not_overtake_a_writer() {
    explore(|| {
        let lock = leaked(CoRwLock::new(0));
        let reader = lock.try_read().unwrap();
        let writer = waiting(lock.write());
        let late = thread::spawn(|| {
            if let Some(late) = lock.try_read() {
                assert_eq!(*late, 1);
            }
        });
        drop(reader);
        *block_on(writer) += 1;
        late.join().unwrap();
    });
}

#[test]
pub(crate) fn queue_loses_no_wake_up() {
    explore(|| {
        let (is_set, queue) = leaked((CoMutex::new(false), CoQueue::new()));
        let setting = thread::spawn(|| {
            *block_on(is_set.lock()) = true;
            queue.wake_one();
        });
        block_on(async {
            let mut is_set = is_set.lock().await;
            while !*is_set {
                is_set = queue.wait(is_set).await;
            }
        });
        setting.join().unwrap();
    });
}

/// The first waiter is dropped before or after it was woken.
#[test]
pub(crate) fn a_dropped_waiter_hands_its_wake_up_on() {
    explore_bounded(4, || {
        let queue = leaked(CoQueue::new());
        let (dropped, waits) = (queue.wait_unlocked(()), queue.wait_unlocked(()));
        let dropping = thread::spawn(move || drop(dropped));
        let waking = thread::spawn(|| queue.wake_one());
        block_on(waits);
        dropping.join().unwrap();
        assert!(waking.join().unwrap());
    });
}

#[test]
pub(crate) fn a_waiter_dropped_while_it_locks_hands_its_wake_up_on() {
    explore(|| {
        let (mutex, queue) = leaked((CoMutex::new(()), CoQueue::new()));
        let mut dropped = waiting(queue.wait(mutex.try_lock().unwrap()));
        let waits = queue.wait(mutex.try_lock().unwrap());
        let guard = mutex.try_lock().unwrap();
        queue.wake_one();
        // It is woken, and waits for the mutex.
        assert!(dropped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let dropping = thread::spawn(move || drop(dropped));
        drop(guard);
        drop(block_on(waits));
        dropping.join().unwrap();
        assert!(mutex.try_lock().is_some());
    });
}

#[test]
fn a_value_is_received_once() {
    explore(|| {
        let (sender, receiver) = oneshot::channel();
        let sending = thread::spawn(move || sender.send(Checked::new(1)).is_ok());
        assert_eq!(block_on(receiver).unwrap().get(), 1);
        assert!(sending.join().unwrap());
    });
}

#[test]
pub(crate) fn a_receiver_is_polled_by_another_task() {
    explore(|| {
        let (sender, receiver) = oneshot::channel();
        let receiver = waiting(receiver);
        let sending = thread::spawn(move || sender.send(Checked::new(1)).is_ok());
        assert_eq!(block_on(receiver).unwrap().get(), 1);
        assert!(sending.join().unwrap());
    });
}

#[test]
pub(crate) fn a_dropped_sender_ends_the_wait() {
    explore(|| {
        let (sender, receiver) = oneshot::channel::<u32>();
        let dropping = thread::spawn(move || drop(sender));
        assert_eq!(block_on(receiver), Err(oneshot::Cancelled));
        dropping.join().unwrap();
    });
}

/// The value comes back to the sender, or it is dropped with the channel: by one of the two, once.
#[test]
fn send_against_a_receiver_that_is_dropped() {
    let (sent, came_back) = (reached(), reached());
    let (note_sent, note_came_back) = (sent.clone(), came_back.clone());
    explore(move || {
        let value = Arc::new(());
        let (sender, receiver) = oneshot::channel();
        let receiver = waiting(receiver);
        let dropping = thread::spawn(move || drop(receiver));
        match sender.send(Arc::clone(&value)) {
            Ok(()) => note_sent.note(),
            Err(_) => note_came_back.note(),
        }
        dropping.join().unwrap();
        assert_eq!(Arc::strong_count(&value), 1);
    });
    assert!(sent.was_noted() && came_back.was_noted());
}
