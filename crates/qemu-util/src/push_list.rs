//! A lock-free list: any thread pushes, one thread takes everything at once.
//!
//! | field | who may touch it |
//! |---|---|
//! | `head` | pushers by compare-exchange, the consumer by swap; null is empty, [`closed`] refuses |
//! | a node's [`Link`] | its pusher until the push succeeds, then the consumer until the node has been taken |
//!
//! The list owns one reference to each node on it. It is intrusive: pushing allocates nothing. There is no ABA problem,
//! because nodes leave the list only all together.
//!
//! QEMU: `QSLIST_INSERT_HEAD_ATOMIC`, `QSLIST_MOVE_ATOMIC` (include/qemu/queue.h)

use std::marker::PhantomData;

use crate::mutant::{Mutant, is_on, unless};
use crate::primitive::atomic::{AtomicPtr, Ordering};
use crate::primitive::{Arc, UnsafeCell};

/// The place in a node that holds its successor while the node is on a [`PushList`].
pub(crate) struct Link<T>(UnsafeCell<*const T>);

// SAFETY: the pointer is only accessed by `PushList` and `Batch`, one thread at a time: the pusher before its push (the
// contract of `PushList::push` says that there is only one), the consumer after it has seen the push.
unsafe impl<T: Send + Sync> Send for Link<T> {}
// SAFETY: as for `Send`.
unsafe impl<T: Send + Sync> Sync for Link<T> {}

impl<T> Link<T> {
    pub(crate) fn new() -> Self {
        Self(UnsafeCell::new(std::ptr::null()))
    }

    /// # Safety
    /// The caller has exclusive access to the link, as the table at the module head defines.
    unsafe fn set(&self, next: *const T) {
        // SAFETY: exclusive access is the caller's promise.
        self.0.with_mut(|link| unsafe { *link = next });
    }

    /// # Safety
    /// The caller has access to the link, and nobody writes it.
    unsafe fn get(&self) -> *const T {
        // SAFETY: the absence of writers is the caller's promise.
        self.0.with(|link| unsafe { *link })
    }
}

/// A node of a [`PushList`].
///
/// # Safety
/// `link` returns the same field at every call, and nothing but the list uses it.
pub(crate) unsafe trait Linked: Sized {
    fn link(&self) -> &Link<Self>;
}

/// What became of a push.
#[must_use]
pub(crate) enum Pushed {
    /// The node is the only one on the list.
    First,
    /// Others were there: whoever pushed the first of them tells the consumer.
    Behind,
    /// The list is closed; the reference was dropped.
    Refused,
}

/// What is on a list that other threads push to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListState {
    /// Nothing.
    Empty,
    /// At least one node.
    Some,
    /// It was closed and takes nothing any more.
    Closed,
}

impl std::fmt::Display for ListState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Empty => "none",
            Self::Some => "some",
            Self::Closed => "closed",
        })
    }
}

/// The list; see the module head.
pub(crate) struct PushList<T: Linked> {
    head: AtomicPtr<T>,
    /// The list owns references to nodes: it may be shared only when those may.
    nodes: PhantomData<Arc<T>>,
}

/// The head of a list that takes no more nodes: an address that no node can have.
fn closed<T>() -> *mut T {
    std::ptr::without_provenance_mut(1)
}

fn is_node<T>(head: *const T) -> bool {
    !head.is_null() && head != closed::<T>().cast_const()
}

impl<T: Linked> PushList<T> {
    pub(crate) fn new() -> Self {
        const { assert!(align_of::<T>() > 1, "the address 1 marks a closed list") };
        Self { head: AtomicPtr::new(std::ptr::null_mut()), nodes: PhantomData }
    }

