//! Models of the hand-off: every interleaving of two or three threads.
//!
//! The locks have no atomics of their own; what is modelled is that the internal mutex is taken and released in the right
//! places, so that no turn is lost (the model would deadlock) and no two owners meet (loom's cell would report it).

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::{CoMutex, CoQueue};
use crate::primitive::{Condvar, Mutex, thread};

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

fn poll_once_and_drop(future: impl Future) {
    let _ = pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready();
}

#[test]
fn mutex_excludes_and_hands_over() {
    loom::model(|| {
        let mutex = Arc::new(CoMutex::new(0));
        let other = Arc::clone(&mutex);
        let thread = thread::spawn(move || *block_on(other.lock()) += 1);
        *block_on(mutex.lock()) += 1;
        thread.join().expect("no panic");
        assert_eq!(*mutex.try_lock().expect("free"), 2);
    });
}

#[test]
fn mutex_waiter_that_gives_up_hands_on() {
    loom::model(|| {
        let mutex = Arc::new(CoMutex::new(0));
        let (waits, gives_up) = (Arc::clone(&mutex), Arc::clone(&mutex));
        let guard = mutex.try_lock().expect("free");
        let giving_up = thread::spawn(move || poll_once_and_drop(gives_up.lock()));
        let waiting = thread::spawn(move || *block_on(waits.lock()) += 1);
        drop(guard);
        giving_up.join().expect("no panic");
        waiting.join().expect("no panic");
        assert_eq!(*mutex.try_lock().expect("free"), 1);
    });
}

#[test]
fn queue_loses_no_wake_up() {
    loom::model(|| {
        let shared = Arc::new((CoMutex::new(false), CoQueue::new()));
        let other = Arc::clone(&shared);
        let setting = thread::spawn(move || {
            *block_on(other.0.lock()) = true;
            other.1.wake_one();
        });
        block_on(async {
            let mut set = shared.0.lock().await;
            while !*set {
                set = shared.1.wait(set).await;
            }
        });
        setting.join().expect("no panic");
    });
}
