//! Command lines of `qemu-img`, run in this process on disks in memory that fail.
//!
//! When a request that the result depends on fails, the exit status says so, and what is left is no damaged image. When
//! the exit status is that of success, the result is complete.

use std::collections::HashMap;
use std::fmt;

use qemu_block::mem::{Fault, MemDisk, MemOp, Recorder, When};
use qemu_block::types::{OpenFlags, WriteFlags};
use qemu_util::buf::IoBuf;

use crate::bench::{Bench, IMAGE};
use crate::executor::block_on;
use crate::look::{look, look_live};
use crate::sector::{SECTOR, Tag, bytes_of};
use crate::states::{Place, Visitor, for_each_state};

/// A command line and what it is run on.
pub struct Case {
    /// The command line.
    pub line: &'static str,
    /// Makes the disks.
    pub prepare: fn(&Bench),
    /// The disks that the command uses and that were prepared, or that it makes.
    pub disks: &'static [&'static str],
    /// Requests that may fail without the command failing: nothing of the result depends on closing what was only read,
    /// nor on giving back space.
    pub spared: &'static [(&'static str, MemOp)],
    /// Whether the result is what it should be after success.
    pub is_done: fn(&Bench) -> Result<(), String>,
    /// Whether what is left after a failure, or when the power goes meanwhile, is what it may be.
    pub is_sound: fn(&Bench) -> Result<(), String>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("line", &self.line).finish_non_exhaustive()
    }
}

const KINDS: [MemOp; 7] =
    [MemOp::Read, MemOp::Write, MemOp::Zero, MemOp::Discard, MemOp::Flush, MemOp::Truncate, MemOp::Close];

/// The prepared disks, without what happened to them so far.
fn prepared(case: &Case) -> Bench {
    let bench = Bench::new();
    (case.prepare)(&bench);
    for name in case.disks {
        bench.insert(name, bench.disk(name).fork());
    }
    bench
}

/// Runs the command again and again, each time with another request to one of its disks failing; returns how often it
/// failed because of that.
///
/// # Panics
/// If it fails without a fault, succeeds in spite of one that matters, or leaves what it must not.
#[must_use]
pub fn fail_everywhere(case: &Case, faults: &[Fault]) -> u64 {
    let bench = prepared(case);
    assert!(bench.command(case.line), "{case:?} fails without a fault");
    let counts = |bench: &Bench| {
        let ops = |name: &'static str| KINDS.map(|op| (name, op, bench.disk(name).control().count(op)));
        case.disks.iter().flat_map(|name| ops(name)).collect::<Vec<_>>()
    };
    let counts = counts(&bench);
    (case.is_done)(&bench).unwrap_or_else(|complaint| panic!("{case:?} without a fault: {complaint}"));
    let mut n_points = 0;
    for (name, op, count) in counts {
        for when in (1..=count).flat_map(|n| [When::Nth(n), When::From(n)]) {
            let fault = faults[usize::try_from(n_points).expect("few") % faults.len()];
            fail_once(case, name, op, when, fault);
            n_points += 1;
        }
    }
    n_points
}

fn fail_once(case: &Case, name: &'static str, op: MemOp, when: When, fault: Fault) {
    let bench = prepared(case);
    bench.disk(name).control().inject(Some(op), when, fault);
    let succeeded = bench.command(case.line);
    let (When::Nth(n) | When::From(n)) = when;
    let fired = bench.disk(name).control().count(op) >= n;
    for name in case.disks {
        bench.disk(name).control().heal();
    }
    let what = format!("{case:?}: {op:?} of '{name}', {when:?}, {fault:?}");
    // Giving space back is a favour, and so is making zeros without writing them.
    let is_favour = matches!(op, MemOp::Discard | MemOp::Zero);
    let matters = !is_favour && !case.spared.contains(&(name, op));
    assert!(!(succeeded && fired && matters), "{what}: the exit status says that all is well");
    let judged = if succeeded { (case.is_done)(&bench) } else { (case.is_sound)(&bench) };
    judged.unwrap_or_else(|complaint| panic!("{what}: {complaint}"));
}

/// Judges what is left of the disks of a command.
struct Judge<'c> {
    bench: Bench,
    case: &'c Case,
    /// What is known about disks, by their digests and whether the command had ended.
    known: HashMap<(Vec<u64>, bool), Result<(), String>>,
    /// Whether the command fails, so that nothing has to be complete after it ended.
    fails: bool,
    n_states: u64,
}

impl<'c> Judge<'c> {
    fn new(case: &'c Case) -> Self {
        let judge = Self { bench: Bench::new(), case, known: HashMap::new(), fails: false, n_states: 0 };
        // What is not among the disks of the case is as it was prepared.
        (case.prepare)(&judge.bench);
        judge
    }
}

impl Visitor for Judge<'_> {
    fn remark(&mut self, _note: usize) -> bool {
        false
    }

    fn visit(&mut self, disks: &[MemDisk], place: Place, ended: bool) -> Result<(), String> {
        self.n_states += 1;
        let ended = ended && !self.fails;
        let key = (disks.iter().map(MemDisk::digest).collect(), ended);
        let (bench, case) = (&self.bench, self.case);
        let verdict = self.known.entry(key).or_insert_with(|| {
            case.disks.iter().zip(disks).for_each(|(name, disk)| bench.insert(name, disk.fork()));
            if ended { (case.is_done)(bench) } else { (case.is_sound)(bench) }
        });
        verdict.clone().map_err(|complaint| format!("{place}: {complaint}"))
    }
}