    /// Puts `node` on the list.
    ///
    /// Memory ordering: release; pairs with [`take_all`](Self::take_all).
    ///
    /// # Safety
    /// The node is on no list, and until it is taken off this one nobody else pushes it. What forbids that (a bit in
    /// the node's state word) orders the previous consumer's accesses before this call.
    pub(crate) unsafe fn push(&self, node: Arc<T>) -> Pushed {
        let node = Arc::into_raw(node);
        // Ordering: Relaxed; the value is only compared and stored, never dereferenced here.
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            if head == closed() {
                // SAFETY: the pointer comes from `into_raw` above, and the list has not taken it.
                drop(unsafe { Arc::from_raw(node) });
                return Pushed::Refused;
            }
            // SAFETY: the reference that we own keeps the node alive.
            let link = unsafe { &*node }.link();
            // SAFETY: until the exchange below succeeds the link is ours, by the contract of this function.
            unsafe { link.set(head) };
            match self.replace_head(head, node.cast_mut()) {
                Ok(previous) => return if previous.is_null() { Pushed::First } else { Pushed::Behind },
                Err(now) => head = now,
            }
        }
    }

    /// Replaces `old` by `new`; what is there now if it is something else.
    fn replace_head(&self, old: *mut T, new: *mut T) -> Result<*mut T, *mut T> {
        // Ordering: Release on success; the node's contents and its link are visible to the consumer. Every push is a
        // read-modify-write, so that all of them belong to the release sequence that the consumer's swap reads. Relaxed
        // on failure, as for the load. [pair: list.push-take]
        let release = unless(Mutant::ListPushWithoutRelease, Ordering::Release, Ordering::Relaxed);
        if is_on(Mutant::ListPushInTwoSteps) {
            self.head.store(new, release);
            return Ok(old);
        }
        self.head.compare_exchange_weak(old, new, release, Ordering::Relaxed)
    }

    /// Takes all nodes, in the order in which they were pushed.
    ///
    /// Memory ordering: acquire; pairs with [`push`](Self::push).
    pub(crate) fn take_all(&self) -> Batch<T> {
        // Ordering: Relaxed; only spares the swap. A push that is missed here is found by the next call, and whoever
        // may not miss it has a fence before this call.
        if !is_node(self.head.load(Ordering::Relaxed)) {
            return Batch { next: std::ptr::null() };
        }
        // The list cannot have been closed meanwhile: that is the consumer's business too.
        // Ordering: Acquire; contents and links of all nodes are visible. [pair: list.push-take]
        let acquire = unless(Mutant::ListTakeWithoutAcquire, Ordering::Acquire, Ordering::Relaxed);
        Batch::reversed(self.head.swap(std::ptr::null_mut(), acquire))
    }

    /// Takes all nodes and refuses new ones from now on.
    pub(crate) fn close(&self) -> Batch<T> {
        // Ordering: Acquire; as in `take_all`. [pair: list.push-take]
        let acquire = unless(Mutant::ListCloseWithoutAcquire, Ordering::Acquire, Ordering::Relaxed);
        Batch::reversed(self.head.swap(closed(), acquire))
    }

    /// Whether the list was closed.
    pub(crate) fn is_closed(&self) -> bool {
        // Ordering: Relaxed; a hint, nothing is read because of it.
        self.head.load(Ordering::Relaxed) == closed()
    }

    /// Whether a node is on the list, as far as the caller's fences let it see.
    pub(crate) fn has_nodes(&self) -> bool {
        // Ordering: Relaxed; the caller's fence orders it, and nothing is dereferenced.
        is_node(self.head.load(Ordering::Relaxed))
    }

    /// What the head says; for information, from any thread.
    pub(crate) fn state(&self) -> ListState {
        // Ordering: Relaxed; for information only, and nothing is dereferenced.
        let head = self.head.load(Ordering::Relaxed);
        if head == closed() {
            ListState::Closed
        } else if head.is_null() {
            ListState::Empty
        } else {
            ListState::Some
        }
    }

    /// Whether `predicate` holds for a node that is on the list.
    ///
    /// # Safety
    /// The caller is the consumer: nobody takes nodes meanwhile, neither another thread nor `predicate`.
    pub(crate) unsafe fn any(&self, mut predicate: impl FnMut(&T) -> bool) -> bool {
        // Ordering: Acquire; contents and links of the nodes are visible. [pair: list.push-take]
        let acquire = unless(Mutant::ListAnyWithoutAcquire, Ordering::Acquire, Ordering::Relaxed);
        let mut node = self.head.load(acquire).cast_const();
        while is_node(node) {
            // SAFETY: the list owns a reference to the node, and only the consumer, the caller, takes it off.
            let current = unsafe { &*node };
            if predicate(current) {
                return true;
            }
            // SAFETY: the push has finished (the node is on the list), so that nobody writes the link.
            node = unsafe { current.link().get() };
        }
        false
    }
}

