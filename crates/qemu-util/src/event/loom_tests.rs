//! `QemuEvent` under loom.

use super::QemuEvent;
use crate::primitive::Arc;
use crate::primitive::atomic::{AtomicU32, Ordering};
use crate::primitive::thread;

/// The documented use: make the condition true, then set.
fn waiter(event: &QemuEvent, condition: &AtomicU32, wanted: u32) {
    loop {
        event.reset();
        // Ordering: Relaxed; the event is under test.
        if condition.load(Ordering::Relaxed) >= wanted {
            return;
        }
        event.wait();
    }
}

#[test]
fn set_against_reset_and_wait() {
    loom::model(|| {
        let shared = Arc::new((QemuEvent::new(true), AtomicU32::new(0)));
        let setter = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            setter.1.store(1, Ordering::Relaxed);
            setter.0.set();
        });
        waiter(&shared.0, &shared.1, 1);
        thread.join().unwrap();
    });
}

#[test]
fn two_setters() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = Arc::new((QemuEvent::new(false), AtomicU32::new(0)));
        let threads = [(); 2].map(|()| {
            let setter = Arc::clone(&shared);
            thread::spawn(move || {
                setter.1.fetch_add(1, Ordering::Relaxed);
                setter.0.set();
            })
        });
        waiter(&shared.0, &shared.1, 2);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn two_waiters() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = Arc::new((QemuEvent::new(false), AtomicU32::new(0)));
        let threads = [(); 2].map(|()| {
            let waiter = Arc::clone(&shared);
            thread::spawn(move || {
                waiter.0.wait();
                assert_eq!(waiter.1.load(Ordering::Relaxed), 1);
            })
        });
        shared.1.store(1, Ordering::Relaxed);
        shared.0.set();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
