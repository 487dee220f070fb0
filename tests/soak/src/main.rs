//! Random work on random topologies of event loops, tasks, pools, events and RCU objects.
//!
//! | file | holds |
//! |---|---|
//! | `options` | the command line |
//! | `rng` | random numbers that follow from the seed |
//! | `board` | the actors, and the watchdog that looks after them |
//! | `counts`, `ledger`, `leaks` | what was done, and what must come out even |
//! | `promise` | waiting in threads that have no event loop |
//! | `world`, `home` | what the actors of a round share; threads that serve event loops |
//! | `ops` | what is done with them |
//! | `round` | a round in which everything is mixed |
//! | `duel` | a round of one kind of wake-up between two threads, in turns |
//! | `meet` | a round of one kind of wake-up that comes at the moment of falling asleep |
//!
//! What each actor does follows from the seed; what the scheduler of the operating system makes of it does not. A round
//! that fails says its seed and number, and ends the process by a signal.

#![forbid(unsafe_code)]

mod board;
mod counts;
mod duel;
mod home;
mod leaks;
mod ledger;
mod meet;
mod ops;
mod options;
mod promise;
mod rng;
mod round;
mod world;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use options::Options;
use serde_json::Value;

/// How often the progress is shown.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::from(time.subsec_nanos()));
    let done = match options::parse(std::env::args().skip(1), clock) {
        Ok(options) => soak(&options).map_err(|error| error.to_string()),
        Err(complaint) => Err(complaint),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(complaint) => {
            complain(&complaint);
            ExitCode::FAILURE
        }
    }
}

/// Writes a line to standard error.
fn complain(line: &str) {
    writeln!(io::stderr(), "{line}").ok();
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

fn soak(options: &Options) -> io::Result<()> {
    say(&format!("soak: seed {}, for {:?}", options.seed, options.time))?;
    end_at_panics();
    board::begin_round(options.seed, options.first_round);
    board::watch(options.stall)?;
    let start = Instant::now();
    let mut shown = start;
    let mut leaks = leaks::Leaks::default();
    let mut round = options.first_round;
    while start.elapsed() < options.time {
        board::begin_round(options.seed, round);
        // Rounds of one protocol are short, and nothing else that happens makes good for what is lost in them.
        match round % 4 {
            2 => duel::run(options.seed, round),
            3 => meet::run(options.seed, round),
            _ => round::run(options.seed, round),
        }
        round += 1;
        if round - options.first_round >= 8 {
            leaks.check();
        }
        if shown.elapsed() >= PROGRESS_INTERVAL {
            shown = Instant::now();
            let (n_rounds, n_wake_ups) = (round - options.first_round, counts::wake_ups());
            say(&format!(
                "soak: {:.0} s, {n_rounds} rounds, {n_wake_ups} wake-ups, the slowest took {} us",
                start.elapsed().as_secs_f64(),
                counts::slowest_us()
            ))?;
        }
    }
    say(&report(options, round - options.first_round, start.elapsed()))
}

/// One line of JSON.
fn report(options: &Options, n_rounds: u64, elapsed: Duration) -> String {
    let mut map = counts::as_json();
    map.insert("seed".to_owned(), options.seed.into());
    map.insert("rounds".to_owned(), n_rounds.into());
    map.insert("seconds".to_owned(), elapsed.as_secs().into());
    map.insert("objects".to_owned(), ledger::made().into());
    map.insert("stalls".to_owned(), 0.into());
    Value::from(map).to_string()
}

/// A broken invariant is a panic, in any thread; the process ends there and then, with everything as it was.
fn end_at_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        complain(&format!("soak: BROKEN: {}", board::place()));
        std::process::abort();
    }));
}
