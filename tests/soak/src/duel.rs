//! A round in which two threads exchange one kind of wake-up, and nothing else: no later wake-up makes good for a lost
//! one. Random pauses let each meet the other at any point between being awake and being asleep.

use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use qemu_block::aio::WorkerPool;
use qemu_util::aio::AioContext;
use qemu_util::event::QemuEvent;
use qemu_util::primitive::Mutex;
use qemu_util::rcu;

use crate::board::Actor;
use crate::counts::{self, Counter, Op};
use crate::home::poll_params;
use crate::promise::{block_on, promise};
use crate::rng::Rng;

/// What both sides see. The count of exchanges says whose turn it is, and is the condition that each waits for.
struct Ring {
    turn: Counter,
    /// When the last wake-up was sent, in nanoseconds since `start`.
    sent_ns: Counter,
    start: Instant,
    n_turns: u64,
}

impl Ring {
    fn is_my_turn(&self, side: usize) -> bool {
        let turn = self.turn.get();
        turn % 2 == side as u64 || turn >= self.n_turns
    }

    fn is_over(&self) -> bool {
        self.turn.get() >= self.n_turns
    }

    fn ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Called by the side that was woken; afterwards it wakes the other one.
    fn pass(&self) {
        counts::answered(Duration::from_nanos(self.ns().saturating_sub(self.sent_ns.get())));
        self.sent_ns.set(self.ns());
        self.turn.add(1);
    }
}

/// One side of a duel: the context that is at home in this thread, the other side's, and what both see.
struct Side<'a> {
    side: usize,
    here: &'a AioContext,
    there: &'a AioContext,
    ring: &'a Ring,
    wakers: &'a [Mutex<Option<Waker>>; 2],
    actor: Actor,
    rng: Rng,
    /// Longest pause, in turns of an empty loop.
    pause: u64,
}

impl Side<'_> {
    /// Takes a turn: passes it on, and wakes the other side by `wake`.
    fn take_turn(&mut self, op: Op, wake: impl FnOnce(&Self)) {
        op.count();
        self.actor.beat();
        self.ring.pass();
        wake(self);
        self.rng.dawdle(self.pause);
    }

    fn kicks(mut self) {
        while !self.ring.is_over() {
            while !self.ring.is_my_turn(self.side) {
                self.here.poll(true);
            }
            self.take_turn(Op::DuelKick, |side| side.there.notify());
        }
    }

    fn schedules(mut self) {
        let bh = self.there.bh(|| {});
        while !self.ring.is_over() {
            while !self.ring.is_my_turn(self.side) {
                self.here.poll(true);
            }
            self.take_turn(Op::DuelBh, |_| bh.schedule());
        }
    }

    fn wakes_tasks(mut self) {
        while !self.ring.is_over() {
            let (mine, theirs) = (&self.wakers[self.side], &self.wakers[1 - self.side]);
            self.here.block_on(poll_fn(|cx| {
                // The waker is left before the look, so that whoever makes the turn ours after the look finds it.
                let old = mine.lock().replace(cx.waker().clone());
                drop(old);
                if self.ring.is_my_turn(self.side) { Poll::Ready(()) } else { Poll::Pending }
            }));
            self.take_turn(Op::DuelTask, |_| {
                let waker = theirs.lock().take();
                waker.into_iter().for_each(Waker::wake);
            });
        }
    }
}

/// Runs the round.
pub(crate) fn run(seed: u64, round: u64) {
    let mut rng = Rng::of(seed, round, 0);
    let pause = [0, 50, 300, 3000][rng.index(4)];
    match rng.below(6) {
        0 => contexts(&mut rng, round, pause, |side| side.kicks()),
        1 => contexts(&mut rng, round, pause, |side| side.schedules()),
        2 => contexts(&mut rng, round, pause, |side| side.wakes_tasks()),
        3 => events(&mut rng, round, pause),
        4 => pool(&mut rng, round, pause),
        _ => call_rcu(&mut rng, round, pause),
    }
}

fn new_ring(n_turns: u64) -> Ring {
    Ring { turn: Counter::new(), sent_ns: Counter::new(), start: Instant::now(), n_turns }
}

/// Two event loops.
fn contexts(rng: &mut Rng, round: u64, pause: u64, play: fn(Side<'_>)) {
    let ring = new_ring(20_000);
    let wakers = [Mutex::new(None), Mutex::new(None)];
    let contexts = [(); 2].map(|()| {
        let context = AioContext::new().expect("the kernel has eventfds");
        // Who spins does not sleep, and so half of them do not.
        let spins = rng.one_in(2);
        let mut params = poll_params(rng);
        params.max = if spins { params.max } else { Duration::ZERO };
        context.set_poll_params(params);
        context
    });
    thread::scope(|scope| {
        for side in 0..2 {
            let (rng, name) = (rng.fork(), format!("round {round} side {side}"));
            let (contexts, ring, wakers) = (&contexts, &ring, &wakers);
            scope.spawn(move || {
                let (here, there) = (&contexts[side], &contexts[1 - side]);
                here.bind_home().expect("nobody polls it yet");
                play(Side { side, here, there, ring, wakers, actor: Actor::new(name), rng, pause });
            });
        }
    });
}

/// Two threads, and an event for each.
fn events(rng: &mut Rng, round: u64, pause: u64) {
    let ring = new_ring(20_000);
    let events = [QemuEvent::new(false), QemuEvent::new(false)];
    thread::scope(|scope| {
        for side in 0..2 {
            let (mut rng, actor) = (rng.fork(), Actor::new(format!("round {round} side {side}")));
            let (events, ring) = (&events, &ring);
            scope.spawn(move || {
                let (mine, theirs) = (&events[side], &events[1 - side]);
                while !ring.is_over() {
                    loop {
                        mine.reset();
                        if ring.is_my_turn(side) {
                            break;
                        }
                        mine.wait();
                    }
                    Op::DuelEvent.count();
                    actor.beat();
                    ring.pass();
                    theirs.set();
                    rng.dawdle(pause);
                }
            });
        }
    });
}

/// One job after the other, each of which meets a worker that may be about to leave.
fn pool(rng: &mut Rng, round: u64, pause: u64) {
    let actor = Actor::new(format!("round {round} pool"));
    let idle = [Duration::ZERO, Duration::from_micros(20), Duration::from_micros(100)][rng.index(3)];
    let pool = WorkerPool::new("soak-duel", 1, idle);
    for _ in 0..2000 {
        let (promise, answer) = promise();
        block_on(pool.run(|| promise.keep()));
        assert!(answer.wait(), "the pool has dropped a job");
        rng.dawdle(pause * 20);
        Op::DuelPool.count();
        actor.beat();
    }
    pool.shutdown();
}

/// One function after the other, each of which meets a thread that may be about to sleep.
fn call_rcu(rng: &mut Rng, round: u64, pause: u64) {
    let actor = Actor::new(format!("round {round} call_rcu"));
    for _ in 0..2000 {
        let (promise, answer) = promise();
        rcu::call_rcu(move || promise.keep());
        assert!(answer.wait(), "call_rcu has dropped a function");
        rng.dawdle(pause * 20);
        Op::DuelRcu.count();
        actor.beat();
    }
}
