//! A table that many threads search all the time and one changes now and then: readers take no lock and never wait.
//!
//! Run with `cargo run -p qemu-util --example rcu_table`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::thread;

use qemu_util::event::QemuEvent;
use qemu_util::rcu::{RcuCell, drain_call_rcu, read_lock};

/// How often the table is changed.
const N_CHANGES: u64 = 200;
/// How many threads read it.
const N_READERS: usize = 2;
/// How many entries there are in each version.
const N_ENTRIES: u64 = 16;

/// One version of the table. It is never changed, only replaced: whoever reads it sees all of it or nothing.
struct Table {
    version: u64,
    entries: BTreeMap<String, u64>,
}

impl Table {
    fn new(version: u64) -> Self {
        Self { version, entries: (0..N_ENTRIES).map(|n| (format!("node{n}"), version * n)).collect() }
    }

    /// Whether all entries belong to the same version.
    fn is_whole(&self) -> bool {
        (0..N_ENTRIES).all(|n| self.entries.get(&format!("node{n}")) == Some(&(self.version * n)))
    }
}

/// Searches until the last version is there; the number of searches.
fn search(table: &RcuCell<Table>) -> u64 {
    let mut n_searches = 0;
    loop {
        let guard = read_lock();
        let seen = table.read(&guard);
        assert!(seen.is_whole(), "a mixture of two versions");
        n_searches += 1;
        if seen.version == N_CHANGES {
            return n_searches;
        }
    }
}

fn main() -> io::Result<()> {
    run(&mut io::stdout().lock())
}

/// Changes the table while others search it.
///
/// # Errors
/// When `out` takes nothing.
pub(crate) fn run(out: &mut impl Write) -> io::Result<()> {
    let table = RcuCell::new(Table::new(0));
    let started = QemuEvent::new(false);
    let n_searches: u64 = thread::scope(|scope| {
        let readers: Vec<_> = (0..N_READERS)
            .map(|_| {
                scope.spawn(|| {
                    started.set();
                    search(&table)
                })
            })
            .collect();
        started.wait();
        for version in 1..=N_CHANGES {
            // The old version is freed later, when nobody can be searching it any more.
            table.replace(Table::new(version));
            thread::yield_now();
        }
        readers.into_iter().map(|reader| reader.join().expect("no reader saw a mixture")).sum()
    });
    // Only so that nothing is left behind when the program ends.
    drain_call_rcu();

    writeln!(out, "version: {}", table.read(&read_lock()).version)?;
    writeln!(out, "every reader saw whole tables: {}", n_searches >= N_READERS as u64)
}
