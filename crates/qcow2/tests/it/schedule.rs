//! Many tasks on one image, in an order that a seed decides: an executor that polls what can go on in random order, and
//! the rule by which a sector's content is right.
//!
//! Requests of the disk below give way a random number of times, so that they come back in any order.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use qemu_util::primitive::atomic::{AtomicBool, Ordering};

use crate::support::Random;

/// A task of a schedule.
pub(crate) type Task<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

struct Ready {
    flag: AtomicBool,
    /// The thread of the executor, which waits if no task can go on.
    executor: Thread,
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.flag.store(true, Ordering::Release);
        self.executor.unpark();
    }
}

/// Whether tasks may wait for other threads, which compress. Then a seed does not decide everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Others {
    None,
    Some,
}

/// Runs all tasks to their end on this thread; `before_step` is called before each step, and `what` names the schedule.
///
/// # Panics
/// When none of them can go on, and there are no others to wait for.
pub(crate) fn run(
    tasks: Vec<Task<'_>>,
    random: &mut Random,
    others: Others,
    what: &str,
    mut before_step: impl FnMut(&mut Random),
) {
    let ready = || Arc::new(Ready { flag: AtomicBool::new(true), executor: std::thread::current() });
    let mut tasks: Vec<(Task<'_>, Arc<Ready>)> = tasks.into_iter().map(|task| (task, ready())).collect();
    while !tasks.is_empty() {
        let can_go_on: Vec<usize> = (0..tasks.len()).filter(|at| tasks[*at].1.flag.load(Ordering::Acquire)).collect();
        if can_go_on.is_empty() && others == Others::Some {
            std::thread::park();
            continue;
        }
        assert!(!can_go_on.is_empty(), "{what}: {} tasks wait for one another", tasks.len());
        before_step(random);
        let at = can_go_on[random.index(can_go_on.len())];
        let (task, ready) = &mut tasks[at];
        ready.flag.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(ready));
        if let Poll::Ready(()) = task.as_mut().poll(&mut Context::from_waker(&waker)) {
            drop(tasks.swap_remove(at));
        }
    }
}

/// Bytes of a sector, the unit in which content is judged.
pub(crate) const SECTOR: u64 = 512;

/// A request that changed sectors.
#[derive(Clone, Debug)]
struct Change {
    sectors: Range<u64>,
    value: u16,
    start: u64,
    /// When it was done; never, while it is under way.
    end: u64,
}

/// What was done and when, so that each value that is found can be judged.
#[derive(Debug, Default)]
pub(crate) struct History {
    clock: u64,
    changes: Vec<Change>,
}

impl History {
    /// A disk of `n_sectors` sectors that hold `value`.
    pub(crate) fn new(n_sectors: u64, value: u16) -> Self {
        let mut history = Self::default();
        let first = history.begin(0..n_sectors, value);
        history.end(first);
        history
    }

    /// The time of something that begins or ends now.
    pub(crate) fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// A change of `sectors` to `value` begins.
    pub(crate) fn begin(&mut self, sectors: Range<u64>, value: u16) -> usize {
        let start = self.now();
        self.changes.push(Change { sectors, value, start, end: u64::MAX });
        self.changes.len() - 1
    }

    /// The change is complete.
    pub(crate) fn end(&mut self, change: usize) {
        self.changes[change].end = self.now();
    }

    /// Fails unless `value` is what a look at `sector` between two times may find: the value of a change that began
    /// before the look ended, and that no other change replaced which came after it as a whole, and before the look.
    pub(crate) fn assert_allowed(&self, sector: u64, value: u16, looked: Range<u64>, what: &str) {
        let here = || self.changes.iter().filter(|change| change.sectors.contains(&sector));
        let allowed = here().filter(|change| change.start < looked.end).any(|change| {
            let replaced = here().any(|later| change.end < later.start && later.end < looked.start);
            change.value == value && !replaced
        });
        let history: Vec<_> = here().collect();
        assert!(allowed, "{what}: sector {sector} holds {value} at {looked:?}, after {history:?}");
    }

    /// Judges all sectors of `bytes`, which were read from `offset` on.
    pub(crate) fn assert_content(&self, offset: u64, bytes: &[u8], looked: Range<u64>, what: &str) {
        for (sector, bytes) in (offset / SECTOR..).zip(bytes.chunks_exact(512)) {
            let (values, _) = bytes.as_chunks::<2>();
            let value = u16::from_le_bytes(values[0]);
            assert!(values.iter().all(|other| *other == values[0]), "{what}: sector {sector} is torn");
            self.assert_allowed(sector, value, looked.clone(), what);
        }
    }
}

/// The bytes of sectors that hold `value`.
pub(crate) fn content(value: u16, len: u64) -> Vec<u8> {
    value.to_le_bytes().repeat(usize::try_from(len / 2).expect("small"))
}
