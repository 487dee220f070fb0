//! A pipeline of tasks: one makes numbers, some square them, one adds them up. What is between them is bounded.
//!
//! Run with `cargo run -p qemu-util --example pipeline`.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;

use qemu_util::aio::AioContext;
use qemu_util::sync::{CoMutex, CoQueue};
use qemu_util::task::yield_now;

/// How many numbers are made.
const N_NUMBERS: u64 = 1000;
/// How many tasks square them.
const N_WORKERS: usize = 4;
/// How many numbers wait between two stages, at most.
const CAPACITY: usize = 8;

/// A queue between two stages: a lock, and two lines of those who wait for something to change.
struct Stage {
    items: CoMutex<Items>,
    filled: CoQueue,
    emptied: CoQueue,
}

#[derive(Default)]
struct Items {
    queue: VecDeque<u64>,
    /// No more will come.
    finished: bool,
    /// The most that ever waited.
    longest: usize,
}

impl Stage {
    fn new() -> Arc<Self> {
        Arc::new(Self { items: CoMutex::new(Items::default()), filled: CoQueue::new(), emptied: CoQueue::new() })
    }

    async fn put(&self, number: u64) {
        let mut items = self.items.lock().await;
        while items.queue.len() == CAPACITY {
            items = self.emptied.wait(items).await;
        }
        items.queue.push_back(number);
        items.longest = items.longest.max(items.queue.len());
        self.filled.wake_one();
    }

    /// The next number; none when there will be no more.
    async fn take(&self) -> Option<u64> {
        let mut items = self.items.lock().await;
        loop {
            if let Some(number) = items.queue.pop_front() {
                self.emptied.wake_one();
                return Some(number);
            }
            if items.finished {
                return None;
            }
            items = self.filled.wait(items).await;
        }
    }

    async fn finish(&self) {
        self.items.lock().await.finished = true;
        self.filled.wake_all();
    }
}

fn main() -> io::Result<()> {
    run(&mut io::stdout().lock())
}

/// Runs all stages in one loop, in one thread.
///
/// # Errors
/// When the kernel has no eventfd to give, or `out` takes nothing.
pub(crate) fn run(out: &mut impl Write) -> io::Result<()> {
    let ctx = AioContext::new()?;
    let (numbers, squares) = (Stage::new(), Stage::new());

    let to = Arc::clone(&numbers);
    drop(ctx.spawn(async move {
        for number in 1..=N_NUMBERS {
            to.put(number).await;
        }
        to.finish().await;
    }));
    let workers: Vec<_> = (0..N_WORKERS)
        .map(|_| {
            let (from, to) = (Arc::clone(&numbers), Arc::clone(&squares));
            ctx.spawn(async move {
                while let Some(number) = from.take().await {
                    // Others get a turn in the middle of the work, and the order of the numbers is lost.
                    yield_now().await;
                    to.put(number * number).await;
                }
            })
        })
        .collect();
    let from = Arc::clone(&squares);
    let adding = ctx.spawn(async move {
        let mut sum = 0;
        while let Some(square) = from.take().await {
            sum += square;
        }
        sum
    });

    let sum = ctx.block_on(async {
        for worker in workers {
            worker.await.expect("no worker panics");
        }
        squares.finish().await;
        adding.await.expect("it does not panic")
    });
    let longest = numbers.items.try_lock().expect("nobody holds it").longest;
    writeln!(out, "the squares of 1 to {N_NUMBERS} add up to {sum}")?;
    writeln!(out, "never more than {CAPACITY} waited: {}", longest <= CAPACITY)
}
