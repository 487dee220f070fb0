//! No wake-up is lost, however many there are.

use std::thread;
use std::time::Duration;

use qemu_util::aio::{AioContext, Bh, PollParams};
use qemu_util::primitive::atomic::{AtomicU64, AtomicUsize, Ordering};
use qemu_util::primitive::{Arc, OnceLock};

/// How many there are: ten million in a release build, a twentieth of that in a slow one.
const N: u64 = if cfg!(debug_assertions) { 500_000 } else { 10_000_000 };

/// Balls, when there are many.
const N_BALLS: usize = 50;

/// A ball that goes from one context to the other. It is never thrown before it was caught, so that each throw is
/// exactly one call.
struct Ball {
    /// How often it is still to be caught.
    left: AtomicU64,
    /// What throws it to that player.
    throws: [OnceLock<Bh>; 2],
}

/// Two contexts, each at home in a thread of its own, throw balls back and forth.
struct Game {
    /// Throws that were caught, by player.
    caught: [AtomicU64; 2],
    /// Balls that need not be thrown any more.
    landed: AtomicUsize,
    balls: Vec<Ball>,
    /// Does nothing but wake that player.
    ends: [Bh; 2],
}

impl Game {
    /// A game of two contexts; nothing is thrown yet. Each ball is to be caught `n_each` times.
    fn new(contexts: &[AioContext; 2], n_balls: usize, n_each: u64) -> Arc<Self> {
        let ball = || Ball { left: AtomicU64::new(n_each), throws: Default::default() };
        let game = Arc::new(Self {
            caught: Default::default(),
            landed: AtomicUsize::new(0),
            balls: std::iter::repeat_with(ball).take(n_balls).collect(),
            ends: [contexts[0].bh(|| {}), contexts[1].bh(|| {})],
        });
        for (ball, state) in game.balls.iter().enumerate() {
            for (player, ctx) in contexts.iter().enumerate() {
                let theirs = Arc::clone(&game);
                let bh = ctx.bh(move || theirs.catch(ball, player));
                assert!(state.throws[player].set(bh).is_ok());
            }
        }
        game
    }

    fn throw(&self, ball: usize, to: usize) {
        self.balls[ball].throws[to].get().unwrap().schedule();
    }

    /// The ball is there: throws it back. Called in the home thread of the player.
    fn catch(&self, ball: usize, player: usize) {
        // Ordering: Relaxed, here and below; a ball is in one place at a time, a player counts in one thread, whoever
        // waits for the end is woken, and whoever adds up has joined both.
        self.caught[player].fetch_add(1, Ordering::Relaxed);
        if self.balls[ball].left.fetch_sub(1, Ordering::Relaxed) > 1 {
            self.throw(ball, 1 - player);
        } else {
            self.landed.fetch_add(1, Ordering::Relaxed);
            self.ends.iter().for_each(Bh::schedule);
        }
    }

    fn is_over(&self) -> bool {
        self.landed.load(Ordering::Relaxed) == self.balls.len()
    }
}

/// Plays until each ball has been caught `n_each` times. A throw that is lost lets it go on for ever.
fn play(n_balls: usize, n_each: u64) {
    play_with(PollParams::for_this_machine(), n_balls, n_each);
}

/// As [`play`], with contexts that spin as `polling` says before they sleep.
fn play_with(polling: PollParams, n_balls: usize, n_each: u64) {
    let contexts = [(); 2].map(|()| AioContext::new().unwrap());
    contexts.iter().for_each(|ctx| ctx.set_poll_params(polling));
    let game = Game::new(&contexts, n_balls, n_each);
    (0..n_balls).for_each(|ball| game.throw(ball, 0));
    thread::scope(|scope| {
        for ctx in &contexts {
            let game = &game;
            scope.spawn(move || {
                ctx.bind_home().unwrap();
                while !game.is_over() {
                    ctx.poll(true);
                }
            });
        }
    });
    let caught = game.caught.each_ref().map(|n| n.load(Ordering::Relaxed));
    assert_eq!(caught, [n_each / 2 * n_balls as u64; 2], "each throw is one call");
    // The functions own the game, and the game owns the handles.
    game.balls.iter().flat_map(|ball| &ball.throws).for_each(|bh| bh.get().unwrap().delete());
}

#[test]
fn one_ball_that_two_contexts_exchange_is_never_lost() {
    // Nothing that comes later makes good for a wake-up that is lost here.
    play(1, N / 10);
}

#[test]
fn one_ball_that_wakes_a_sleeping_context_each_time_is_never_lost() {
    // Who has nothing to catch goes to sleep at once, and has to be woken by the eventfd.
    let never_spin = PollParams { max: Duration::ZERO, grow: 0, shrink: 0 };
    play_with(never_spin, 1, N / 100);
}

#[test]
fn two_contexts_exchange_millions_of_wake_ups_and_lose_none() {
    play(N_BALLS, N / N_BALLS as u64);
}
