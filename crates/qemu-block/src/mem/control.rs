//! What shall happen to requests: tests say it, nodes obey.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use qemu_util::primitive::Mutex;

use crate::error::{BlockError, Result, errno_text};

/// The kinds of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemOp {
    /// Reads.
    Read,
    /// Writes of data.
    Write,
    /// Write-zeroes.
    Zero,
    /// Discards.
    Discard,
    /// Flushes.
    Flush,
    /// Changes of the length.
    Truncate,
    /// Queries of the block status.
    Status,
    /// The end of a node's use of the disk.
    Close,
}

/// How a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// With this errno, before it has any effect.
    Errno(i32),
    /// With this errno, after a write or write-zeroes took effect for at most so many bytes. Others have no effect.
    Short {
        /// The bytes that are changed.
        bytes: u64,
        /// What the request fails with.
        errno: i32,
    },
}

impl Fault {
    /// The error that the request returns.
    pub(super) fn error(self) -> BlockError {
        let (Self::Errno(errno) | Self::Short { errno, .. }) = self;
        BlockError::from_errno(errno, errno_text(errno))
    }
}

/// Which requests of a kind fail. They are counted from one, from when the rule is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Only this one.
    Nth(u64),
    /// This one and all after it.
    From(u64),
}

/// The controls of a [`MemDisk`](super::MemDisk). Clones refer to the same ones.
#[derive(Clone, Debug, Default)]
pub struct Control {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    counts: BTreeMap<MemOp, u64>,
    bytes: BTreeMap<MemOp, u64>,
    rules: Vec<Rule>,
    delays: BTreeMap<MemOp, u32>,
    jumble: Option<Jumble>,
    holds: BTreeMap<u64, HoldState>,
    next_id: u64,
}

#[derive(Debug)]
struct Rule {
    /// All kinds if there is none.
    op: Option<MemOp>,
    when: When,
    fault: Fault,
    seen: u64,
}

/// Random delays.
#[derive(Debug)]
struct Jumble {
    state: u64,
    turns_max: u32,
}

impl Jumble {
    /// A delay, in turns. The generator is SplitMix64.
    fn turns(&mut self) -> u32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((mixed >> 33) % (u64::from(self.turns_max) + 1)).expect("no more than the maximum")
    }
}

#[derive(Debug)]
struct HoldState {
    op: MemOp,
    range: Range<u64>,
    /// Requests that wait, by their number.
    waiting: BTreeMap<u64, Waker>,
    /// Those who wait for requests to arrive.
    observers: Vec<Waker>,
}

impl State {
    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

impl Control {
    /// Lets requests fail with `errno`, before they have any effect.
    pub fn fail(&self, op: MemOp, when: When, errno: i32) {
        self.inject(Some(op), when, Fault::Errno(errno));
    }

    /// Lets requests of a kind, or of all kinds, fail in a certain way.
    pub fn inject(&self, op: Option<MemOp>, when: When, fault: Fault) {
        self.state.lock().rules.push(Rule { op, when, fault, seen: 0 });
    }

    /// Ends all failures.
    pub fn heal(&self) {
        self.state.lock().rules.clear();
    }

    /// Lets each request of a kind yield `turns` times before it takes effect, so that others overtake it.
    pub fn delay(&self, op: MemOp, turns: u32) {
        self.state.lock().delays.insert(op, turns);
    }

    /// Lets each request yield up to `turns_max` times before it takes effect, so that the order in which requests
    /// overtake each other follows from `seed`. With zero turns, none yields.
    pub fn jumble(&self, seed: u64, turns_max: u32) {
        self.state.lock().jumble = (turns_max > 0).then_some(Jumble { state: seed, turns_max });
    }

    /// Holds requests of a kind that touch `range` until the returned guard is dropped. Flushes and truncations touch
    /// everything.
    pub fn hold(&self, op: MemOp, range: Range<u64>) -> Hold {
        let mut state = self.state.lock();
        let id = state.take_id();
        state.holds.insert(id, HoldState { op, range, waiting: BTreeMap::new(), observers: Vec::new() });
        Hold { control: self.clone(), id }
    }

