//! Two copies of the crate in one process: the one under test, `crate`, and the one that the tests depend on,
//! `::qemu_util`. Their types and their statics are different ones, as those of two versions would be.

use std::thread;
use std::time::Duration;

use ::qemu_util as other;

#[test]
fn a_section_of_one_copy_does_not_hold_up_the_other() {
    let guard = crate::rcu::read_lock();
    let cell = other::rcu::RcuCell::new(1);
    assert_eq!(cell.replace_and_wait(2), 1);
    cell.replace(3);
    other::rcu::drain_call_rcu();
    assert_eq!(*cell.read(&other::rcu::read_lock()), 3);
    drop(guard);
    crate::rcu::synchronize();
}

#[test]
fn both_copies_read_and_write_at_the_same_time() {
    let ours = crate::rcu::RcuCell::new((0, 0));
    let theirs = other::rcu::RcuCell::new((0, 0));
    thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                let guards = (crate::rcu::read_lock(), other::rcu::read_lock());
                let (first, second) = (ours.read(&guards.0), theirs.read(&guards.1));
                assert!(first.0 == first.1 && second.0 == second.1);
                if first.0 == 1000 && second.0 == 1000 {
                    return;
                }
            }
        });
        for n in 1..=1000 {
            ours.replace((n, n));
            theirs.replace((n, n));
        }
    });
    crate::rcu::drain_call_rcu();
    other::rcu::drain_call_rcu();
}

#[test]
fn a_loop_of_one_copy_runs_inside_a_task_of_the_other() {
    let outer = crate::aio::AioContext::new().unwrap();
    let task = outer.spawn(async {
        // Each copy knows its own loops only.
        assert!(crate::aio::AioContext::current().is_some());
        assert!(other::aio::AioContext::current().is_none());
        let inner = other::aio::AioContext::new().unwrap();
        let sleep = inner.sleep(Duration::from_millis(1));
        let task = inner.spawn(async move {
            sleep.await;
            other::aio::AioContext::current().is_some()
        });
        inner.block_on(task).unwrap()
    });
    assert!(outer.block_on(task).unwrap());
}

#[test]
fn wakers_of_one_copy_work_in_the_other() {
    let ours = crate::aio::AioContext::new().unwrap();
    let theirs = other::aio::AioContext::new().unwrap();
    let (sender, receiver) = other::sync::oneshot::channel();
    let task = ours.spawn(receiver);
    // The task waits before the value is sent by a thread in the other's loop.
    while ours.poll(false) {}
    let answering = thread::spawn(move || {
        theirs.bind_home().unwrap();
        theirs.block_on(async { sender.send(7).unwrap() });
    });
    assert_eq!(ours.block_on(task).unwrap(), Ok(7));
    answering.join().unwrap();
}
