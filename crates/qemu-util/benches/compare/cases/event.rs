//! `QemuEvent` beside the events that others make of a mutex and a condition variable, and beside parking.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use qemu_util::event::QemuEvent;

use super::{Group, repeat};

/// What all of them can do.
trait Event: Default + Send + Sync + 'static {
    fn set(&self);
    fn wait(&self);
    fn reset(&self);
}

struct Ours(QemuEvent);

impl Default for Ours {
    fn default() -> Self {
        Self(QemuEvent::new(false))
    }
}

impl Event for Ours {
    fn set(&self) {
        self.0.set();
    }

    fn wait(&self) {
        self.0.wait();
    }

    fn reset(&self) {
        self.0.reset();
    }
}

#[derive(Default)]
struct Std(Mutex<bool>, Condvar);

impl Event for Std {
    fn set(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.1.notify_all();
    }

    fn wait(&self) {
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !*set {
            set = self.1.wait(set).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

#[derive(Default)]
struct ParkingLot(parking_lot::Mutex<bool>, parking_lot::Condvar);

impl Event for ParkingLot {
    fn set(&self) {
        *self.0.lock() = true;
        self.1.notify_all();
    }

    fn wait(&self) {
        let mut set = self.0.lock();
        while !*set {
            self.1.wait(&mut set);
        }
    }

    fn reset(&self) {
        *self.0.lock() = false;
    }
}

fn alone<E: Event>(n: u64) -> Duration {
    let event = E::default();
    repeat(n, || {
        event.set();
        event.wait();
        event.reset();
    })
}

fn is_set<E: Event>(n: u64) -> Duration {
    let event = E::default();
    event.set();
    repeat(n, || event.wait())
}

/// Two threads wake each other in turns.
fn ping_pong<E: Event>(n: u64) -> Duration {
    let events = Arc::new((E::default(), E::default()));
    let other = Arc::clone(&events);
    let echo = thread::spawn(move || {
        for _ in 0..n {
            other.0.wait();
            other.0.reset();
            other.1.set();
        }
    });
    let start = Instant::now();
    for _ in 0..n {
        events.0.set();
        events.1.wait();
        events.1.reset();
    }
    let elapsed = start.elapsed();
    echo.join().expect("it does not panic");
    elapsed
}

fn park_alone(n: u64) -> Duration {
    let me = thread::current();
    repeat(n, || {
        me.unpark();
        thread::park();
    })
}

/// Parking may end without a reason; a counter says whose turn it is.
fn park_ping_pong(n: u64) -> Duration {
    use qemu_util::primitive::atomic::{AtomicU64, Ordering};

    // Ordering: Release and Acquire, all of them; as an event would have it.
    let turn = Arc::new(AtomicU64::new(0));
    let wait_for = |turn: &AtomicU64, wanted: u64| {
        while turn.load(Ordering::Acquire) < wanted {
            thread::park();
        }
    };
    let me = thread::current();
    let turn_of_echo = Arc::clone(&turn);
    let echo = thread::spawn(move || {
        for i in 0..n {
            wait_for(&turn_of_echo, 2 * i + 1);
            turn_of_echo.store(2 * i + 2, Ordering::Release);
            me.unpark();
        }
    });
    let start = Instant::now();
    for i in 0..n {
        turn.store(2 * i + 1, Ordering::Release);
        echo.thread().unpark();
        wait_for(&turn, 2 * i + 2);
    }
    let elapsed = start.elapsed();
    echo.join().expect("it does not panic");
    elapsed
}

pub(super) fn groups() -> Vec<Group> {
    vec![
        Group::new("event/alone", "set, wait and reset in one thread")
            .ours("QemuEvent", alone::<Ours>)
            .rival("std Mutex and Condvar", alone::<Std>)
            .rival("parking_lot Mutex and Condvar", alone::<ParkingLot>)
            .rival("std unpark and park", park_alone),
        Group::new("event/is-set", "wait for what has happened")
            .ours("QemuEvent", is_set::<Ours>)
            .rival("std Mutex and Condvar", is_set::<Std>)
            .rival("parking_lot Mutex and Condvar", is_set::<ParkingLot>),
        Group::new("event/ping-pong", "there and back between two threads")
            .ours("QemuEvent", ping_pong::<Ours>)
            .rival("std Mutex and Condvar", ping_pong::<Std>)
            .rival("parking_lot Mutex and Condvar", ping_pong::<ParkingLot>)
            .rival("std unpark and park", park_ping_pong),
    ]
}
