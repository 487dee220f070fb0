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
    futex_compares_too_early: FutexComparesTooEarly => crate::event::loom_tests::set_against_reset_and_wait,

    event_set_without_store_load: EventSetWithoutStoreLoad => crate::event::loom_tests::set_against_reset_and_wait,
    event_set_without_release: EventSetWithoutRelease
        => crate::event::loom_tests::what_was_written_before_set_is_seen_by_who_waits,
    event_set_in_two_steps: EventSetInTwoSteps => crate::event::loom_tests::set_against_reset_and_wait,
    event_reset_without_store_load: EventResetWithoutStoreLoad => crate::event::loom_tests::set_against_reset_and_wait,
    event_reset_forgets_sleepers: EventResetForgetsSleepers
        => crate::event::loom_tests::a_reset_leaves_sleepers_to_the_next_set,
    event_wait_without_acquire: EventWaitWithoutAcquire
        => crate::event::loom_tests::what_was_written_before_set_is_seen_by_who_waits,
    event_mark_without_acquire: EventMarkWithoutAcquire
        => crate::event::loom_tests::what_was_written_before_set_is_seen_by_who_waits,
    event_mark_by_store: EventMarkByStore => crate::event::loom_tests::set_against_reset_and_wait,
    event_sleeps_unmarked: EventSleepsUnmarked => crate::event::loom_tests::set_against_reset_and_wait,
    event_is_set_without_acquire: EventIsSetWithoutAcquire
        => crate::event::loom_tests::what_was_written_before_set_is_seen_by_who_asks,

    rcu_enter_without_fence: RcuEnterWithoutFence => crate::rcu::loom_tests::a_reader_never_sees_a_freed_value,
    rcu_leave_without_fence: RcuLeaveWithoutFence => crate::rcu::loom_tests::a_reader_never_sees_a_freed_value,
    rcu_leave_without_release: RcuLeaveWithoutRelease => crate::rcu::loom_tests::a_reader_never_sees_a_freed_value,
    rcu_scan_without_acquire: RcuScanWithoutAcquire => crate::rcu::loom_tests::a_reader_never_sees_a_freed_value,
    rcu_wakes_before_clearing: RcuWakesBeforeClearing
        => crate::rcu::loom_tests::two_grace_periods_against_two_sections,

    rcu_counts_without_fence: RcuCountsWithoutFence => crate::rcu::loom_tests::a_reader_never_sees_a_freed_value,
    rcu_scan_without_fence: RcuScanWithoutFence => crate::rcu::loom_tests::a_reader_never_sees_a_freed_value,
    rcu_waits_after_scan: RcuWaitsAfterScan => crate::rcu::loom_tests::a_reader_never_sees_a_freed_value,
    rcu_resets_after_scan: RcuResetsAfterScan => crate::rcu::loom_tests::a_reader_never_sees_a_freed_value,
    rcu_counts_nothing: RcuCountsNothing => crate::rcu::loom_tests::a_reader_never_sees_a_freed_value,

    rcu_sets_before_queueing: RcuSetsBeforeQueueing => crate::rcu::loom_tests::the_server_is_woken,
    rcu_server_resets_after_look: RcuServerResetsAfterLook => crate::rcu::loom_tests::the_server_is_woken,
    rcu_calls_at_once: RcuCallsAtOnce => crate::rcu::loom_tests::a_reader_against_the_server,
    rcu_calls_latecomers: RcuCallsLatecomers
        => crate::rcu::loom_tests::a_function_that_comes_late_waits_for_its_own_grace_period,
    rcu_calls_without_lock: RcuCallsWithoutLock => crate::rcu::loom_tests::two_threads_drain_without_a_server,

    rcu_read_without_acquire: RcuReadWithoutAcquire => crate::rcu::loom_tests::a_new_value_is_seen_whole,
    rcu_replace_without_release: RcuReplaceWithoutRelease => crate::rcu::loom_tests::a_new_value_is_seen_whole,
    rcu_replace_without_acquire: RcuReplaceWithoutAcquire
        => crate::rcu::loom_tests::who_replaces_sees_what_another_thread_put_in,

    notify_without_fence: NotifyWithoutFence => crate::aio::loom_tests::a_bottom_half_wakes_the_sleeping_loop,
    announce_without_fence: AnnounceWithoutFence => crate::aio::loom_tests::a_bottom_half_wakes_the_sleeping_loop,
    announce_by_read_modify_write: AnnounceByReadModifyWrite
        => crate::aio::loom_tests::a_bottom_half_wakes_the_sleeping_loop,
    notify_never_writes: NotifyNeverWrites => crate::aio::loom_tests::a_bottom_half_wakes_the_sleeping_loop,
}