impl<T: Linked> Drop for PushList<T> {
    fn drop(&mut self) {
        drop(self.close());
    }
}

/// Nodes that were taken off a list, oldest first.
pub(crate) struct Batch<T: Linked> {
    next: *const T,
}

// SAFETY: a batch owns its nodes and their links, and they may go to another thread.
unsafe impl<T: Linked + Send + Sync> Send for Batch<T> {}

impl<T: Linked> Batch<T> {
    /// Turns a chain whose newest node comes first round.
    fn reversed(head: *mut T) -> Self {
        let mut rest = head.cast_const();
        let mut done = std::ptr::null();
        while is_node(rest) {
            // SAFETY: the chain owns a reference to each of its nodes.
            let link = unsafe { &*rest }.link();
            // SAFETY: the node has been taken, so that its link is the consumer's.
            let next = unsafe { link.get() };
            // SAFETY: as for the read.
            unsafe { link.set(done) };
            done = rest;
            rest = next;
        }
        Self { next: done }
    }
}

impl<T: Linked> Iterator for Batch<T> {
    type Item = Arc<T>;

    fn next(&mut self) -> Option<Arc<T>> {
        if self.next.is_null() {
            return None;
        }
        // SAFETY: the pointer comes from `Arc::into_raw` in `push`, and the batch owns that reference.
        let node = unsafe { Arc::from_raw(self.next) };
        // SAFETY: the node has been taken, so that its link is the consumer's.
        self.next = unsafe { node.link().get() };
        Some(node)
    }
}

impl<T: Linked> Drop for Batch<T> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

#[cfg(all(test, qemu_loom))]
pub(crate) mod loom_tests;

#[cfg(all(test, not(qemu_loom)))]
mod tests {
    use super::*;

    struct Node {
        link: Link<Node>,
        value: u32,
    }

    // SAFETY: one field, used by the list only.
    unsafe impl Linked for Node {
        fn link(&self) -> &Link<Node> {
            &self.link
        }
    }

    fn push(list: &PushList<Node>, value: u32) -> Pushed {
        // SAFETY: the node is new, so that nobody else can push it.
        unsafe { list.push(Arc::new(Node { link: Link::new(), value })) }
    }

    #[test]
    fn oldest_first() {
        let list = PushList::new();
        assert!(matches!(push(&list, 1), Pushed::First));
        assert!(matches!(push(&list, 2), Pushed::Behind));
        // SAFETY: this thread is the consumer.
        assert!(unsafe { list.any(|node| node.value == 1) });
        assert_eq!(list.take_all().map(|node| node.value).collect::<Vec<_>>(), [1, 2]);
        assert!(!list.has_nodes());
    }

    #[test]
    fn a_closed_list_refuses_and_frees() {
        let list = PushList::new();
        assert!(matches!(push(&list, 1), Pushed::First));
        assert_eq!(list.close().count(), 1);
        let node = Arc::new(Node { link: Link::new(), value: 2 });
        // SAFETY: the node is new.
        assert!(matches!(unsafe { list.push(Arc::clone(&node)) }, Pushed::Refused));
        assert_eq!(Arc::strong_count(&node), 1);
        assert!(list.is_closed());
        assert_eq!(list.take_all().count(), 0);
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        const PER_THREAD: u32 = if cfg!(miri) { 50 } else { 50_000 };
        let list = PushList::new();
        std::thread::scope(|scope| {
            let pushers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        for value in 0..PER_THREAD {
                            let _ = push(&list, value);
                        }
                    })
                })
                .collect();
            let mut sum = 0;
            while !pushers.iter().all(|pusher| pusher.is_finished()) {
                sum += list.take_all().map(|node| u64::from(node.value)).sum::<u64>();
            }
            sum += list.take_all().map(|node| u64::from(node.value)).sum::<u64>();
            let n = u64::from(PER_THREAD);
            assert_eq!(sum, 3 * n * (n - 1) / 2);
        });
    }
}
