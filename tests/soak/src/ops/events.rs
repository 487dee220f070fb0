//! `QemuEvent` with several setters and waiters.

use std::thread;
use std::time::Duration;

use qemu_util::event::QemuEvent;
use qemu_util::primitive::Arc;

use super::Worker;
use crate::counts::{self, Counter};
use crate::ledger::Token;
use crate::rng::Rng;

/// Sets an event when it is called, and at the latest when it is dropped.
struct Setter {
    event: Arc<QemuEvent>,
    _token: Token,
}

impl Drop for Setter {
    fn drop(&mut self) {
        self.event.set();
    }
}

/// Several event loops set an event that several threads wait for.
pub(super) fn once(worker: &mut Worker, rng: &mut Rng) {
    let event = Arc::new(QemuEvent::new(false));
    let mut last = Some(Setter { event: Arc::clone(&event), _token: Token::new() });
    thread::scope(|scope| {
        for _ in 0..rng.below(3) {
            let (event, timed) = (&event, rng.one_in(2));
            scope.spawn(move || {
                if timed {
                    while !event.wait_timeout(Duration::from_micros(100)) {}
                } else {
                    event.wait();
                }
            });
        }
        for _ in 0..1 + rng.below(3) {
            let setter = Setter { event: Arc::clone(&event), _token: Token::new() };
            let Some(context) = worker.context(rng) else { continue };
            last = None;
            context.schedule_oneshot(move || drop(setter));
        }
        // Only when there was no context at all.
        drop(last);
        event.wait();
    });
    assert!(event.is_set(), "nobody has reset it");
}

/// One thread takes what several post, with an event against sleeping too long: reset, look, wait.
pub(super) fn stream(worker: &mut Worker, rng: &mut Rng) {
    let (event, posted) = (QemuEvent::new(false), Counter::new());
    let (n_posters, n_posts) = (1 + rng.below(3), 20 + rng.below(100));
    let mut rngs: Vec<_> = (0..n_posters).map(|_| rng.fork()).collect();
    thread::scope(|scope| {
        for rng in &mut rngs {
            let (event, posted) = (&event, &posted);
            scope.spawn(move || {
                for _ in 0..n_posts {
                    rng.dawdle(2000);
                    posted.add(1);
                    event.set();
                }
            });
        }
        let mut taken = 0;
        while taken < n_posters * n_posts {
            event.reset();
            let new = posted.get() - taken;
            taken += new;
            if new == 0 {
                event.wait();
            }
            worker.actor.beat();
        }
    });
    assert_eq!(posted.get(), n_posters * n_posts, "all that was posted was taken");
}

/// An event that nobody sets is waited for until the time is over, and not for ever.
pub(super) fn timeout(_: &mut Worker, rng: &mut Rng) {
    let event = QemuEvent::new(false);
    let timeout = Duration::from_micros(rng.below(500));
    let start = std::time::Instant::now();
    assert!(!event.wait_timeout(timeout), "nobody has set the event");
    assert!(start.elapsed() >= timeout, "the wait was shorter than the time-out");
    counts::answered(start.elapsed().saturating_sub(timeout));
    event.set();
    assert!(event.wait_timeout(Duration::ZERO), "the event is set");
}