/// Runs the command, and judges all that a power cut could leave, meanwhile and after it ended; returns how many states
/// that were.
///
/// # Panics
/// If the command fails, and at the first state that must not be.
#[must_use]
pub fn cut_everywhere(case: &Case) -> u64 {
    let (start, bench, recorder) = recorded(case);
    assert!(bench.command(case.line), "{case:?} fails");
    let mut judge = Judge::new(case);
    let judged = for_each_state(&start, &recorder.take(), 1, &mut judge);
    judged.unwrap_or_else(|complaint| panic!("{case:?}: {complaint}"));
    judge.n_states
}

/// The prepared disks as they are, and on a bench whose disks are recorded.
fn recorded(case: &Case) -> (Vec<MemDisk>, Bench, Recorder) {
    let bench = prepared(case);
    let start = case.disks.iter().map(|name| bench.disk(name).fork()).collect();
    let recorder = Recorder::new();
    for (i, name) in case.disks.iter().enumerate() {
        bench.disk(name).record(&recorder, i);
    }
    (start, bench, recorder)
}

/// Lets each request that changes a disk fail once, and judges all that a power cut could leave then, meanwhile and
/// after the command gave up; returns how many states that were.
///
/// # Panics
/// At the first state that must not be.
#[must_use]
pub fn cut_after_failures(case: &Case, faults: &[Fault]) -> u64 {
    let bench = prepared(case);
    assert!(bench.command(case.line), "{case:?} fails without a fault");
    let mut judge = Judge::new(case);
    let mut n_points = 0;
    for name in case.disks {
        for op in [MemOp::Write, MemOp::Zero, MemOp::Flush, MemOp::Truncate] {
            for n in 1..=bench.disk(name).control().count(op) {
                let fault = faults[n_points % faults.len()];
                let (start, bench, recorder) = recorded(case);
                bench.disk(name).control().inject(Some(op), When::Nth(n), fault);
                judge.fails = !bench.command(case.line);
                let judged = for_each_state(&start, &recorder.take(), 1, &mut judge);
                let what = || format!("{case:?}: {op:?} of '{name}', the {n}th, {fault:?}");
                judged.unwrap_or_else(|complaint| panic!("{}: {complaint}", what()));
                n_points += 1;
            }
        }
    }
    judge.n_states
}

/// Bytes of the disks in these cases.
pub const DISK_BYTES: u64 = 96 << 10;

/// Makes the image `name`, whose even clusters of 4 KiB hold data.
///
/// # Panics
/// If it cannot be made.
pub fn make_source(bench: &Bench, name: &str, options: &str) {
    bench.make("qcow2", name, options, DISK_BYTES);
    let written = block_on(async {
        let node = bench.open("qcow2", name, OpenFlags::WRITE).await?;
        for at in (0..DISK_BYTES / SECTOR).step_by(16) {
            let data = IoBuf::copy_of(&bytes_of(tag_at(at), at, 8));
            node.write(at * SECTOR, data.into(), WriteFlags::empty()).await?;
        }
        node.close().await
    });
    written.unwrap_or_else(|error| panic!("{name} is written: {}", error.chain()));
}

/// What [`make_source`] writes to a sector. Half of it does not compress.
#[must_use]
pub fn tag_at(sector: u64) -> Tag {
    match sector % 32 {
        0..8 => Tag::of(1, false),
        16..24 => Tag::of(2, true),
        _ => Tag::ZERO,
    }
}

/// Whether the image shows what [`make_source`] wrote.
///
/// # Errors
/// What is wrong.
pub fn shows_source(bench: &Bench) -> Result<(), String> {
    let sight = block_on(look(bench, DISK_BYTES))?;
    let expected: Vec<Tag> = (0..DISK_BYTES / SECTOR).map(tag_at).collect();
    if sight.tags == expected { Ok(()) } else { Err(format!("it shows {:?}", sight.tags)) }
}

/// As [`shows_source`], of an image that need not be without damage.
///
/// # Errors
/// What is wrong.
pub fn shows_source_unchecked(bench: &Bench) -> Result<(), String> {
    let sight = block_on(async {
        let node = bench.open("qcow2", IMAGE, OpenFlags::empty()).await.map_err(|error| error.chain())?;
        let sight = look_live(&node, DISK_BYTES).await;
        node.close().await.map_err(|error| error.chain())?;
        sight
    })?;
    let expected: Vec<Tag> = (0..DISK_BYTES / SECTOR).map(tag_at).collect();
    if sight.tags == expected { Ok(()) } else { Err(format!("it shows {:?}", sight.tags)) }
}

/// Whether an image is refused, or without corruption.
///
/// # Errors
/// What is wrong.
pub fn is_refused_or_sound(bench: &Bench) -> Result<(), String> {
    match block_on(bench.open("qcow2", IMAGE, OpenFlags::empty())) {
        Ok(node) => {
            block_on(node.close()).map_err(|error| error.chain())?;
            block_on(look(bench, DISK_BYTES)).map(drop)
        }
        Err(_) => Ok(()),
    }
}
