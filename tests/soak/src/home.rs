//! Threads that are at home in an event loop: they make one, serve it in one of several ways, leave it, and again.

use std::time::Duration;

use qemu_util::aio::{AioContext, PollParams};
use qemu_util::primitive::Arc;
use qemu_util::primitive::atomic::{AtomicBool, Ordering};
use qemu_util::sync::oneshot;

use crate::rng::Rng;
use crate::world::Slot;

/// The life of such a thread.
pub(crate) fn live(slot: &Slot, mut rng: Rng) {
    while spend_a_life(slot, &mut rng) {}
}

/// One event loop from its beginning to its end; false when the round is over.
fn spend_a_life(slot: &Slot, rng: &mut Rng) -> bool {
    let context = AioContext::new().expect("the kernel has eventfds");
    context.set_poll_params(poll_params(rng));
    let (retire, retired) = oneshot::channel();
    if !slot.open(&context, retire) {
        return false;
    }
    match rng.below(3) {
        0 => retired_is_fine(context.block_on(retired)),
        1 => poll_until(&context, |stop| {
            drop(context.spawn(async move {
                retired_is_fine(retired.await);
                stop();
            }));
        }),
        _ => poll_until(&context, |stop| {
            // Everything else is served from inside a bottom half that does not return.
            context.schedule_oneshot(move || {
                let here = AioContext::current().expect("a bottom half runs in its loop");
                retired_is_fine(here.block_on(retired));
                stop();
            });
        }),
    }
    slot.vacate();
    if rng.one_in(2) {
        context.shut_down().expect("this is its home thread");
    }
    true
}

fn retired_is_fine(retired: Result<(), oneshot::Cancelled>) {
    assert!(retired.is_ok(), "the sender is taken out of the slot in order to send");
}

/// Polls until what `arrange` was given has been called.
fn poll_until(context: &AioContext, arrange: impl FnOnce(Box<dyn FnOnce() + Send>)) {
    let over = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&over);
    // Ordering: Relaxed, twice; it is called inside the loop, that is, in this thread.
    arrange(Box::new(move || stop.store(true, Ordering::Relaxed)));
    while !over.load(Ordering::Relaxed) {
        context.poll(true);
    }
}

/// Any of the ways to spin before sleeping.
pub(crate) fn poll_params(rng: &mut Rng) -> PollParams {
    let max = [0, 0, 4_000, 32_768, 200_000][rng.index(5)];
    let factor = |rng: &mut Rng| u32::try_from(rng.below(4)).expect("less than 4");
    PollParams { max: Duration::from_nanos(max), grow: factor(rng), shrink: factor(rng) }
}
