//! The harness finds what it is there to find.

use crash::campaign::{DEPTH, all_shapes};
use crash::judge::{Depth, judge_all};
use crash::sector::{Tag, bytes_of, is_guest_data, tag_of};
use crash::session::{Plan, Trace, run};
use crash::shape::Shape;
use qemu_block::mem::{Event, LogEntry};

/// Only our own check and the guest's disk.
const QUICK: Depth = Depth { reference: 0, afterlife: 0 };

fn shape(name: &str) -> Shape {
    all_shapes().into_iter().find(|shape| shape.name == name).expect("a shape of that name")
}

fn session(name: &str, seed: u64) -> Trace {
    run(Plan::random(&shape(name), seed, 24))
}

/// What the disks would have recorded had they not kept some of their promises: those flushes cover nothing.
fn without_flushes(name: &str, seed: u64, is_ignored: impl Fn(usize) -> bool) -> Trace {
    let mut trace = session(name, seed);
    let mut n_flushes = 0;
    trace.events.retain(|event| {
        let Event::FlushDone { .. } = event else { return true };
        n_flushes += 1;
        !is_ignored(n_flushes - 1)
    });
    trace
}

#[test]
fn a_disk_that_ignores_flushes_is_caught() {
    for name in ["512", "4k", "64k", "4k-base", "4k-wide"] {
        let trace = without_flushes(name, 1, |_| true);
        let violation = judge_all(&trace, QUICK).expect_err("flushed data is lost");
        assert!(violation.place.kept.is_some(), "with all changes in order nothing is lost: {violation:?}");
    }
}

/// A disk that keeps all promises but one. Not each one matters: some flushes cover nothing that anything depends on.
#[test]
fn a_single_missing_barrier_is_caught() {
    let n_flushes = session("4k", 2).events.iter().filter(|event| matches!(event, Event::FlushDone { .. })).count();
    let is_caught = |n: &usize| judge_all(&without_flushes("4k", 2, |flush| flush == *n), QUICK).is_err();
    let n_caught = (0..n_flushes).filter(is_caught).count();
    assert!(n_flushes > 10 && n_caught >= 5, "{n_caught} of {n_flushes}");
}

/// Data that lands at another sector's place, or metadata that goes astray.
#[test]
fn misplaced_writes_are_caught() {
    let mut n_caught = 0;
    for n in 0..12 {
        let mut trace = session("4k", 3 + n);
        let mut changes = trace.events.iter_mut().filter_map(|event| match event {
            Event::Changed { change: LogEntry::Write { offset, data }, .. } => Some((offset, data)),
            _ => None,
        });
        let (offset, data) = changes.nth(5).expect("so many writes");
        if is_guest_data(data) {
            *data = bytes_of(Tag::of(1, false), 7000, data.len() as u64 / 512);
        } else {
            *offset += 512;
        }
        n_caught += usize::from(judge_all(&trace, QUICK).is_err());
    }
    assert!(n_caught >= 10, "{n_caught} of 12");
}

#[test]
fn the_same_seed_is_the_same_session() {
    for name in ["4k", "4k-wide"] {
        let changes = |trace: Trace| {
            let events = trace.events.into_iter();
            events.filter(|event| matches!(event, Event::Changed { .. } | Event::Note(_))).collect::<Vec<_>>()
        };
        assert_eq!(changes(session(name, 9)), changes(session(name, 9)));
        assert_ne!(changes(session(name, 9)), changes(session(name, 10)));
    }
    let judged = || judge_all(&session("512-base", 5), DEPTH).expect("survives");
    assert_eq!(judged(), judged());
}

#[test]
fn sectors_say_who_wrote_them() {
    for noise in [false, true] {
        let tag = Tag::of(7, noise);
        let mut bytes = bytes_of(tag, 5, 2);
        assert_eq!((tag_of(&bytes[..512], 5), tag_of(&bytes[512..], 6)), (Ok(tag), Ok(tag)));
        assert!(tag_of(&bytes[..512], 6).is_err(), "another sector's");
        assert!(is_guest_data(&bytes));
        bytes[511] ^= 1;
        assert!(tag_of(&bytes[..512], 5).is_err(), "a part of it is not");
    }
    assert_eq!(tag_of(&[0; 512], 5), Ok(Tag::ZERO));
    let mut almost = [0; 512];
    almost[300] = 1;
    assert!(tag_of(&almost, 5).is_err());
}
