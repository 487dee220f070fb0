//! Random schedules of the common core against a model that is nothing but the rules.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::sync::{Semaphore, SemaphorePermit};

/// Who waits (in order) and who is inside, as the rules have it.
struct Model {
    free: usize,
    waiting: Vec<(usize, usize)>,
    inside: BTreeMap<usize, usize>,
}

impl Model {
    fn admit(&mut self) {
        while let Some(&(who, n_permits)) = self.waiting.first() {
            if self.free < n_permits {
                break;
            }
            self.free -= n_permits;
            self.waiting.remove(0);
            self.inside.insert(who, n_permits);
        }
    }

    fn arrive(&mut self, who: usize, n_permits: usize) {
        self.waiting.push((who, n_permits));
        self.admit();
    }

    /// Gives up waiting, or leaves: for the model the same.
    fn go(&mut self, who: usize) {
        self.waiting.retain(|&(other, _)| other != who);
        self.free += self.inside.remove(&who).unwrap_or(0);
        self.admit();
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Arrive { n_permits: usize },
    Poll(usize),
    Go(usize),
}

/// One who came: still a future, or already with a permit.
enum Guest<'a> {
    Future(Driven<'a, SemaphorePermit<'a>>),
    Permit(SemaphorePermit<'a>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_usize..4).prop_map(|n_permits| Step::Arrive { n_permits }),
        any::<usize>().prop_map(Step::Poll),
        any::<usize>().prop_map(Step::Go),
    ]
}

proptest! {
    #[test]
    fn random_schedules_follow_the_model(steps in proptest::collection::vec(step(), 1..120)) {
        let semaphore = Semaphore::new(3);
        let mut model = Model { free: 3, waiting: Vec::new(), inside: BTreeMap::new() };
        let mut guests: Vec<(usize, Guest<'_>)> = Vec::new();
        for (who, step) in steps.into_iter().enumerate() {
            match step {
                Step::Arrive { n_permits } => {
                    let mut future = Driven::new(semaphore.acquire(n_permits));
                    model.arrive(who, n_permits);
                    let at_once = future.poll();
                    prop_assert_eq!(at_once.is_some(), model.inside.contains_key(&who));
                    guests.push((who, at_once.map_or(Guest::Future(future), Guest::Permit)));
                }
                Step::Poll(choice) if !guests.is_empty() => {
                    let index = choice % guests.len();
                    let (who, guest) = &mut guests[index];
                    if let Guest::Future(future) = guest {
                        let permit = future.poll();
                        prop_assert_eq!(permit.is_some(), model.inside.contains_key(who));
                        if let Some(permit) = permit {
                            *guest = Guest::Permit(permit);
                        }
                    }
                }
                Step::Go(choice) if !guests.is_empty() => {
                    let (who, guest) = guests.swap_remove(choice % guests.len());
                    drop(guest);
                    model.go(who);
                }
                Step::Poll(_) | Step::Go(_) => {}
            }
            prop_assert_eq!(semaphore.available(), model.free);
            for (who, guest) in &guests {
                if let Guest::Future(future) = guest {
                    // No lost wake-up, and none without a reason.
                    prop_assert_eq!(future.n_wakes(), usize::from(model.inside.contains_key(who)));
                }
                if let Guest::Permit(permit) = guest {
                    prop_assert_eq!(Some(&permit.n_permits()), model.inside.get(who));
                }
            }
        }
        drop(guests);
        prop_assert_eq!(semaphore.available(), 3);
    }
}
