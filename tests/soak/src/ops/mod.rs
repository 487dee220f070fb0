//! What the workers do: threads without an event loop, which ask those that have one.
//!
//! Each operation waits for what it has asked for, so that a wake-up that is lost anywhere lets a worker stand still.

mod disk;
mod events;
mod locks;
mod loops;
mod pool;
mod rcu;
mod tasks;

use qemu_util::aio::AioContext;
use qemu_util::primitive::Arc;

use crate::board::Actor;
use crate::counts::Op;
use crate::rng::Rng;
use crate::world::World;

/// One of the threads.
pub(crate) struct Worker {
    world: Arc<World>,
    rng: Rng,
    actor: Actor,
    disk: disk::Region,
}

/// How an operation is done.
type Perform = fn(&mut Worker, &mut Rng);

/// The operations, and how often each is done in the sum of all these numbers.
const MIX: &[(u64, Op, Perform)] = &[
    (12, Op::OneshotBh, loops::oneshot_bh),
    (8, Op::OwnBh, loops::own_bh),
    (8, Op::SharedBh, loops::shared_bh),
    (4, Op::Notify, loops::notify),
    (6, Op::Timer, loops::timer),
    (6, Op::Fd, loops::fd),
    (1, Op::Polling, loops::change_polling),
    (1, Op::Retire, loops::retire),
    (1, Op::Foreign, loops::foreign),
    (16, Op::Join, tasks::join),
    (8, Op::Abort, tasks::abort),
    (4, Op::Detach, tasks::detach),
    (8, Op::Queue, locks::queue),
    (6, Op::EventOnce, events::once),
    (4, Op::EventStream, events::stream),
    (2, Op::EventTimeout, events::timeout),
    (8, Op::RcuRead, rcu::read),
    (6, Op::RcuReplace, rcu::replace),
    (1, Op::RcuWait, rcu::wait),
    (4, Op::RcuCall, rcu::call),
    (1, Op::RcuDrain, rcu::drain),
    (8, Op::Pool, pool::job),
    (1, Op::PoolShutdown, pool::shut_down),
    (8, Op::Disk, disk::request),
    (4, Op::Buffer, disk::buffer),
];

impl Worker {
    pub(crate) fn new(world: Arc<World>, index: usize, rng: Rng, actor: Actor) -> Self {
        Self { world, rng, actor, disk: disk::Region::new(index) }
    }

    /// Does one thing.
    pub(crate) fn step(&mut self) {
        let mut rng = self.rng.fork();
        let mut at = rng.below(MIX.iter().map(|(weight, ..)| weight).sum());
        let chosen = MIX.iter().find(|(weight, ..)| {
            let found = at < *weight;
            at = at.saturating_sub(*weight);
            found
        });
        let (_, op, perform) = chosen.expect("the number is less than the sum of the weights");
        self.actor.does(op.name());
        perform(self, &mut rng);
        op.count();
    }

    /// One of the contexts, if that one is there now.
    fn context(&self, rng: &mut Rng) -> Option<AioContext> {
        self.world.context(rng)
    }
}
