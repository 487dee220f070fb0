//! A round in which one thread goes to sleep and another one wakes it at the same moment, again and again.
//!
//! Both set out together and pause for a random time of some nanoseconds, so that they meet at any point between the
//! last look and the sleep. A wake-up that is lost there is the last: nothing comes after it.

use std::future::poll_fn;
use std::hint::{black_box, spin_loop};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use qemu_util::aio::{AioContext, PollParams};
use qemu_util::event::QemuEvent;
use qemu_util::primitive::{Arc, Mutex};

use crate::board::Actor;
use crate::counts::{Counter, Op};
use crate::rng::Rng;

/// How often they meet in a round.
const N_MEETINGS: u64 = 20_000;

/// How often one looks for the other before it lets others run.
const LOOKS: u32 = 2000;

/// Where the two are. A meeting begins when the sleeper has arrived, and is over when it was told.
struct Place {
    arrived: Counter,
    told: Counter,
}

impl Place {
    fn await_arrival(&self, meeting: u64) {
        let mut looks = 0;
        while self.arrived.get() < meeting {
            looks += 1;
            if looks % LOOKS == 0 {
                thread::yield_now();
            }
            spin_loop();
        }
    }

    fn is_told(&self, meeting: u64) -> bool {
        self.told.get() >= meeting
    }
}

/// Passes up to about `n` processor cycles.
fn pause(rng: &mut Rng, n: u64) {
    for turn in 0..rng.below(n) {
        black_box(turn);
    }
}

/// Runs the round.
pub(crate) fn run(seed: u64, round: u64) {
    let mut rng = Rng::of(seed, round, 0);
    let name = format!("round {round} sleeper");
    match rng.below(4) {
        0 => kicks(&mut rng, name),
        1 => bottom_halves(&mut rng, name),
        2 => tasks(&mut rng, name),
        _ => events(&mut rng, name),
    }
}

/// Has `sleep` called here for each meeting, to return when told, and `wake` in another thread.
fn meet(rng: &mut Rng, name: String, op: Op, mut sleep: impl FnMut(&Place, u64), wake: impl Fn() + Send) {
    let place = Place { arrived: Counter::new(), told: Counter::new() };
    let actor = Actor::new(name);
    actor.does(op.name());
    // One may need longer than the other from here to the point of interest.
    let longest = [(1, 200), (1, 1000), (1, 5000), (500, 500)][rng.index(4)];
    let (mut ours, mut theirs) = (rng.fork(), rng.fork());
    thread::scope(|scope| {
        let there = &place;
        scope.spawn(move || {
            for meeting in 1..=N_MEETINGS {
                there.await_arrival(meeting);
                pause(&mut theirs, longest.1);
                there.told.set(meeting);
                wake();
            }
        });
        for meeting in 1..=N_MEETINGS {
            place.arrived.set(meeting);
            pause(&mut ours, longest.0);
            sleep(&place, meeting);
            actor.beat();
            op.count();
        }
    });
}

/// A context of this thread that sleeps at once.
fn sleepy_context() -> AioContext {
    let context = AioContext::new().expect("the kernel has eventfds");
    context.set_poll_params(PollParams { max: Duration::ZERO, grow: 0, shrink: 0 });
    context
}

fn poll_until_told(context: &AioContext, place: &Place, meeting: u64) {
    while !place.is_told(meeting) {
        context.poll(true);
    }
}

fn kicks(rng: &mut Rng, name: String) {
    let context = sleepy_context();
    let theirs = context.clone();
    let sleep = |place: &Place, meeting| poll_until_told(&context, place, meeting);
    meet(rng, name, Op::MeetKick, sleep, move || theirs.notify());
}

fn bottom_halves(rng: &mut Rng, name: String) {
    let context = sleepy_context();
    let bh = context.bh(|| {});
    let sleep = |place: &Place, meeting| poll_until_told(&context, place, meeting);
    meet(rng, name, Op::MeetBh, sleep, move || bh.schedule());
}

fn tasks(rng: &mut Rng, name: String) {
    let context = sleepy_context();
    // The task leaves its waker once, and is woken with it for ever.
    let left: Arc<Mutex<Option<Waker>>> = Arc::default();
    let theirs = Arc::clone(&left);
    let task = context.spawn(async move {
        let leave = poll_fn(|cx| {
            let old = theirs.lock().replace(cx.waker().clone());
            drop(old);
            Poll::Ready(())
        });
        leave.await;
        std::future::pending::<()>().await;
    });
    while left.lock().is_none() {
        context.poll(true);
    }
    let waker = left.lock().take().expect("the task has run");
    let sleep = |place: &Place, meeting| poll_until_told(&context, place, meeting);
    meet(rng, name, Op::MeetTask, sleep, move || waker.wake_by_ref());
    drop(task);
}

fn events(rng: &mut Rng, name: String) {
    let event = QemuEvent::new(false);
    let sleep = |place: &Place, meeting| {
        loop {
            event.reset();
            if place.is_told(meeting) {
                break;
            }
            event.wait();
        }
    };
    meet(rng, name, Op::MeetEvent, sleep, || event.set());
}
