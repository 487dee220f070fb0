//! The actors that must not stand still, and the watchdog that looks after them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use qemu_util::primitive::{Arc, Mutex, thread};

use crate::counts::Counter;
use crate::{complain, counts};

static ACTORS: Mutex<Vec<Arc<Entry>>> = Mutex::new(Vec::new());
static SEED: Counter = Counter::new();
static ROUND: Counter = Counter::new();

#[derive(Debug)]
struct Entry {
    name: String,
    beats: Counter,
    doing: Mutex<&'static str>,
}

/// Somebody who is expected to make progress until it is dropped.
#[derive(Debug)]
pub(crate) struct Actor(Arc<Entry>);

impl Actor {
    pub(crate) fn new(name: String) -> Self {
        let entry = Arc::new(Entry { name, beats: Counter::new(), doing: Mutex::new("starts") });
        ACTORS.lock().push(Arc::clone(&entry));
        Self(entry)
    }

    /// Progress: what was done before is over, and this begins.
    pub(crate) fn does(&self, what: &'static str) {
        *self.0.doing.lock() = what;
        self.beat();
    }

    /// Progress with what it does.
    pub(crate) fn beat(&self) {
        self.0.beats.add(1);
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        ACTORS.lock().retain(|entry| !Arc::ptr_eq(entry, &self.0));
    }
}

/// Notes which round runs.
pub(crate) fn begin_round(seed: u64, round: u64) {
    SEED.set(seed);
    ROUND.set(round);
}

/// How to come back to where we are.
pub(crate) fn place() -> String {
    format!("seed {}, round {}", SEED.get(), ROUND.get())
}

/// Starts the thread that ends the process when an actor makes no progress for `limit`.
pub(crate) fn watch(limit: Duration) -> std::io::Result<()> {
    let watchdog = move || {
        let mut last: HashMap<String, (u64, Instant)> = HashMap::new();
        loop {
            std::thread::sleep(limit / 20);
            let actors: Vec<_> = ACTORS.lock().clone();
            last.retain(|name, _| actors.iter().any(|actor| actor.name == *name));
            for actor in &actors {
                let beats = actor.beats.get();
                let seen = last.entry(actor.name.clone()).or_insert((beats, Instant::now()));
                if seen.0 != beats {
                    *seen = (beats, Instant::now());
                } else if seen.1.elapsed() > limit {
                    stand_still(&actors, actor, limit);
                }
            }
        }
    };
    thread::Builder::new().name("watchdog".to_owned()).spawn(watchdog).map(drop)
}

/// Reports a stall and ends the process by a signal, so that a debugger or a core file can tell more.
fn stand_still(actors: &[Arc<Entry>], who: &Entry, limit: Duration) -> ! {
    let mut report = format!("soak: STALL: {}: '{}' stands still for {limit:?}\n", place(), who.name);
    for actor in actors {
        let doing = actor.doing.try_lock().map_or("(changes)", |doing| *doing);
        writeln!(report, "  actor {}: {doing}, after {} steps", actor.name, actor.beats.get()).ok();
    }
    report.push_str(&threads());
    complain(&report);
    complain(&serde_json::Value::from(counts::as_json()).to_string());
    std::process::abort();
}

/// What the kernel says that our threads wait for.
fn threads() -> String {
    let mut report = String::new();
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |name| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let (name, place, call) = (read("comm"), read("wchan"), read("syscall"));
        let number = call.split_whitespace().next().unwrap_or("?");
        writeln!(report, "  thread {}: {}, system call {number}", name.trim(), place.trim()).ok();
    }
    report
}
