//! The list under loom, which checks every link and the contents of every node.

use super::{Link, Linked, PushList, Pushed};
use crate::model::{Checked, explore, explore_bounded, reached};
use crate::primitive::{Arc, thread};

struct Node {
    link: Link<Node>,
    value: Checked,
}

// SAFETY: one field, used by the list only.
unsafe impl Linked for Node {
    fn link(&self) -> &Link<Node> {
        &self.link
    }
}

fn push(list: &PushList<Node>, value: u32) -> Pushed {
    let node = Arc::new(Node { link: Link::new(), value: Checked::new(value) });
    // SAFETY: the node is new, so that nobody else can push it.
    unsafe { list.push(node) }
}

#[test]
pub(crate) fn two_pushers_against_the_consumer() {
    explore_bounded(4, || {
        let list = Arc::new(PushList::<Node>::new());
        let pushers = [1, 2].map(|value| {
            let list = Arc::clone(&list);
            thread::spawn(move || matches!(push(&list, value), Pushed::First))
        });
        let (mut sum, mut n_batches) = (0, 0);
        while sum < 3 {
            let in_batch: u32 = list.take_all().map(|node| node.value.get()).sum();
            sum += in_batch;
            n_batches += usize::from(in_batch != 0);
            thread::yield_now();
        }
        assert_eq!(sum, 3);
        let n_first = pushers.into_iter().map(|pusher| usize::from(pusher.join().unwrap())).sum::<usize>();
        // Who pushes onto an empty list is told so: it tells the consumer, once a batch.
        assert_eq!(n_batches, n_first);
    });
}

#[test]
pub(crate) fn push_against_take() {
    explore(|| {
        let list = Arc::new(PushList::<Node>::new());
        let consumer = Arc::clone(&list);
        let taking = thread::spawn(move || consumer.take_all().map(|node| node.value.get()).sum::<u32>());
        let _ = push(&list, 1);
        let _ = push(&list, 2);
        let taken = taking.join().unwrap();
        assert_eq!(taken + list.take_all().map(|node| node.value.get()).sum::<u32>(), 3);
    });
}

#[test]
pub(crate) fn push_against_close() {
    let (taken, refused) = (reached(), reached());
    let (note_taken, note_refused) = (taken.clone(), refused.clone());
    explore(move || {
        let list = Arc::new(PushList::<Node>::new());
        let consumer = Arc::clone(&list);
        let closing = thread::spawn(move || consumer.close().map(|node| node.value.get()).sum::<u32>());
        let pushed = push(&list, 1);
        match closing.join().unwrap() {
            1 => note_taken.note(),
            taken => {
                assert!(taken == 0 && matches!(pushed, Pushed::Refused));
                note_refused.note();
            }
        }
        assert!(list.is_closed());
    });
    assert!(taken.was_noted() && refused.was_noted());
}

#[test]
pub(crate) fn push_against_any() {
    let found = reached();
    let note_found = found.clone();
    explore(move || {
        let (list, note_found) = (Arc::new(PushList::<Node>::new()), note_found.clone());
        let consumer = Arc::clone(&list);
        let looking = thread::spawn(move || {
            // SAFETY: this thread is the consumer until it is joined.
            if unsafe { consumer.any(|node| node.value.get() == 1) } {
                note_found.note();
            }
        });
        let _ = push(&list, 1);
        let _ = push(&list, 2);
        looking.join().unwrap();
        assert_eq!(list.take_all().count(), 2);
    });
    assert!(found.was_noted());
}
