//! Handlers for file descriptors, on real pipes.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use super::{AioContext, FdCallbacks, FdHandler, PollParams};
use crate::primitive::atomic::{AtomicUsize, Ordering};
use crate::primitive::{Arc, Mutex};

// Ordering: Relaxed for all counters in these tests; the loop under test orders them.
const RELAXED: Ordering = Ordering::Relaxed;

fn context() -> AioContext {
    AioContext::new().unwrap()
}

/// A handler that reads one byte at a time, the pipe's other end, and the number of bytes read.
fn reader(ctx: &AioContext) -> (FdHandler, PipeWriter, Arc<AtomicUsize>) {
    let (reader, writer) = std::io::pipe().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let handler = ctx.add_fd(
        descriptor(&reader),
        FdCallbacks::on_readable(move || {
            let n = (&reader).read(&mut [0]).unwrap();
            counted.fetch_add(n, RELAXED);
        }),
    );
    (handler, writer, count)
}

fn descriptor(reader: &PipeReader) -> Arc<OwnedFd> {
    Arc::new(OwnedFd::from(reader.try_clone().unwrap()))
}

#[test]
fn a_pipe_is_read_when_there_is_something() {
    let ctx = context();
    let (handler, mut writer, count) = reader(&ctx);
    while ctx.poll(false) {}
    assert_eq!(count.load(RELAXED), 0);
    writer.write_all(b"abc").unwrap();
    for n in 1..=3 {
        assert!(ctx.poll(true));
        assert_eq!(count.load(RELAXED), n);
    }
    assert!(!ctx.poll(false));
    drop(handler);
    writer.write_all(b"d").unwrap_or(());
    assert!(!ctx.poll(false));
    assert_eq!(count.load(RELAXED), 3);
}

#[test]
fn a_sleeping_loop_sees_data_and_new_handlers() {
    let ctx = context();
    let handlers = Mutex::new(Vec::new());
    let total = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..50 {
                let (reader, mut writer) = std::io::pipe().unwrap();
                let total = Arc::clone(&total);
                let fd = descriptor(&reader);
                let handler = ctx.add_fd(
                    fd,
                    FdCallbacks::on_readable(move || {
                        total.fetch_add((&reader).read(&mut [0]).unwrap(), RELAXED);
                    }),
                );
                writer.write_all(b"x").unwrap();
                handlers.lock().push((handler, writer));
            }
        });
        while total.load(RELAXED) < 50 {
            ctx.poll(true);
        }
    });
}

#[test]
fn many_descriptors_go_through_epoll() {
    let ctx = context();
    let mut pipes: Vec<_> = (0..150).map(|_| reader(&ctx)).collect();
    for round in 1..=3 {
        for (_, writer, _) in &mut pipes {
            writer.write_all(b"x").unwrap();
        }
        while pipes.iter().any(|(_, _, count)| count.load(RELAXED) < round) {
            ctx.poll(true);
        }
        let gone = pipes.split_off(pipes.len() - 40);
        drop(gone);
    }
    assert_eq!(pipes.len(), 30);
    let timer = ctx.timer(|| ());
    timer.arm_after(Duration::from_micros(100));
    while !ctx.poll(true) {}
}

#[test]
fn a_regular_file_among_many_makes_the_loop_stay_with_ppoll() {
    let ctx = context();
    let mut pipes: Vec<_> = (0..100).map(|_| reader(&ctx)).collect();
    let file = Arc::new(OwnedFd::from(std::fs::File::open("/proc/self/status").unwrap()));
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let always = ctx.add_fd(
        file,
        FdCallbacks::on_readable(move || {
            counted.fetch_add(1, RELAXED);
        }),
    );
    pipes[7].1.write_all(b"x").unwrap();
    while seen.load(RELAXED) == 0 || pipes[7].2.load(RELAXED) == 0 {
        ctx.poll(true);
    }
    drop(always);
}

#[test]
fn a_handler_may_remove_itself_and_others() {
    let ctx = context();
    let slots: Arc<Mutex<Vec<FdHandler>>> = Arc::default();
    let calls = Arc::new(AtomicUsize::new(0));
    let mut writers = Vec::new();
    for _ in 0..5 {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let (slots_inside, calls) = (Arc::clone(&slots), Arc::clone(&calls));
        let handler = ctx.add_fd(
            descriptor(&reader),
            FdCallbacks::on_readable(move || {
                calls.fetch_add(1, RELAXED);
                let all = std::mem::take(&mut *slots_inside.lock());
                drop(all);
            }),
        );
        writer.write_all(b"x").unwrap();
        writers.push((reader, writer));
        slots.lock().push(handler);
    }
    while ctx.poll(false) {}
    assert_eq!(calls.load(RELAXED), 1);
}

#[test]
fn writing_and_hanging_up() {
    let ctx = context();
    let (reader, writer) = std::io::pipe().unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let (written, hung_up) = (Arc::clone(&seen), Arc::clone(&seen));
    let writable = ctx.add_fd(
        Arc::new(OwnedFd::from(writer)),
        FdCallbacks::on_writable(move || {
            written.fetch_or(1, RELAXED);
        }),
    );
    assert!(ctx.poll(true));
    drop(writable);
    crate::rcu::drain_call_rcu();
    let readable = ctx.add_fd(
        Arc::new(OwnedFd::from(reader)),
        FdCallbacks::on_readable(move || {
            hung_up.fetch_or(2, RELAXED);
        }),
    );
    while seen.load(RELAXED) != 3 {
        ctx.poll(true);
    }
    drop(readable);
}

