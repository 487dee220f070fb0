use super::*;
use crate::sync::{CoRwLock, CoRwLockWriteGuard};

#[test]
fn readers_share_and_writers_exclude() {
    let mut lock = CoRwLock::new(1);
    assert_send_sync(&lock);
    {
        let (first, second) = (block_on(lock.read()), block_on(lock.read()));
        assert_send_sync(&first);
        assert_eq!(*first + *second, 2);
        assert!(lock.try_write().is_none());
    }
    {
        let mut writer = block_on(lock.write());
        assert_send_sync(&writer);
        *writer = 2;
        assert!(lock.try_read().is_none());
        assert!(lock.try_write().is_none());
    }
    *lock.get_mut() += 1;
    assert_eq!(lock.into_inner(), 3);
}

/// Line: read read write read write; readers go in together, nobody overtakes the writer.
#[test]
fn the_line_is_fair() {
    let lock = CoRwLock::new(());
    let writer = lock.try_write();
    let (read_a, read_b) = (Driven::waiting(lock.read()), Driven::waiting(lock.read()));
    let write_c = Driven::waiting(lock.write());
    let read_d = Driven::waiting(lock.read());
    let write_e = Driven::waiting(lock.write());
    drop(writer);
    let (read_a, read_b) = (read_a.woken(), read_b.woken());
    assert!(lock.try_read().is_none(), "a writer waits");
    drop(read_a);
    assert_eq!((write_c.n_wakes(), read_d.n_wakes()), (0, 0));
    drop(read_b);
    assert_eq!(read_d.n_wakes(), 0);
    drop(write_c.woken());
    assert_eq!(write_e.n_wakes(), 0);
    drop(read_d.woken());
    drop(write_e.woken());
    assert!(lock.try_write().is_some());
}

#[test]
fn downgrading_lets_in_the_readers_at_the_head() {
    let lock = CoRwLock::new(1);
    let mut writer = lock.try_write().expect("free");
    *writer = 2;
    let (head, behind) = (Driven::waiting(lock.read()), Driven::waiting(lock.write()));
    let last = Driven::waiting(lock.read());
    let reader = CoRwLockWriteGuard::downgrade(writer);
    assert_eq!(*reader + *head.woken(), 4);
    assert_eq!((behind.n_wakes(), last.n_wakes()), (0, 0));
    drop(reader);
    drop(behind.woken());
    drop(last.woken());
    assert!(lock.try_write().is_some());
}

/// A writer that gives up no longer stands in the way of the readers behind it.
#[test]
fn a_dropped_writer_lets_the_readers_behind_it_in() {
    let lock = CoRwLock::new(());
    let reader = lock.try_read();
    let writer = Driven::waiting(lock.write());
    let (read_a, read_b) = (Driven::waiting(lock.read()), Driven::waiting(lock.read()));
    drop(writer);
    drop((read_a.woken(), read_b.woken()));
    drop(reader);
    assert!(lock.try_write().is_some());
}

#[test]
fn a_dropped_waiter_hands_on_at_every_position() {
    let wait = |lock: &'static CoRwLock<()>, writes: bool| {
        if writes {
            Driven::waiting(async { drop(lock.write().await) })
        } else {
            Driven::waiting(async { drop(lock.read().await) })
        }
    };
    for pattern in 0..16_u32 {
        for dropped in 0..4 {
            for released_first in [false, true] {
                let lock: &'static CoRwLock<()> = Box::leak(Box::default());
                let mut guard = lock.try_write();
                let mut waiters: Vec<_> = (0..4).map(|i| wait(lock, pattern >> i & 1 == 1)).collect();
                if released_first {
                    guard = None;
                }
                drop(waiters.remove(dropped));
                drop(guard);
                for waiter in waiters {
                    waiter.woken();
                }
                assert!(lock.try_write().is_some(), "pattern {pattern:b}, dropped {dropped}, {released_first}");
            }
        }
    }
}
