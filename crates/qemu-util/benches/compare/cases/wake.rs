//! Wake-ups across threads: two loops in two threads that take turns.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use qemu_util::aio::{AioContext, PollParams};
use qemu_util::primitive::atomic::{AtomicU64, Ordering};
use qemu_util::sync::oneshot;

use super::task::{context, runtime};
use super::{Group, repeat};

/// Counts up, and wakes who waits; the same for all executors.
#[derive(Default)]
struct Turns {
    n: AtomicU64,
    waker: AtomicWaker,
}

impl Turns {
    fn next(&self) {
        // Ordering: Release; as any hand-over.
        self.n.fetch_add(1, Ordering::Release);
        self.waker.wake();
    }

    async fn reached(&self, wanted: u64) {
        poll_fn(|cx| {
            // Ordering: Acquire, both; as any hand-over.
            if self.n.load(Ordering::Acquire) >= wanted {
                return Poll::Ready(());
            }
            self.waker.register(cx.waker());
            if self.n.load(Ordering::Acquire) >= wanted { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// The two sides; the first one measures.
fn sides(n: u64) -> (impl Future<Output = Duration> + Send, impl Future<Output = Duration> + Send) {
    let turns = Arc::new((Turns::default(), Turns::default()));
    let other = Arc::clone(&turns);
    let first = async move {
        let start = Instant::now();
        for i in 1..=n {
            turns.0.next();
            turns.1.reached(i).await;
        }
        start.elapsed()
    };
    let second = async move {
        let start = Instant::now();
        for i in 1..=n {
            other.0.reached(i).await;
            other.1.next();
        }
        start.elapsed()
    };
    (first, second)
}

fn run_ours(future: impl Future<Output = Duration> + Send + 'static, params: Option<PollParams>) -> Duration {
    let ctx: AioContext = context();
    if let Some(params) = params {
        ctx.set_poll_params(params);
    }
    let task = ctx.spawn(future);
    ctx.block_on(task).expect("it ends")
}

fn run_tokio(future: impl Future<Output = Duration> + Send + 'static) -> Duration {
    let runtime = runtime();
    let task = runtime.spawn(future);
    runtime.block_on(task).expect("it ends")
}

fn ping_pong_ours(n: u64, params: Option<PollParams>) -> Duration {
    let (first, second) = sides(n);
    let echo = thread::spawn(move || run_ours(second, params));
    let elapsed = run_ours(first, params);
    echo.join().expect("it does not panic");
    elapsed
}

fn ping_pong_tokio(n: u64) -> Duration {
    let (first, second) = sides(n);
    let echo = thread::spawn(move || run_tokio(second));
    let elapsed = run_tokio(first);
    echo.join().expect("it does not panic");
    elapsed
}

/// A thread that is no executor answers: it sends one value for each that it is asked for.
fn answers<S: Send + 'static>(send: impl Fn(S) + Send + 'static) -> std::sync::mpsc::Sender<S> {
    let (requests, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || receiver.into_iter().for_each(send));
    requests
}

fn answer_ours(n: u64) -> Duration {
    let requests = answers(|sender: oneshot::Sender<u64>| sender.send(1).expect("somebody waits"));
    run_ours(
        async move {
            let start = Instant::now();
            for _ in 0..n {
                let (sender, receiver) = oneshot::channel();
                requests.send(sender).expect("the thread serves");
                receiver.await.expect("it answers");
            }
            start.elapsed()
        },
        None,
    )
}

fn answer_tokio(n: u64) -> Duration {
    use tokio::sync::oneshot;

    let requests = answers(|sender: oneshot::Sender<u64>| sender.send(1).expect("somebody waits"));
    run_tokio(async move {
        let start = Instant::now();
        for _ in 0..n {
            let (sender, receiver) = oneshot::channel();
            requests.send(sender).expect("the thread serves");
            receiver.await.expect("it answers");
        }
        start.elapsed()
    })
}

fn notify_ours(n: u64) -> Duration {
    let ctx = context();
    repeat(n, || ctx.notify())
}

pub(super) fn groups() -> Vec<Group> {
    let no_spin = PollParams { max: Duration::ZERO, grow: 0, shrink: 0 };
    let spin = PollParams::for_this_machine();
    vec![
        Group::new("wake/ping-pong", "there and back between two loops in two threads")
            .ours("AioContext, as made", |n| ping_pong_ours(n, None))
            .variant("AioContext, busy polling", move |n| ping_pong_ours(n, Some(spin)))
            .variant("AioContext, no busy polling", move |n| ping_pong_ours(n, Some(no_spin)))
            .rival("tokio current-thread", ping_pong_tokio),
        Group::new("wake/answer", "a task asks a thread and awaits the answer")
            .ours("AioContext, oneshot", answer_ours)
            .rival("tokio current-thread, oneshot", answer_tokio),
        Group::new("wake/notify", "tell a loop that does not sleep to look again")
            .ours("AioContext::notify", notify_ours),
    ]
}