#[test]
fn a_ring_in_memory_is_found_by_spinning() {
    let ctx = context();
    ctx.set_poll_params(PollParams { max: Duration::from_millis(200), grow: 0, shrink: 1 });
    let (reader, mut writer) = std::io::pipe().unwrap();
    let (produced, consumed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let available = {
        let (produced, consumed) = (Arc::clone(&produced), Arc::clone(&consumed));
        move || consumed.load(RELAXED) < produced.load(RELAXED)
    };
    let consume = {
        let (produced, consumed) = (Arc::clone(&produced), Arc::clone(&consumed));
        move || consumed.store(produced.load(RELAXED), RELAXED)
    };
    let from_pipe = consume.clone();
    let fd = descriptor(&reader);
    let handler = ctx.add_fd(
        fd,
        FdCallbacks {
            read: Some(Box::new(move || {
                let _byte = (&reader).read(&mut [0]).unwrap();
                from_pipe();
            })),
            write: None,
            poll: Some(Box::new(available)),
            poll_ready: Some(Box::new(consume)),
        },
    );
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..=200 {
                produced.store(n, RELAXED);
                writer.write_all(b"x").unwrap();
                while consumed.load(RELAXED) < n {
                    thread::yield_now();
                }
            }
        });
        while consumed.load(RELAXED) < 200 {
            ctx.poll(true);
        }
    });
    drop(handler);
}

#[test]
fn a_nested_poll_consumes_what_the_outer_one_has_found() {
    let ctx = context();
    let calls = Arc::new(AtomicUsize::new(0));
    let mut kept = Vec::new();
    for _ in 0..2 {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"x").unwrap();
        let (calls, inner) = (Arc::clone(&calls), ctx.clone());
        let fd = descriptor(&reader);
        let read = move || {
            // Would block for ever if it were called a second time.
            assert_eq!((&reader).read(&mut [0]).unwrap(), 1);
            calls.fetch_add(1, RELAXED);
            inner.poll(false);
        };
        kept.push((ctx.add_fd(fd, FdCallbacks::on_readable(read)), writer));
    }
    assert!(ctx.poll(true));
    assert_eq!(calls.load(RELAXED), 2);
    assert!(!ctx.poll(false));
}

#[test]
fn a_hang_up_that_no_function_is_for_does_not_keep_the_loop_awake() {
    let ctx = context();
    let mut handlers = Vec::new();
    // Below and above the number from which on epoll is used.
    for n_handlers in [1, 100] {
        while handlers.len() < n_handlers {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(writer);
            handlers.push(ctx.add_fd(Arc::new(OwnedFd::from(reader)), FdCallbacks::default()));
        }
        // At most one round finds the handlers; later ones sleep.
        ctx.poll(false);
        let timer = ctx.timer(|| ());
        timer.arm_after(Duration::from_millis(20));
        let mut rounds = 0;
        while !ctx.poll(true) {
            rounds += 1;
        }
        assert!(rounds <= 5, "{rounds} rounds");
    }
}

#[test]
fn a_hang_up_goes_to_the_only_function() {
    let ctx = context();
    let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(other);
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let handler = ctx.add_fd(
        Arc::new(OwnedFd::from(one)),
        FdCallbacks::on_writable(move || {
            counted.fetch_add(1, RELAXED);
        }),
    );
    for round in 1..=3 {
        assert!(ctx.poll(true));
        assert_eq!(count.load(RELAXED), round);
    }
    drop(handler);
}

#[test]
fn epoll_lets_go_of_descriptors_when_few_are_left() {
    let ctx = context();
    let mut pipes: Vec<_> = (0..100).map(|_| reader(&ctx)).collect();
    ctx.poll(false);
    let (reader, _writer) = std::io::pipe().unwrap();
    let fd = descriptor(&reader);
    let open = Arc::downgrade(&fd);
    let handler = ctx.add_fd(fd, FdCallbacks::on_readable(|| ()));
    ctx.poll(false);
    drop(handler);
    pipes.truncate(10);
    crate::rcu::drain_call_rcu();
    ctx.poll(false);
    assert!(open.upgrade().is_none());
    // And takes them in again.
    pipes.extend((0..100).map(|_| self::reader(&ctx)));
    pipes[90].1.write_all(b"x").unwrap();
    while pipes[90].2.load(RELAXED) == 0 {
        ctx.poll(true);
    }
}

#[test]
fn functions_are_dropped_with_no_lock_held() {
    /// Polls when it is dropped.
    struct Polls(AioContext);
    impl Drop for Polls {
        fn drop(&mut self) {
            if self.0.is_home_thread() {
                self.0.poll(false);
            }
        }
    }
    let ctx = context();
    let mut pipes: Vec<_> = (0..100).map(|_| reader(&ctx)).collect();
    for n_left in [60, 10] {
        let (reader, _writer) = std::io::pipe().unwrap();
        let polls = Polls(ctx.clone());
        let own = move || {
            let _own = &polls;
        };
        let handler = ctx.add_fd(descriptor(&reader), FdCallbacks::on_readable(own));
        ctx.poll(false);
        drop(handler);
        pipes.truncate(n_left);
        // Now the epoll set alone keeps the functions.
        crate::rcu::drain_call_rcu();
        ctx.poll(false);
    }
}