    /// How many requests of a kind arrived, failed ones included.
    pub fn count(&self, op: MemOp) -> u64 {
        self.state.lock().counts.get(&op).copied().unwrap_or(0)
    }

    /// How many requests arrived, of all kinds together.
    pub fn total(&self) -> u64 {
        self.state.lock().counts.values().sum()
    }

    /// How many bytes the requests of a kind asked for, failed ones included. Means nothing for flushes and truncations.
    pub fn bytes(&self, op: MemOp) -> u64 {
        self.state.lock().bytes.get(&op).copied().unwrap_or(0)
    }

    /// Lets a request pass, or not.
    pub(super) async fn enter(&self, op: MemOp, range: Range<u64>) -> Result<()> {
        match self.pass(op, range).await {
            Some(fault) => Err(fault.error()),
            None => Ok(()),
        }
    }

    /// Lets a request wait as long as it must; tells how it fails, if it does.
    pub(super) async fn pass(&self, op: MemOp, range: Range<u64>) -> Option<Fault> {
        let (id, delay, fault) = self.arrive(op, range.end.saturating_sub(range.start));
        Held { control: self, id, op, range }.await;
        for _ in 0..delay {
            yield_once().await;
        }
        fault
    }

    fn arrive(&self, op: MemOp, len: u64) -> (u64, u32, Option<Fault>) {
        let mut state = self.state.lock();
        *state.counts.entry(op).or_default() += 1;
        let bytes = state.bytes.entry(op).or_default();
        *bytes = bytes.saturating_add(len);
        let mut fault = None;
        for rule in state.rules.iter_mut().filter(|rule| rule.op.is_none_or(|wanted| wanted == op)) {
            rule.seen += 1;
            let fires = match rule.when {
                When::Nth(n) => rule.seen == n,
                When::From(n) => rule.seen >= n,
            };
            if fires {
                fault.get_or_insert(rule.fault);
            }
        }
        let delay = state.delays.get(&op).copied().unwrap_or(0);
        let jumble = state.jumble.as_mut().map_or(0, Jumble::turns);
        (state.take_id(), delay + jumble, fault)
    }
}

/// Holds matching requests until it is dropped. See [`Control::hold`].
#[derive(Debug)]
#[must_use = "the requests are released when it is dropped"]
pub struct Hold {
    control: Control,
    id: u64,
}

impl Hold {
    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.control.state.lock().holds.get(&self.id).map_or(0, |hold| hold.waiting.len())
    }

    /// Completes when at least `n` requests wait.
    pub async fn arrived(&self, n: usize) {
        std::future::poll_fn(|cx| {
            let mut state = self.control.state.lock();
            match state.holds.get_mut(&self.id) {
                Some(hold) if hold.waiting.len() < n => {
                    hold.observers.push(cx.waker().clone());
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            }
        })
        .await;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let hold = self.control.state.lock().holds.remove(&self.id);
        let Some(hold) = hold else { return };
        // Wakers run outside the mutex: they may do anything.
        hold.waiting.into_values().chain(hold.observers).for_each(Waker::wake);
    }
}

/// Completes when no hold matches.
struct Held<'a> {
    control: &'a Control,
    id: u64,
    op: MemOp,
    range: Range<u64>,
}

impl Future for Held<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.control.state.lock();
        let touches = |range: &Range<u64>| range.start < self.range.end && self.range.start < range.end;
        let Some(hold) = state.holds.values_mut().find(|hold| hold.op == self.op && touches(&hold.range)) else {
            return Poll::Ready(());
        };
        hold.waiting.insert(self.id, cx.waker().clone());
        let observers = std::mem::take(&mut hold.observers);
        drop(state);
        observers.into_iter().for_each(Waker::wake);
        Poll::Pending
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut state = self.control.state.lock();
        let gone: Vec<_> = state.holds.values_mut().filter_map(|hold| hold.waiting.remove(&self.id)).collect();
        drop(state);
        drop(gone);
    }
}

async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
