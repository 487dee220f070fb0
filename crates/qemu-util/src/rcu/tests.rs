//! RCU on real threads.

use std::thread;
use std::time::{Duration, Instant};

use super::{RcuCell, call_rcu, drain_call_rcu, read_lock, synchronize};
use crate::primitive::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::primitive::{Arc, Mutex};

// Ordering: Relaxed for all counters in these tests; what is under test orders them.
const RELAXED: Ordering = Ordering::Relaxed;

/// A value that knows when it was freed too early.
struct Checked {
    value: u64,
    double: u64,
    alive: Arc<AtomicUsize>,
}

impl Checked {
    fn new(value: u64, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, RELAXED);
        Self { value, double: 2 * value, alive: Arc::clone(alive) }
    }
}

impl Drop for Checked {
    fn drop(&mut self) {
        self.double = u64::MAX;
        self.alive.fetch_sub(1, RELAXED);
    }
}

#[test]
fn readers_never_see_a_freed_value() {
    let alive = Arc::new(AtomicUsize::new(0));
    let cell = RcuCell::new(Checked::new(0, &alive));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = 0;
                while !stop.load(RELAXED) {
                    let guard = read_lock();
                    let seen = cell.read(&guard);
                    for _ in 0..20 {
                        let _nested = read_lock();
                        assert_eq!(seen.double, 2 * seen.value);
                    }
                    assert!(last <= seen.value);
                    last = seen.value;
                }
            });
        }
        let end = Instant::now() + Duration::from_millis(400);
        let mut value = 0;
        while Instant::now() < end {
            value += 1;
            if value % 2 == 0 {
                cell.replace(Checked::new(value, &alive));
            } else {
                let old = cell.replace_and_wait(Checked::new(value, &alive));
                assert_eq!(old.value, value - 1);
            }
        }
        stop.store(true, RELAXED);
    });
    drain_call_rcu();
    drop(cell);
    assert_eq!(alive.load(RELAXED), 0);
}

#[test]
fn synchronize_waits_for_a_section() {
    let left = AtomicBool::new(false);
    let (entered, begun) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let left = &left;
        scope.spawn(move || {
            let guard = read_lock();
            entered.send(()).unwrap();
            thread::sleep(Duration::from_millis(5));
            left.store(true, RELAXED);
            drop(guard);
        });
        begun.recv().unwrap();
        synchronize();
        assert!(left.load(RELAXED));
    });
}

#[test]
fn guards_nest_and_may_be_dropped_in_any_order() {
    let first = read_lock();
    let second = read_lock();
    drop(first);
    assert!(std::panic::catch_unwind(synchronize).is_err());
    drop(second);
    synchronize();
}

#[test]
fn threads_may_end_while_registered() {
    thread_local! {
        static KEPT: std::cell::RefCell<Option<super::RcuGuard>> = const { std::cell::RefCell::new(None) };
    }
    for n in 0..50 {
        thread::spawn(move || {
            let guard = read_lock();
            if n % 2 == 0 {
                // Dropped by the destructor of a local, before or after that of the slot.
                KEPT.with(|kept| kept.replace(Some(guard)));
            }
        })
        .join()
        .unwrap();
    }
    synchronize();
}

#[test]
fn functions_are_called_in_order_and_a_panic_harms_nobody() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    for n in 0..100 {
        let seen = Arc::clone(&seen);
        call_rcu(move || {
            seen.lock().push(n);
            assert!(n != 50, "on purpose");
        });
    }
    drain_call_rcu();
    assert_eq!(*seen.lock(), (0..100).collect::<Vec<_>>());
}

#[test]
fn functions_from_many_threads_are_all_called() {
    const PER_THREAD: usize = if cfg!(miri) { 20 } else { 1000 };
    let called = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..PER_THREAD {
                    let called = Arc::clone(&called);
                    call_rcu(move || {
                        called.fetch_add(1, RELAXED);
                    });
                }
                drain_call_rcu();
            });
        }
    });
    assert_eq!(called.load(RELAXED), 4 * PER_THREAD);
}

#[test]
fn many_writers_wait_at_the_same_time() {
    const ROUNDS: usize = if cfg!(miri) { 5 } else { 500 };
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(RELAXED) {
                let _guard = read_lock();
                thread::yield_now();
            }
        });
        let writers: Vec<_> = (0..3).map(|_| scope.spawn(|| (0..ROUNDS).for_each(|_| synchronize()))).collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        stop.store(true, RELAXED);
    });
}

#[test]
fn a_dead_server_is_replaced() {
    let called = Arc::new(AtomicUsize::new(0));
    for _ in 0..20 {
        let call = Arc::clone(&called);
        call_rcu(move || {
            call.fetch_add(1, RELAXED);
        });
        super::callback::pretend_that_the_server_has_died();
    }
    drain_call_rcu();
    assert_eq!(called.load(RELAXED), 20);
}

#[test]
fn payloads_that_panic_do_not_stop_the_server() {
    let called = Arc::new(AtomicUsize::new(0));
    let call = Arc::clone(&called);
    call_rcu(crate::panics::tests::panic_with_bomb);
    call_rcu(move || call.store(1, RELAXED));
    drain_call_rcu();
    assert_eq!(called.load(RELAXED), 1);
}

#[test]
fn a_guard_leaked_by_a_function_ends_the_process() {
    crate::panics::tests::assert_aborts("rcu::tests::a_guard_leaked_by_a_function_ends_the_process", || {
        call_rcu(|| std::mem::forget(read_lock()));
        thread::sleep(Duration::from_secs(20));
    });
}

#[test]
fn endless_nesting_ends_the_process() {
    crate::panics::tests::assert_aborts("rcu::tests::endless_nesting_ends_the_process", || {
        std::mem::forget(read_lock());
        super::reader::nest_to_the_limit();
        std::mem::forget(read_lock());
    });
}

#[test]
fn draining_inside_a_function_panics_instead_of_waiting_for_itself() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let drain = |sender: std::sync::mpsc::Sender<bool>| {
        move || {
            let payload = std::panic::catch_unwind(drain_call_rcu).unwrap_err();
            sender.send(payload.downcast_ref::<&str>().unwrap().contains("inside a function")).unwrap();
        }
    };
    call_rcu(drain(sender.clone()));
    assert!(receiver.recv().unwrap());
    // By the server or by this thread: whoever is faster.
    call_rcu(drain(sender));
    super::callback::call_queued_here();
    assert!(receiver.recv().unwrap());
}

#[test]
fn a_function_that_is_never_called_leaks_what_it_owns() {
    let alive = Arc::new(AtomicUsize::new(0));
    let cell = RcuCell::new(Checked::new(0, &alive));
    let old = super::cell::retire(&cell, Checked::new(1, &alive));
    drop(old);
    assert_eq!(alive.load(RELAXED), 2);
}
