//! A system call that a signal interrupts loses nothing: no ppoll, no epoll_wait, no futex, no read of an eventfd.

use std::io::Read;
use std::os::unix::thread::JoinHandleExt;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use qemu_util::aio::{AioContext, FdCallbacks, FdHandler};
use qemu_util::event::QemuEvent;
use qemu_util::primitive::Arc;
use qemu_util::primitive::atomic::{AtomicBool, AtomicU64, Ordering};
use qemu_util::rcu;

/// How many wake-ups each pair exchanges, at least, and how many signals come meanwhile, at least.
const N_WAKE_UPS: u64 = 20_000;
const N_SIGNALS: u64 = 20_000;

static SIGNALS: AtomicU64 = AtomicU64::new(0);

extern "C" fn count_signal(_: libc::c_int) {
    // Ordering: Relaxed, here and below; counters that order nothing.
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

fn catch_signals() {
    // Without SA_RESTART, so that every system call that can be interrupted is.
    let action = SigAction::new(SigHandler::Handler(count_signal), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing but add to an atomic, which is safe in a signal handler.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
}

fn is_enough(wake_ups: u64) -> bool {
    wake_ups >= N_WAKE_UPS && SIGNALS.load(Ordering::Relaxed) >= N_SIGNALS
}

/// Two sides that take turns, until there have been enough of them.
#[derive(Default)]
struct Turns {
    taken: AtomicU64,
    over: AtomicBool,
}

impl Turns {
    /// Whether the side shall not wait any more.
    fn is_up(&self, side: u64) -> bool {
        self.over.load(Ordering::Relaxed) || self.taken.load(Ordering::Relaxed) % 2 == side
    }

    /// Takes a turn; says whether there will be another one. The other side is to be woken in any case.
    fn take(&self) -> bool {
        let taken = 1 + self.taken.fetch_add(1, Ordering::Relaxed);
        if is_enough(taken) {
            self.over.store(true, Ordering::Relaxed);
        }
        !self.over.load(Ordering::Relaxed)
    }
}

/// Handlers that are never ready, so many that the loop sleeps in epoll.
fn quiet_handlers(ctx: &AioContext) -> Vec<(FdHandler, std::io::PipeWriter)> {
    let add = |_| {
        let (reader, writer) = std::io::pipe().unwrap();
        let fd = Arc::new(reader.try_clone().unwrap().into());
        let callbacks = FdCallbacks::on_readable(move || {
            (&reader).read_exact(&mut [0]).unwrap();
        });
        (ctx.add_fd(fd, callbacks), writer)
    };
    (0..80).map(add).collect()
}

/// Two contexts wake each other; the second one sleeps in epoll. Spawns one thread for each.
fn contexts() -> Vec<thread::JoinHandle<()>> {
    let contexts = [(); 2].map(|()| AioContext::new().unwrap());
    let turns = Arc::new(Turns::default());
    let play = |side: u64, here: &AioContext, there: &AioContext| {
        let (here, there, turns) = (here.clone(), there.clone(), Arc::clone(&turns));
        thread::spawn(move || {
            here.bind_home().unwrap();
            let _handlers = (side == 1).then(|| quiet_handlers(&here));
            let mut goes_on = true;
            while goes_on {
                while !turns.is_up(side) {
                    here.poll(true);
                }
                goes_on = turns.take();
                there.schedule_oneshot(|| {});
            }
        })
    };
    vec![play(0, &contexts[0], &contexts[1]), play(1, &contexts[1], &contexts[0])]
}

/// Two threads wake each other by events, with and without a time-out.
fn events() -> Vec<thread::JoinHandle<()>> {
    let events = [(); 2].map(|()| Arc::new(QemuEvent::new(false)));
    let turns = Arc::new(Turns::default());
    let play = |side: u64, mine: &Arc<QemuEvent>, theirs: &Arc<QemuEvent>| {
        let (mine, theirs, turns) = (Arc::clone(mine), Arc::clone(theirs), Arc::clone(&turns));
        thread::spawn(move || {
            let mut goes_on = true;
            while goes_on {
                loop {
                    mine.reset();
                    if turns.is_up(side) {
                        break;
                    }
                    match side {
                        0 => mine.wait(),
                        _ => assert!(mine.wait_timeout(Duration::from_secs(600))),
                    }
                }
                goes_on = turns.take();
                theirs.set();
            }
        })
    };
    vec![play(0, &events[0], &events[1]), play(1, &events[1], &events[0])]
}

/// A thread waits for grace periods and for the thread that calls functions after them.
fn grace_periods() -> thread::JoinHandle<()> {
    thread::spawn(|| {
        let mut n = 0;
        while !is_enough(n * 100) {
            drop(rcu::read_lock());
            rcu::synchronize();
            rcu::drain_call_rcu();
            n += 1;
        }
    })
}

#[test]
fn wake_ups_arrive_in_a_process_that_is_full_of_signals() {
    catch_signals();
    let mut threads = contexts();
    threads.extend(events());
    threads.push(grace_periods());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // The threads are joined only after this one has ended, so that none of them is signalled when it is gone.
        let storm = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for thread in &threads {
                    // SAFETY: the thread has not been joined, so that its identifier is valid.
                    let sent = unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGUSR1) };
                    assert!(sent == 0 || sent == libc::ESRCH);
                }
            }
        });
        while !threads.iter().all(thread::JoinHandle::is_finished) {
            thread::yield_now();
        }
        over.store(true, Ordering::Relaxed);
        storm.join().unwrap();
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(SIGNALS.load(Ordering::Relaxed) >= N_SIGNALS);
}
