use super::*;
use crate::sync::oneshot::{self, Cancelled};

#[test]
fn a_value_arrives_before_or_after_the_first_poll() {
    let (sender, receiver) = oneshot::channel();
    assert_send_sync(&sender);
    assert_send_sync(&receiver);
    sender.send(1).expect("the receiver is there");
    assert_eq!(block_on(receiver), Ok(1));

    let (sender, receiver) = oneshot::channel();
    let waiting = Driven::waiting(receiver);
    sender.send(2).expect("the receiver is there");
    assert_eq!(waiting.woken(), Ok(2));
}

#[test]
fn a_dropped_sender_wakes_with_an_error() {
    let (sender, receiver) = oneshot::channel::<()>();
    let waiting = Driven::waiting(receiver);
    drop(sender);
    assert_eq!(waiting.woken(), Err(Cancelled));
}

#[test]
fn a_dropped_receiver_gives_the_value_back() {
    let (sender, receiver) = oneshot::channel();
    assert!(!sender.is_cancelled());
    drop(receiver);
    assert!(sender.is_cancelled());
    assert_eq!(sender.send(3), Err(3));
}

#[test]
fn an_unreceived_value_is_dropped_with_the_receiver() {
    let value = Arc::new(());
    let (sender, receiver) = oneshot::channel();
    sender.send(Arc::clone(&value)).expect("the receiver is there");
    assert_eq!(Arc::strong_count(&value), 2);
    drop(receiver);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn threads_meet() {
    const ROUNDS: usize = if cfg!(miri) { 10 } else { 2000 };
    for _ in 0..ROUNDS {
        let (sender, receiver) = oneshot::channel();
        let receiving = thread::spawn(|| block_on(receiver));
        sender.send(7).expect("the receiver waits");
        assert_eq!(receiving.join().expect("no panic"), Ok(7));
    }
}
