//! Storage that fails: the same session again and again, each time with another request to the disk failing.
//!
//! Whatever fails, somebody is told; later requests work or are refused; what is left is consistent, holds what was
//! flushed, and shows nothing that was not written.

use std::sync::Arc;

use qemu_block::error::BlockError;
use qemu_block::mem::{Fault, MemOp, When};
use qemu_block::node::Node;

use crate::action::Action;
use crate::bench::{BASE, Bench, IMAGE};
use crate::executor::block_on;
use crate::guest::{Effect, Guest, Remark};
use crate::look::{look, look_live};
use crate::sector::SECTOR;
use crate::session::{FLAGS, Plan, prepare};

/// A failing request.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Which disk, by its name.
    pub disk: &'static str,
    /// What kind of request.
    pub op: MemOp,
    /// Which ones.
    pub when: When,
    /// How.
    pub fault: Fault,
}

impl Point {
    /// Whether a request cannot be done if this fails. Discards are hints, so is cutting off the end of the file that
    /// nobody uses; and what nobody needs to know for sure is not asked again.
    fn must_tell(&self) -> bool {
        !matches!(self.op, MemOp::Discard | MemOp::Status | MemOp::Truncate)
    }
}

/// What came of a session with faults.
#[derive(Debug, Default)]
struct Outcome {
    /// The errors that were returned.
    errors: Vec<String>,
    /// The requests that were made while they could fail, by disk and kind.
    counts: Vec<(&'static str, MemOp, u64)>,
}

/// A session in which requests may fail.
struct Session<'p> {
    plan: &'p Plan,
    bench: Bench,
    guest: Guest,
    outcome: Outcome,
    n_ops: usize,
}

impl Session<'_> {
    fn begin(&mut self, effect: Effect) -> usize {
        self.n_ops += 1;
        self.guest.note(&Remark::Begin { op: self.n_ops, effect });
        self.n_ops
    }

    fn end(&mut self, op: usize, result: Result<(), BlockError>) {
        self.guest.note(&Remark::End { op, ok: result.is_ok() });
        if let Err(error) = result {
            self.outcome.errors.push(error.chain());
        }
    }

    /// Opens the image; if that fails, once more without faults.
    fn open(&mut self) -> Result<Arc<Node>, String> {
        match block_on(self.bench.open("qcow2", IMAGE, FLAGS)) {
            Ok(node) => Ok(node),
            Err(error) => {
                self.outcome.errors.push(error.chain());
                self.heal();
                block_on(self.bench.open("qcow2", IMAGE, FLAGS))
                    .map_err(|error| format!("reopening: {}", error.chain()))
            }
        }
    }

    fn heal(&self) {
        self.bench.disk(IMAGE).control().heal();
        if self.plan.shape.base.is_some() {
            self.bench.disk(BASE).control().heal();
        }
    }

    fn close(&mut self, node: &Arc<Node>) {
        let op = self.begin(Effect::Flush);
        let closed = block_on(node.close());
        let failed = closed.is_err();
        self.end(op, closed);
        if failed {
            self.guest.give_up();
        }
    }

    fn work(&mut self) -> Result<(), String> {
        let mut node = self.open()?;
        for action in &self.plan.actions {
            if matches!(action, Action::Reopen) {
                self.close(&node);
                node = self.open()?;
                continue;
            }
            let op = self.begin(action.effect(self.n_ops + 1, &self.plan.shape));
            let done = block_on(action.start(op, Arc::clone(&node)));
            self.end(op, done);
        }
        for (disk, ops) in disks(self.plan) {
            let control = self.bench.disk(disk).control().clone();
            self.outcome.counts.extend(ops.into_iter().map(|op| (disk, op, control.count(op))));
        }
        self.heal();
        let live = block_on(look_live(&node, self.guest.tracked_bytes()))?;
        self.guest.judge_open(&live).map_err(|text| format!("while it is open: {text}"))?;
        self.close(&node);
        let left = block_on(look(&self.bench, self.guest.tracked_bytes()))?;
        self.guest.judge(&left).map_err(|text| format!("afterwards: {text}"))
    }
}

/// Runs the session; with a point, so that it fails there.
fn run(plan: &Plan, point: Option<&Point>) -> Result<Outcome, String> {
    let bench = Bench::new();
    prepare(&bench, &plan.shape);
    for (name, _) in disks(plan) {
        // Counting begins with the session.
        bench.insert(name, bench.disk(name).fork());
    }
    if let Some(Point { disk, op, when, fault }) = point {
        bench.disk(disk).control().inject(Some(*op), *when, *fault);
    }
    let n_base = plan.shape.base.unwrap_or(0) / SECTOR;
    let guest = Guest::new(plan.shape.size / SECTOR, n_base, plan.shape.n_max());
    let mut session = Session { plan, bench, guest, outcome: Outcome::default(), n_ops: 0 };
    session.work()?;
    Ok(session.outcome)
}

/// The disks, and the kinds of requests that are made to them.
fn disks(plan: &Plan) -> Vec<(&'static str, Vec<MemOp>)> {
    use MemOp::{Close, Discard, Flush, Read, Status, Truncate, Write, Zero};
    let image = (IMAGE, vec![Read, Write, Zero, Discard, Flush, Truncate, Status, Close]);
    let base = (BASE, vec![Read, Status, Close]);
    if plan.shape.base.is_some() { vec![image, base] } else { vec![image] }
}

/// Lets each request of each kind fail in turn, once and from then on, in each of the ways that `faults` has; returns
/// how many sessions that were.
///
/// # Panics
/// If a session without faults fails, and at the first one with a fault whose outcome must not be.
#[must_use]
pub fn fail_everywhere(plan: &Plan, faults: &[Fault]) -> u64 {
    let outcome = run(plan, None).unwrap_or_else(|complaint| panic!("without a fault: {complaint}\n{plan}"));
    assert!(outcome.errors.is_empty(), "without a fault: {:?}\n{plan}", outcome.errors);
    let mut n_points = 0;
    for (disk, op, count) in outcome.counts {
        for when in (1..=count).flat_map(|n| [When::Nth(n), When::From(n)]) {
            // The ways to fail take turns, so that each request meets some of them.
            let fault = faults[usize::try_from(n_points).expect("few") % faults.len()];
            survive(plan, &Point { disk, op, when, fault });
            n_points += 1;
        }
    }
    n_points
}

fn survive(plan: &Plan, point: &Point) {
    match run(plan, Some(point)) {
        Err(complaint) => panic!("{point:?}: {complaint}\n{plan}"),
        Ok(outcome) => {
            assert!(!outcome.errors.is_empty() || !point.must_tell(), "{point:?}: nobody was told\n{plan}");
        }
    }
}
