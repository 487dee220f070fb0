//! Reading and replacing a shared value: RCU beside epochs, `arc-swap` and locks.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam_epoch::{Atomic, Owned};
use qemu_util::primitive::atomic::{AtomicPtr, Ordering};
use qemu_util::rcu::{RcuCell, drain_call_rcu, read_lock};

use super::{Group, repeat};

/// What is read: as much as decides which cache line it is on.
type Value = [u64; 8];

const VALUE: Value = [7; 8];

fn read_rcu(n: u64) -> Duration {
    let cell = RcuCell::new(VALUE);
    repeat(n, || cell.read(&read_lock())[0])
}

fn read_rcu_nested(n: u64) -> Duration {
    let cell = RcuCell::new(VALUE);
    let guard = read_lock();
    repeat(n, || cell.read(&guard)[0])
}

fn read_epoch(n: u64) -> Duration {
    let cell = Atomic::new(VALUE);
    let elapsed = repeat(n, || {
        let guard = crossbeam_epoch::pin();
        // Ordering: Acquire; what is behind the pointer is read.
        let shared = cell.load(Ordering::Acquire, &guard);
        // SAFETY: the pointer is not null, and the guard keeps what it points to.
        unsafe { shared.deref()[0] }
    });
    // SAFETY: nobody else has it.
    drop(unsafe { cell.into_owned() });
    elapsed
}

fn read_arc_swap(n: u64) -> Duration {
    let cell = ArcSwap::from_pointee(VALUE);
    repeat(n, || cell.load()[0])
}

fn read_std_lock(n: u64) -> Duration {
    let cell = RwLock::new(VALUE);
    repeat(n, || cell.read().unwrap_or_else(PoisonError::into_inner)[0])
}

fn read_parking_lot(n: u64) -> Duration {
    let cell = parking_lot::RwLock::new(VALUE);
    repeat(n, || cell.read()[0])
}

/// The pointer and what is behind it, without any protection.
fn read_plainly(n: u64) -> Duration {
    let cell = AtomicPtr::new(Box::into_raw(Box::new(VALUE)));
    let elapsed = repeat(n, || {
        // Ordering: Acquire; as the others.
        let pointer = std::hint::black_box(&cell).load(Ordering::Acquire);
        // SAFETY: it is freed below.
        unsafe { (*pointer)[0] }
    });
    // SAFETY: it comes from `Box::into_raw`, and the only user is done.
    drop(unsafe { Box::from_raw(cell.into_inner()) });
    elapsed
}

fn replace_rcu(n: u64) -> Duration {
    let cell = RcuCell::new(VALUE);
    let elapsed = repeat(n, || cell.replace(VALUE));
    drain_call_rcu();
    elapsed
}

fn replace_epoch(n: u64) -> Duration {
    let cell = Atomic::new(VALUE);
    let elapsed = repeat(n, || {
        let guard = crossbeam_epoch::pin();
        // Ordering: AcqRel; as `RcuCell::replace`.
        let old = cell.swap(Owned::new(VALUE), Ordering::AcqRel, &guard);
        // SAFETY: the swap has made it unreachable, and nobody else retires it.
        unsafe { guard.defer_destroy(old) };
    });
    // SAFETY: nobody else has it.
    drop(unsafe { cell.into_owned() });
    elapsed
}

fn replace_arc_swap(n: u64) -> Duration {
    let cell = ArcSwap::from_pointee(VALUE);
    repeat(n, || cell.store(Arc::new(VALUE)))
}

pub(super) fn groups() -> Vec<Group> {
    vec![
        Group::new("rcu/read", "enter a section, read a value, leave")
            .ours("rcu::read_lock", read_rcu)
            .variant("inside a section", read_rcu_nested)
            .rival("crossbeam_epoch::pin", read_epoch)
            .rival("arc_swap load", read_arc_swap)
            .rival("std RwLock", read_std_lock)
            .rival("parking_lot RwLock", read_parking_lot)
            .floor("a plain load", read_plainly),
        Group::new("rcu/replace", "replace a value that is freed later")
            .ours("RcuCell::replace", replace_rcu)
            .rival("crossbeam_epoch swap and defer", replace_epoch)
            .rival("arc_swap store", replace_arc_swap),
    ]
}
