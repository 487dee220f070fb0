//! Bottom halves, timers and handlers.

use std::io::{Read, Write};
use std::time::Duration;

use qemu_util::aio::{AioContext, FdCallbacks};
use qemu_util::primitive::{Arc, Mutex};
use qemu_util::sync::oneshot;
use qemu_util::task::JoinHandle;

use super::Worker;
use crate::counts::Counter;
use crate::home::poll_params;
use crate::ledger::Token;
use crate::promise::{Promise, block_on, promise};
use crate::rng::Rng;

/// A function for one call goes to a loop, and is called or dropped.
pub(super) fn oneshot_bh(worker: &mut Worker, rng: &mut Rng) {
    let Some(context) = worker.context(rng) else { return };
    let (promise, answer) = promise();
    let nested = rng.one_in(4);
    context.schedule_oneshot(move || {
        promise.keep();
        if nested {
            AioContext::current().expect("it runs in its loop").poll(false);
        }
    });
    // A handle that is kept would keep the context from being shut down, and the function from being dropped.
    drop(context);
    answer.wait();
}

/// A bottom half of our own is scheduled in all ways; when it was scheduled last, it is called.
pub(super) fn own_bh(worker: &mut Worker, rng: &mut Rng) {
    let Some(context) = worker.context(rng) else { return };
    let (promise, answer) = promise();
    let promise = Mutex::new(Some(promise));
    let calls = Arc::new(Counter::new());
    let counted = Arc::clone(&calls);
    let bh = context.bh(move || {
        counted.add(1);
        let promise = promise.lock().take();
        promise.into_iter().for_each(Promise::keep);
    });
    drop(context);
    let mut n_scheduled = 0;
    for _ in 0..rng.below(6) {
        match rng.below(4) {
            0 => bh.cancel(),
            1 => {
                bh.schedule_idle();
                n_scheduled += 1;
            }
            _ => {
                bh.schedule();
                n_scheduled += 1;
            }
        }
        rng.dawdle(500);
    }
    let deleted = rng.one_in(3);
    if deleted {
        bh.delete();
    } else {
        bh.schedule();
        n_scheduled += 1;
    }
    // Without a handle, the call that is scheduled is all that keeps the function.
    drop(bh);
    answer.wait();
    assert!(calls.get() <= n_scheduled, "a bottom half was called more often than scheduled");
}

/// Bottom halves that belong to everybody are scheduled, cancelled and deleted by everybody.
pub(super) fn shared_bh(worker: &mut Worker, rng: &mut Rng) {
    let world = &worker.world;
    let chosen = {
        let bhs = world.bhs.lock();
        (!bhs.is_empty()).then(|| bhs[rng.index(bhs.len())].clone())
    };
    if let Some(bh) = &chosen {
        for _ in 0..rng.below(8) {
            match rng.below(12) {
                0 => bh.cancel(),
                1 => bh.schedule_idle(),
                2 => bh.delete(),
                _ => bh.schedule(),
            }
            world.bhs_scheduled.add(1);
            rng.dawdle(200);
        }
    }
    if chosen.is_none() || rng.one_in(4) {
        add_shared_bh(worker, rng);
    }
}

fn add_shared_bh(worker: &Worker, rng: &mut Rng) {
    let Some(context) = worker.context(rng) else { return };
    let (world, token) = (Arc::downgrade(&worker.world), Token::new());
    let bh = context.bh(move || {
        let _token = &token;
        if let Some(world) = world.upgrade() {
            world.bhs_called.add(1);
        }
    });
    let mut bhs = worker.world.bhs.lock();
    bhs.push(bh);
    let old = (bhs.len() > 8).then(|| bhs.remove(0));
    drop(bhs);
    drop(old);
}

/// A task of the context that hands a message on. When the context is shut down, joining it says so.
fn relay(context: &AioContext) -> (oneshot::Sender<()>, JoinHandle<Result<(), oneshot::Cancelled>>) {
    let (sender, receiver) = oneshot::channel();
    (sender, context.spawn(receiver))
}

/// Sends the message. The receiver is gone when the context is being shut down.
fn reach(sender: oneshot::Sender<()>) {
    sender.send(()).ok();
}

/// A timer goes off, or is disarmed, or armed again.
pub(super) fn timer(worker: &mut Worker, rng: &mut Rng) {
    let Some(context) = worker.context(rng) else { return };
    let (sender, reached) = relay(&context);
    let (sender, token) = (Mutex::new(Some(sender)), Token::new());
    let timer = context.timer(move || {
        let _token = &token;
        let sender = sender.lock().take();
        sender.into_iter().for_each(reach);
    });
    drop(context);
    for _ in 0..rng.below(4) {
        timer.arm_after(Duration::from_micros(rng.below(2000)));
        rng.dawdle(1000);
        if rng.one_in(3) {
            timer.disarm();
        }
    }
    if rng.one_in(3) {
        timer.disarm();
        reached.abort();
    } else {
        timer.arm_after(Duration::from_micros(rng.below(1000)));
    }
    // Called, or cancelled with its context or by us.
    drop(block_on(reached));
}

/// A handler for a pipe is called when something is written.
pub(super) fn fd(worker: &mut Worker, rng: &mut Rng) {
    let Some(context) = worker.context(rng) else { return };
    let (reader, mut writer) = std::io::pipe().expect("the kernel has pipes");
    let (sender, reached) = relay(&context);
    let (sender, token) = (Mutex::new(Some(sender)), Token::new());
    let fd = Arc::new(reader.try_clone().expect("the kernel has descriptors").into());
    let callbacks = FdCallbacks::on_readable(move || {
        let _token = &token;
        let mut bytes = [0; 2];
        let n = (&reader).read(&mut bytes).expect("it is readable");
        let sender = sender.lock().take();
        assert!(n == 1 || sender.is_none(), "called with one byte, or again for the end of the pipe");
        sender.into_iter().for_each(reach);
    });
    let write_first = rng.one_in(2);
    if write_first {
        writer.write_all(b"x").expect("there is room");
    }
    let handler = context.add_fd(fd, callbacks);
    drop(context);
    rng.dawdle(5000);
    if !write_first {
        writer.write_all(b"x").expect("there is room");
    }
    let called = block_on(reached);
    assert!(!matches!(called, Ok(Err(_))), "the handler was dropped before it was called, and its context was not");
    if rng.one_in(2) {
        // The handler sees the end of the pipe until it is removed.
        drop(writer);
    }
    drop(handler);
}

/// A loop goes round for nothing.
pub(super) fn notify(worker: &mut Worker, rng: &mut Rng) {
    if let Some(context) = worker.context(rng) {
        context.notify();
    }
}

/// A loop spins for another time before it sleeps, from now on.
pub(super) fn change_polling(worker: &mut Worker, rng: &mut Rng) {
    if let Some(context) = worker.context(rng) {
        context.set_poll_params(poll_params(rng));
    }
}

/// A loop ends, and there is another one.
pub(super) fn retire(worker: &mut Worker, rng: &mut Rng) {
    worker.world.slots[rng.index(worker.world.slots.len())].retire();
}

/// The loop of another thread cannot be entered.
pub(super) fn foreign(worker: &mut Worker, rng: &mut Rng) {
    let Some(context) = worker.context(rng) else { return };
    let polled = context.try_poll(rng.one_in(2));
    assert!(polled.is_err(), "a context was polled outside its home thread");
    assert!(context.shut_down().is_err(), "a context was shut down outside its home thread");
}
