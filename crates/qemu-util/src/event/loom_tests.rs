//! `QemuEvent` under loom. A lost wake-up leaves a thread asleep, which loom reports as a deadlock.

use std::time::Duration;

use super::QemuEvent;
use crate::model::{Checked, RELAXED, explore, explore_bounded, reached};
use crate::primitive::atomic::AtomicU32;
use crate::primitive::{Arc, thread};

/// In a model every time-out is as long as the scheduler likes.
const SOME_TIME: Duration = Duration::from_secs(3600);

/// The documented use: make the condition true, then set; and reset, look, wait.
struct Condition {
    event: QemuEvent,
    value: AtomicU32,
}

impl Condition {
    fn new(set: bool) -> Arc<Self> {
        Arc::new(Self { event: QemuEvent::new(set), value: AtomicU32::new(0) })
    }

    fn advance(&self) {
        self.value.fetch_add(1, RELAXED);
        self.event.set();
    }

    fn wait_for(&self, wanted: u32) {
        loop {
            self.event.reset();
            if self.value.load(RELAXED) >= wanted {
                return;
            }
            self.event.wait();
        }
    }
}

/// An event and what is written before it is set.
struct Published {
    event: QemuEvent,
    data: Checked,
}

impl Published {
    fn new() -> Arc<Self> {
        Arc::new(Self { event: QemuEvent::new(false), data: Checked::new(0) })
    }

    fn publish(&self) {
        self.data.set(1);
        self.event.set();
    }
}

#[test]
pub(crate) fn set_against_reset_and_wait() {
    explore(|| {
        let condition = Condition::new(true);
        let setter = Arc::clone(&condition);
        let setting = thread::spawn(move || setter.advance());
        condition.wait_for(1);
        setting.join().unwrap();
    });
}

/// The same with the roles of the threads exchanged: loom begins with the other one.
#[test]
fn reset_and_wait_against_set() {
    explore(|| {
        let condition = Condition::new(true);
        let waiter = Arc::clone(&condition);
        let waiting = thread::spawn(move || waiter.wait_for(1));
        condition.advance();
        waiting.join().unwrap();
    });
}

#[test]
pub(crate) fn what_was_written_before_set_is_seen_by_who_waits() {
    explore(|| {
        let shared = Published::new();
        let setter = Arc::clone(&shared);
        let setting = thread::spawn(move || setter.publish());
        shared.event.wait();
        assert_eq!(shared.data.get(), 1);
        setting.join().unwrap();
    });
}

#[test]
pub(crate) fn what_was_written_before_set_is_seen_by_who_asks() {
    let seen = reached();
    let note_seen = seen.clone();
    explore(move || {
        let (shared, note_seen) = (Published::new(), note_seen.clone());
        let asker = Arc::clone(&shared);
        let asking = thread::spawn(move || {
            if asker.event.is_set() {
                assert_eq!(asker.data.get(), 1);
                note_seen.note();
            }
        });
        shared.publish();
        asking.join().unwrap();
    });
    assert!(seen.was_noted());
}

#[test]
pub(crate) fn a_reset_leaves_sleepers_to_the_next_set() {
    explore(|| {
        let shared = Published::new();
        let waiter = Arc::clone(&shared);
        let waiting = thread::spawn(move || {
            waiter.event.wait();
            assert_eq!(waiter.data.get(), 1);
        });
        shared.event.reset();
        shared.publish();
        waiting.join().unwrap();
    });
}

#[test]
fn two_setters() {
    explore_bounded(3, || {
        let condition = Condition::new(false);
        let setting = [(); 2].map(|()| {
            let setter = Arc::clone(&condition);
            thread::spawn(move || setter.advance())
        });
        condition.wait_for(2);
        setting.into_iter().for_each(|setter| setter.join().unwrap());
    });
}

#[test]
fn two_waiters() {
    explore_bounded(4, || {
        let shared = Published::new();
        let waiting = [(); 2].map(|()| {
            let waiter = Arc::clone(&shared);
            thread::spawn(move || {
                waiter.event.wait();
                assert_eq!(waiter.data.get(), 1);
            })
        });
        shared.publish();
        waiting.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

#[test]
fn a_timed_wait_is_woken_or_gives_up() {
    let (woken, gave_up) = (reached(), reached());
    let (note_woken, note_gave_up) = (woken.clone(), gave_up.clone());
    explore(move || {
        let shared = Published::new();
        let setter = Arc::clone(&shared);
        let setting = thread::spawn(move || setter.publish());
        if shared.event.wait_timeout(SOME_TIME) {
            assert_eq!(shared.data.get(), 1);
            note_woken.note();
        } else {
            note_gave_up.note();
        }
        setting.join().unwrap();
    });
    assert!(woken.was_noted() && gave_up.was_noted());
}

#[test]
fn a_wait_that_gave_up_can_be_repeated() {
    explore_bounded(3, || {
        let condition = Condition::new(false);
        let setter = Arc::clone(&condition);
        let setting = thread::spawn(move || setter.advance());
        condition.event.reset();
        if condition.value.load(RELAXED) == 0 {
            // Whether it is set or not: it may not keep the second wait from being woken.
            condition.event.wait_timeout(SOME_TIME);
        }
        condition.wait_for(1);
        setting.join().unwrap();
    });
}
