//! RCU under loom: values whose end loom checks against their readers.

use super::callback::{end_server, forbid_threads};
use super::cell::retire;
use super::{RcuCell, call_rcu, drain_call_rcu, read_lock, synchronize};
use crate::model::{Checked, RELAXED, explore, explore_bounded, reached};
use crate::primitive::atomic::AtomicBool;
use crate::primitive::{Arc, thread};

type Cell = Arc<RcuCell<Checked>>;

/// A cell that holds 1.
fn cell() -> Cell {
    // The thread gets its slot now: that takes a lock, which later would order more than RCU does.
    drop(read_lock());
    Arc::new(RcuCell::new(Checked::new(1)))
}

/// Reads in a section of the calling thread.
fn read(cell: &RcuCell<Checked>) -> u32 {
    let guard = read_lock();
    cell.read(&guard).get()
}

#[test]
pub(crate) fn a_reader_never_sees_a_freed_value() {
    let (old, new) = (reached(), reached());
    let (note_old, note_new) = (old.clone(), new.clone());
    explore(move || {
        let (cell, note_old, note_new) = (cell(), note_old.clone(), note_new.clone());
        let reader = Arc::clone(&cell);
        let reading = thread::spawn(move || match read(&reader) {
            1 => note_old.note(),
            seen => {
                assert_eq!(seen, 2);
                note_new.note();
            }
        });
        drop(cell.replace_and_wait(Checked::new(2)));
        reading.join().unwrap();
    });
    assert!(old.was_noted() && new.was_noted());
}

/// The same with the roles of the threads exchanged: loom begins with the other one.
#[test]
fn a_freed_value_is_never_seen_by_a_reader() {
    explore(|| {
        let cell = cell();
        let writer = Arc::clone(&cell);
        let writing = thread::spawn(move || drop(writer.replace_and_wait(Checked::new(2))));
        assert!(matches!(read(&cell), 1 | 2));
        writing.join().unwrap();
    });
}

#[test]
pub(crate) fn synchronize_waits_for_a_section() {
    explore(|| {
        let shared = Arc::new((AtomicBool::new(false), Checked::new(1)));
        let reader = Arc::clone(&shared);
        let reading = thread::spawn(move || {
            let _guard = read_lock();
            if !reader.0.load(RELAXED) {
                assert_eq!(reader.1.get(), 1);
            }
        });
        shared.0.store(true, RELAXED);
        synchronize();
        shared.1.set(2);
        reading.join().unwrap();
    });
}

#[test]
fn an_inner_section_does_not_end_the_outer_one() {
    explore(|| {
        let cell = cell();
        let reader = Arc::clone(&cell);
        let reading = thread::spawn(move || {
            let outer = read_lock();
            let seen = reader.read(&outer);
            read(&reader);
            assert_ne!(seen.get(), 0);
        });
        drop(cell.replace_and_wait(Checked::new(2)));
        reading.join().unwrap();
    });
}

/// The writer waits twice, the reader's second section holds up the second wait.
#[test]
pub(crate) fn two_grace_periods_against_two_sections() {
    explore_bounded(4, || {
        let cell = cell();
        let reader = Arc::clone(&cell);
        let reading = thread::spawn(move || [(); 2].map(|()| read(&reader)));
        drop(cell.replace_and_wait(Checked::new(2)));
        drop(cell.replace_and_wait(Checked::new(3)));
        let [first, second] = reading.join().unwrap();
        assert!(first <= second && second <= 3);
    });
}

#[test]
fn two_readers() {
    explore_bounded(3, || {
        let cell = cell();
        let reading = [(); 2].map(|()| {
            let reader = Arc::clone(&cell);
            thread::spawn(move || read(&reader))
        });
        drop(cell.replace_and_wait(Checked::new(2)));
        reading.into_iter().for_each(|reader| assert!(matches!(reader.join().unwrap(), 1 | 2)));
    });
}

#[test]
fn two_writers() {
    explore_bounded(3, || {
        let cell = cell();
        let writer = Arc::clone(&cell);
        let writing = thread::spawn(move || drop(writer.replace_and_wait(Checked::new(2))));
        let reader = Arc::clone(&cell);
        let reading = thread::spawn(move || read(&reader));
        drop(cell.replace_and_wait(Checked::new(3)));
        writing.join().unwrap();
        assert!(matches!(reading.join().unwrap(), 1..=3));
    });
}

/// No grace period in between, which would order more than the pointer does: there are no readers here.
#[test]
pub(crate) fn who_replaces_sees_what_another_thread_put_in() {
    explore(|| {
        let cell = cell();
        let writer = Arc::clone(&cell);
        let writing = thread::spawn(move || retire(&writer, Checked::new(2)));
        retire(&cell, Checked::new(3))();
        writing.join().unwrap()();
    });
}

#[test]
pub(crate) fn a_new_value_is_seen_whole() {
    explore(|| {
        let cell = cell();
        let reader = Arc::clone(&cell);
        let reading = thread::spawn(move || assert_ne!(read(&reader), 0));
        let free_old = retire(&cell, Checked::new(2));
        reading.join().unwrap();
        free_old();
    });
}

#[test]
pub(crate) fn the_server_is_woken() {
    explore_bounded(3, || {
        let called = Arc::new(Checked::new(0));
        let call = Arc::clone(&called);
        call_rcu(move || call.set(1));
        drain_call_rcu();
        assert_eq!(called.get(), 1);
        end_server();
    });
}

#[test]
fn two_threads_that_queue() {
    explore_bounded(3, || {
        let n_called = Arc::new(Checked::new(0));
        let count = || {
            let n_called = Arc::clone(&n_called);
            move || n_called.set(n_called.get() + 1)
        };
        let other = count();
        let queueing = thread::spawn(move || call_rcu(other));
        call_rcu(count());
        queueing.join().unwrap();
        end_server();
        assert_eq!(n_called.get(), 2);
    });
}

#[test]
pub(crate) fn a_reader_against_the_server() {
    explore_bounded(3, || {
        let cell = cell();
        let reader = Arc::clone(&cell);
        let reading = thread::spawn(move || read(&reader));
        cell.replace(Checked::new(2));
        end_server();
        reading.join().unwrap();
    });
}

/// The grace period of the first function may have begun before the second came.
#[test]
pub(crate) fn a_function_that_comes_late_waits_for_its_own_grace_period() {
    explore_bounded(3, || {
        let cell = cell();
        let reader = Arc::clone(&cell);
        let reading = thread::spawn(move || read(&reader));
        call_rcu(|| ());
        cell.replace(Checked::new(2));
        end_server();
        reading.join().unwrap();
    });
}

#[test]
pub(crate) fn two_threads_drain_without_a_server() {
    explore_bounded(3, || {
        forbid_threads();
        let n_called = Arc::new(Checked::new(0));
        let draining = [(); 2].map(|()| {
            let count = Arc::clone(&n_called);
            thread::spawn(move || {
                call_rcu(move || count.set(count.get() + 1));
                drain_call_rcu();
            })
        });
        draining.into_iter().for_each(|draining| draining.join().unwrap());
        assert_eq!(n_called.get(), 2);
    });
}
