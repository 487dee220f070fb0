//! What the models of the workspace share: how far loom explores, and the test that a mutant makes a model fail.
//!
//! Only in builds with the cfg `qemu_loom`. Each model is a `#[test]` in a module called `loom_tests`, and is run in a
//! process of its own, because loom may abort the process when it finds a deadlock.
//!
//! | environment | effect |
//! |---|---|
//! | `LOOM_MAX_PREEMPTIONS=n` | every model is bounded by `n` preemptions |
//! | `QEMU_LOOM_FULL=1` | the bounded models get two preemptions more, for which some take hours |
//! | `LOOM_MAX_BRANCHES=n` | how long one execution may be before it counts as an endless loop |
//!
//! A model is worth what it can fail at, so that each is run with mutants. One thing to know when it passes with one:
//! of the accesses to an object loom remembers the last, and turns round only that one and the next. In "A loads; B
//! loads; B stores" it does not see that A's load could come last. In the first execution, where the first thread runs
//! until it has to wait, that thread should therefore be the one that stores.

#[cfg(test)]
mod probes;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::mutant::{Mutant, VARIABLE};

#[cfg(test)]
pub(crate) use probes::{Checked, RELAXED, reached};

/// A model that has not failed after this time is taken for one that would not.
const PATIENCE: Duration = Duration::from_secs(120);

/// The longest execution, in branches; loom's own limit is too short for a context, which makes several rounds.
const BRANCHES_MAX: usize = 20_000;

/// Explores all executions of `check`; for small models of two threads.
///
/// # Panics
/// When an execution panics, deadlocks, or accesses an [`UnsafeCell`](crate::primitive::UnsafeCell) without order.
pub fn explore(check: impl Fn() + Sync + Send + 'static) {
    run(None, check);
}

/// Explores the executions of `check` with `preemptions` preemptions at most; for models of more than two threads,
/// and for those whose threads do several things one after the other.
///
/// 3 is enough for every defect that is known here, and 2 is not.
///
/// # Panics
/// As [`explore`].
pub fn explore_bounded(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let is_full = std::env::var_os("QEMU_LOOM_FULL").is_some_and(|value| value == "1");
    run(Some(if is_full { preemptions + 2 } else { preemptions }), check);
}

fn run(preemptions: Option<usize>, check: impl Fn() + Sync + Send + 'static) {
    if std::env::var_os("LOOM_LOG").is_some() {
        // Somebody wants to read an execution: only this function of loom's sets up its log. It takes its limits from
        // the environment.
        return loom::model(check);
    }
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    if std::env::var_os("LOOM_MAX_BRANCHES").is_none() {
        builder.max_branches = BRANCHES_MAX;
    }
    builder.check(check);
}

/// Runs the test `model` of this binary with `mutant` on, and asserts that it fails.
///
/// # Panics
/// When the model passes, is not found, or goes on for minutes.
pub fn assert_killed(mutant: Mutant, model: &str) {
    let this_binary = std::env::current_exe().expect("a test has a binary");
    let mut child = Command::new(this_binary)
        .args(["--exact", model, "--nocapture"])
        .env(VARIABLE, mutant.name())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary can be run again");
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            break status;
        }
        if Instant::now() >= end {
            child.kill().expect("the child is ours");
            child.wait().expect("the child is ours");
            panic!("{model} goes on for ever with {}: a loop, or a model that is too large", mutant.name());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(!status.success(), "{model} passes with {}", mutant.name());
}

/// A test for each mutant, and one that none of the mutants for which `$is_ours` holds is left out.
#[doc(hidden)]
#[macro_export]
macro_rules! killed_by {
    (all: $is_ours:expr; $($test:ident: $variant:ident => $model:path,)*) => {
        $(
            #[test]
            fn $test() {
                // The path makes sure that there is such a model; its text is the name of the test.
                let _there_is_one: fn() = $model;
                let name = stringify!($model).replace(' ', "");
                let name = name.strip_prefix("crate::").expect("models are named from the root of their crate");
                $crate::model::assert_killed($crate::mutant::Mutant::$variant, name);
            }
        )*

        #[test]
        fn every_mutant_has_a_model() {
            let tested = [$($crate::mutant::Mutant::$variant),*];
            let is_ours: fn($crate::mutant::Mutant) -> bool = $is_ours;
            let all = $crate::mutant::Mutant::ALL.iter().copied();
            let untested: Vec<_> = all.filter(|mutant| is_ours(*mutant) && !tested.contains(mutant)).collect();
            assert!(untested.is_empty(), "no model is run with {untested:?}");
        }
    };
}
