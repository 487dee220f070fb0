//! A session of work on an image, recorded.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use qemu_block::error::BlockError;
use qemu_block::mem::{Event, MemDisk, Recorder};
use qemu_block::node::Node;
use qemu_block::types::{OpenFlags, WriteFlags};
use qemu_util::buf::IoBuf;

use crate::action::{Action, Course};
use crate::bench::{BASE, Bench, IMAGE};
use crate::executor::{Crew, block_on};
use crate::guest::{Effect, Guest, Remark};
use crate::look::look;
use crate::rng::Rng;
use crate::sector::{SECTOR, Tag, bytes_of};
use crate::shape::Shape;

/// How an image is opened for work.
pub(crate) const FLAGS: OpenFlags = OpenFlags::WRITE.union(OpenFlags::RESIZE).union(OpenFlags::UNMAP);

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// On what kind of image.
    pub shape: Shape,
    /// Where randomness comes from.
    pub seed: u64,
    /// The requests in the order in which they begin.
    pub actions: Vec<Action>,
}

impl Plan {
    /// Random requests.
    #[must_use]
    pub fn random(shape: &Shape, seed: u64, n_actions: usize) -> Self {
        let mut rng = Rng::new(seed);
        let mut course = Course::new(shape);
        let mut actions = Vec::with_capacity(n_actions);
        for op in 0..n_actions {
            let action = Action::random(&mut rng, shape, &course, op);
            course.follow(&action);
            actions.push(action);
        }
        Self { shape: shape.clone(), seed, actions }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "shape '{}' ({}), seed {}:", self.shape.name, self.shape.create_options(), self.seed)?;
        self.actions.iter().enumerate().try_for_each(|(op, action)| writeln!(f, "  {op:3} {action:?}"))
    }
}

/// What happened in a session.
#[derive(Debug)]
pub struct Trace {
    /// What was to be done.
    pub plan: Plan,
    /// The disks as they were before, with their names.
    pub start: Vec<(&'static str, MemDisk)>,
    /// What happened to them; notes are indices into `remarks`.
    pub events: Vec<Event>,
    /// When requests began and ended.
    pub remarks: Vec<Remark>,
    /// What the guest may see before the first request.
    pub guest: Guest,
}

/// A session under way.
struct Session {
    bench: Bench,
    recorder: Recorder,
    remarks: Vec<Remark>,
    guest: Guest,
    effects: BTreeMap<usize, Effect>,
}

impl Session {
    fn note(&mut self, remark: Remark) {
        self.guest.note(&remark);
        self.recorder.note(self.remarks.len());
        self.remarks.push(remark);
    }

    fn begin(&mut self, op: usize, effect: Effect) {
        self.effects.insert(op, effect.clone());
        self.note(Remark::Begin { op, effect });
    }

    fn end(&mut self, op: usize, result: Result<(), BlockError>) {
        result.unwrap_or_else(|error| panic!("request {op}: {}", error.chain()));
        self.note(Remark::End { op, ok: true });
    }

    async fn open(&self) -> Arc<Node> {
        let opened = self.bench.open("qcow2", IMAGE, FLAGS).await;
        opened.unwrap_or_else(|error| panic!("the image opens: {}", error.chain()))
    }
}

/// The disks of a new session, which the bench knows.
pub(crate) fn prepare(bench: &Bench, shape: &Shape) -> Vec<(&'static str, MemDisk)> {
    let mut names = vec![IMAGE];
    if let Some(len) = shape.base {
        // Its clusters have another size, so that nothing is accidentally aligned.
        bench.make("qcow2", BASE, "cluster_size=1k", len);
        let written = block_on(async {
            let base = bench.open("qcow2", BASE, OpenFlags::WRITE).await?;
            let data = IoBuf::copy_of(&bytes_of(Tag::BASE, 0, len / SECTOR));
            base.write(0, data.into(), WriteFlags::empty()).await?;
            base.close().await
        });
        written.expect("the backing file is written");
        names.push(BASE);
    }
    bench.make("qcow2", IMAGE, &shape.create_options(), shape.size);
    names.into_iter().map(|name| (name, bench.disk(name).fork())).collect()
}

/// Does what is planned, and records it.
///
/// # Panics
/// If a request fails, or if the guest sees at the end what it did not write. The plan was printed then.
#[must_use]
pub fn run(plan: Plan) -> Trace {
    let bench = Bench::new();
    let start = prepare(&bench, &plan.shape);
    let recorder = Recorder::new();
    for (i, (name, _)) in start.iter().enumerate() {
        bench.disk(name).record(&recorder, i);
    }
    if plan.shape.width > 1 {
        bench.disk(IMAGE).control().jumble(plan.seed, 6);
    }
    let n_base = plan.shape.base.unwrap_or(0) / SECTOR;
    let guest = Guest::new(plan.shape.size / SECTOR, n_base, plan.shape.n_max());
    let first = guest.clone();
    let mut session = Session { bench, recorder, remarks: Vec::new(), guest, effects: BTreeMap::new() };
    work(&mut session, &plan);
    let Session { bench, recorder, remarks, guest, .. } = session;
    let sight = block_on(look(&bench, guest.tracked_bytes()));
    if let Err(complaint) = sight.and_then(|sight| guest.judge_closed(&sight)) {
        panic!("after the session: {complaint}\n{plan}");
    }
    Trace { plan, start, events: recorder.take(), remarks, guest: first }
}

fn work(session: &mut Session, plan: &Plan) {
    let mut crew: Crew<'_, Result<(), BlockError>> = Crew::new(plan.seed);
    let mut node = block_on(session.open());
    for (op, action) in plan.actions.iter().enumerate() {
        let n_before = if action.is_exclusive() { 0 } else { plan.shape.width - 1 };
        drain(session, &mut crew, n_before);
        session.begin(op, action.effect(op, &plan.shape));
        crew.add(op, action.start(op, Arc::clone(&node)));
        if action.is_exclusive() {
            drain(session, &mut crew, 0);
        }
        if let Action::Reopen = action {
            // The note that it ended came too early; closing is what flushes.
            let op = plan.actions.len() + op + 1;
            session.begin(op, Effect::Flush);
            let closed = block_on(node.close());
            session.end(op, closed);
            node = block_on(session.open());
        }
    }
    drain(session, &mut crew, 0);
    let op = 2 * plan.actions.len() + 1;
    session.begin(op, Effect::Flush);
    let closed = block_on(node.close());
    session.end(op, closed);
}

/// Lets requests go on until at most `n_left` are under way.
fn drain(session: &mut Session, crew: &mut Crew<'_, Result<(), BlockError>>, n_left: usize) {
    while crew.len() > n_left {
        if let Some((op, result)) = crew.step() {
            session.end(op, result);
        }
    }
}
