//! RCU under loom.

use super::{RcuCell, read_lock, synchronize};
use crate::primitive::atomic::{AtomicBool, Ordering};
use crate::primitive::{Arc, UnsafeCell, thread};

/// A value whose reading loom checks against its end of life.
struct Checked(UnsafeCell<u32>);

// SAFETY: the models below access the cell as RCU permits, and loom checks that.
unsafe impl Send for Checked {}
// SAFETY: as for `Send`.
unsafe impl Sync for Checked {}

impl Checked {
    fn new(value: u32) -> Self {
        Self(UnsafeCell::new(value))
    }

    fn get(&self) -> u32 {
        // SAFETY: written before it is published and after the last reader only; loom checks that.
        self.0.with(|value| unsafe { *value })
    }

    fn end(&self) {
        // SAFETY: after the grace period nobody else reads; loom checks that.
        self.0.with_mut(|value| unsafe { *value = u32::MAX });
    }
}

fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(3);
    builder.check(check);
}

#[test]
fn a_reader_never_sees_a_freed_value() {
    model(|| {
        let cell = Arc::new(RcuCell::new(Checked::new(1)));
        let reader = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || {
                let guard = read_lock();
                let seen = cell.read(&guard).get();
                assert!(seen == 1 || seen == 2);
            })
        };
        cell.replace_and_wait(Checked::new(2)).end();
        reader.join().unwrap();
    });
}

#[test]
fn synchronize_waits_for_a_section() {
    model(|| {
        let gone = Arc::new(AtomicBool::new(false));
        let data = Arc::new(Checked::new(1));
        let reader = {
            let (gone, data) = (Arc::clone(&gone), Arc::clone(&data));
            thread::spawn(move || {
                let _guard = read_lock();
                // Ordering: Relaxed; RCU is under test.
                if !gone.load(Ordering::Relaxed) {
                    assert_eq!(data.get(), 1);
                }
            })
        };
        gone.store(true, Ordering::Relaxed);
        synchronize();
        data.end();
        reader.join().unwrap();
    });
}
