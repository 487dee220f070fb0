//! Every mutant makes a model fail: the models are run again, each in a process of its own, with one mutant on.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Mutant, VARIABLE};

/// A model that has not failed after this time is taken for one that would not.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the test `model` of this binary with `mutant` on, and asserts that it fails.
fn assert_killed(mutant: Mutant, model: &str) {
    let this_binary = std::env::current_exe().unwrap();
    let mut child = Command::new(this_binary)
        .args(["--exact", model, "--nocapture"])
        .env(VARIABLE, mutant.name())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() >= end {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{model} goes on for ever with {}: a loop, or a model that is too large", mutant.name());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(!status.success(), "{model} passes with {}", mutant.name());
}

/// A test for each mutant, and the list of those that have one.
macro_rules! killed_by {
    ($($test:ident: $variant:ident => $model:path,)*) => {
        $(
            #[test]
            fn $test() {
                // The path makes sure that there is such a model; its text is the name of the test.
                let _there_is_one: fn() = $model;
                let name = stringify!($model).replace(' ', "");
                assert_killed(Mutant::$variant, name.strip_prefix("crate::").unwrap());
            }
        )*

        #[test]
        fn every_mutant_has_a_model() {
            let tested = [$(Mutant::$variant),*];
            let untested: Vec<_> = Mutant::ALL.iter().filter(|mutant| !tested.contains(mutant)).collect();
            assert!(untested.is_empty(), "no model is run with {untested:?}");
        }
    };
}

killed_by! {
    notify_without_fence: NotifyWithoutFence => crate::aio::loom_tests::a_bottom_half_wakes_the_sleeping_loop,
    announce_without_fence: AnnounceWithoutFence => crate::aio::loom_tests::a_bottom_half_wakes_the_sleeping_loop,
    announce_by_read_modify_write: AnnounceByReadModifyWrite
        => crate::aio::loom_tests::a_bottom_half_wakes_the_sleeping_loop,
    notify_never_writes: NotifyNeverWrites => crate::aio::loom_tests::a_bottom_half_wakes_the_sleeping_loop,
}
