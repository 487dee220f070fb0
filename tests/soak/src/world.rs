//! What the actors of a round share.

use std::sync::Arc as StdArc;
use std::time::Duration;

use qemu_block::aio::WorkerPool;
use qemu_block::mem::{MemDisk, MemOp, When};
use qemu_block::node::Node;
use qemu_block::types::OpenFlags;
use qemu_util::aio::{AioContext, Bh};
use qemu_util::buf::BufPool;
use qemu_util::primitive::Mutex;
use qemu_util::rcu::RcuCell;
use qemu_util::sync::{CoMutex, CoQueue, CoRwLock, Semaphore, oneshot};

use crate::counts::Counter;
use crate::ledger::Canary;
use crate::rng::Rng;

/// Permits of the semaphore.
pub(crate) const PERMITS: u64 = 5;
/// Bytes of the disk that belong to one actor.
pub(crate) const REGION: u64 = 64 << 10;

/// How large a round is.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Threads that are at home in an event loop.
    pub(crate) n_homes: usize,
    /// Threads that ask the event loops for things.
    pub(crate) n_workers: usize,
    /// What each of these does.
    pub(crate) n_steps: u64,
}

impl Plan {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        Self { n_homes: 1 + rng.index(4), n_workers: 1 + rng.index(4), n_steps: 100 + rng.below(900) }
    }
}

/// A place for one event loop after the other; the loop is there while its thread is in it.
#[derive(Debug, Default)]
pub(crate) struct Slot(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    context: Option<AioContext>,
    retire: Option<oneshot::Sender<()>>,
    closed: bool,
}

impl Slot {
    /// Puts a context in; `retire` asks its thread to leave it. False when the round is over.
    pub(crate) fn open(&self, context: &AioContext, retire: oneshot::Sender<()>) -> bool {
        let mut open = self.0.lock();
        if !open.closed {
            open.context = Some(context.clone());
            open.retire = Some(retire);
        }
        !open.closed
    }

    /// Takes the context out.
    pub(crate) fn vacate(&self) {
        let context = self.0.lock().context.take();
        // Outside the lock: it may be the last handle.
        drop(context);
    }

    /// Asks the thread to leave its loop; says whether nobody has asked before.
    pub(crate) fn retire(&self) -> bool {
        let sender = self.0.lock().retire.take();
        sender.is_some_and(|sender| sender.send(()).is_ok())
    }

    /// Asks the thread to leave its loop and to make no other.
    pub(crate) fn close(&self) {
        self.0.lock().closed = true;
        self.retire();
    }

    /// The context, if there is one now. To be dropped before waiting for it: a handle keeps it from being shut down.
    pub(crate) fn context(&self) -> Option<AioContext> {
        self.0.lock().context.clone()
    }
}

/// Notices when somebody is where nobody else may be.
#[derive(Debug, Default)]
pub(crate) struct Inside {
    shared: Counter,
    exclusive: Counter,
}

impl Inside {
    /// Comes in; to be dropped before the lock is released.
    pub(crate) fn enter(&self, exclusive: bool) -> Visit<'_> {
        let kind = if exclusive { &self.exclusive } else { &self.shared };
        let visit = Visit { inside: self, kind };
        kind.add(1);
        visit.check();
        visit
    }
}

/// Somebody is inside.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    inside: &'a Inside,
    kind: &'a Counter,
}

impl Visit<'_> {
    /// A panic means that a lock did not exclude.
    pub(crate) fn check(&self) {
        let (shared, exclusive) = (self.inside.shared.get(), self.inside.exclusive.get());
        assert!(exclusive == 0 || (exclusive == 1 && shared == 0), "{shared} readers and {exclusive} owners of a lock");
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.check();
        self.kind.subtract(1);
    }
}

/// What the actors of a round share.
pub(crate) struct World {
    pub(crate) slots: Vec<Slot>,
    pub(crate) mutex: CoMutex<Inside>,
    pub(crate) rwlock: CoRwLock<Inside>,
    pub(crate) semaphore: Semaphore,
    /// How many permits of the semaphore are in use.
    pub(crate) permits: Counter,
    /// Items for those who wait in the queue.
    pub(crate) items: CoMutex<u64>,
    pub(crate) filled: CoQueue,
    pub(crate) cells: Vec<RcuCell<Canary>>,
    pub(crate) bhs: Mutex<Vec<Bh>>,
    /// How often a shared bottom half was scheduled, and called.
    pub(crate) bhs_scheduled: Counter,
    pub(crate) bhs_called: Counter,
    pub(crate) pool: Mutex<WorkerPool>,
    pub(crate) disk: StdArc<Node>,
    pub(crate) buffers: BufPool,
}

impl World {
    pub(crate) fn new(plan: &Plan, rng: &mut Rng) -> Self {
        Self {
            slots: (0..plan.n_homes).map(|_| Slot::default()).collect(),
            mutex: CoMutex::new(Inside::default()),
            rwlock: CoRwLock::new(Inside::default()),
            semaphore: Semaphore::new(usize::try_from(PERMITS).expect("a small number")),
            permits: Counter::new(),
            items: CoMutex::new(0),
            filled: CoQueue::new(),
            cells: (0..3).map(|_| RcuCell::new(Canary::new())).collect(),
            bhs: Mutex::new(Vec::new()),
            bhs_scheduled: Counter::new(),
            bhs_called: Counter::new(),
            pool: Mutex::new(new_pool(rng)),
            disk: new_disk(plan, rng),
            buffers: BufPool::new(),
        }
    }

    /// One of the contexts, if that one is there now.
    pub(crate) fn context(&self, rng: &mut Rng) -> Option<AioContext> {
        self.slots[rng.index(self.slots.len())].context()
    }

    /// Puts another pool in the place of the one that is there, which is returned.
    pub(crate) fn replace_pool(&self, rng: &mut Rng) -> WorkerPool {
        std::mem::replace(&mut *self.pool.lock(), new_pool(rng))
    }
}

fn new_pool(rng: &mut Rng) -> WorkerPool {
    let idle = [Duration::ZERO, Duration::from_micros(50), Duration::from_millis(1)];
    WorkerPool::new("soak-pool", 1 + rng.index(3), idle[rng.index(idle.len())])
}

/// A disk of one region for each worker, whose requests are delayed and fail at random.
fn new_disk(plan: &Plan, rng: &mut Rng) -> StdArc<Node> {
    let disk = MemDisk::new(REGION * plan.n_workers as u64);
    for op in [MemOp::Read, MemOp::Write, MemOp::Zero, MemOp::Flush] {
        disk.control().delay(op, u32::try_from(rng.below(4)).expect("less than 4"));
        for _ in 0..rng.below(4) {
            disk.control().fail(op, When::Nth(1 + rng.below(50)), libc::EIO);
        }
    }
    disk.node(OpenFlags::WRITE)
}
