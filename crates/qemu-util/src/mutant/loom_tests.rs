//! Every mutant makes a model fail: the models are run again, each in a process of its own, with one mutant on.

crate::killed_by! {
    // The worker pool's are in qemu-block, where its models are.
    all: |mutant| !mutant.name().starts_with("pool-");

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

    list_push_without_release: ListPushWithoutRelease => crate::push_list::loom_tests::push_against_take,
    list_push_in_two_steps: ListPushInTwoSteps => crate::push_list::loom_tests::two_pushers_against_the_consumer,
    list_take_without_acquire: ListTakeWithoutAcquire => crate::push_list::loom_tests::push_against_take,
    list_close_without_acquire: ListCloseWithoutAcquire => crate::push_list::loom_tests::push_against_close,
    list_any_without_acquire: ListAnyWithoutAcquire => crate::push_list::loom_tests::push_against_any,

    home_bind_without_acquire: HomeBindWithoutAcquire
        => crate::aio::home::loom_tests::the_next_home_thread_sees_what_the_last_one_did,
    home_leave_without_release: HomeLeaveWithoutRelease
        => crate::aio::home::loom_tests::the_next_home_thread_sees_what_the_last_one_did,
    home_enters_in_two_steps: HomeEntersInTwoSteps
        => crate::aio::home::loom_tests::the_next_home_thread_sees_what_the_last_one_did,
    home_binds_while_entered: HomeBindsWhileEntered
        => crate::aio::home::loom_tests::the_next_home_thread_sees_what_the_last_one_did,

    notify_without_fence: NotifyWithoutFence => crate::aio::loom_tests::a_bottom_half_wakes_the_sleeping_loop,
    announce_without_fence: AnnounceWithoutFence => crate::aio::loom_tests::a_bottom_half_wakes_the_sleeping_loop,
    announce_by_read_modify_write: AnnounceByReadModifyWrite
        => crate::aio::loom_tests::a_bottom_half_wakes_the_sleeping_loop,
    notify_never_writes: NotifyNeverWrites => crate::aio::loom_tests::a_bottom_half_wakes_the_sleeping_loop,
    announce_does_not_count: AnnounceDoesNotCount => crate::aio::loom_tests::wake::nested_announcements_count,
    accept_clears_before_draining: AcceptClearsBeforeDraining
        => crate::aio::loom_tests::wake::no_wake_up_is_lost_in_the_accept,
    look_before_announce: LookBeforeAnnounce => crate::aio::loom_tests::wake::adaptive_polling,
    poll_without_blocking_drains: PollWithoutBlockingDrains
        => crate::aio::loom_tests::wake::a_poll_that_does_not_block_loses_nothing,
    notify_before_publish: NotifyBeforePublish => crate::aio::loom_tests::a_bottom_half_wakes_the_sleeping_loop,
    kick_without_release: KickWithoutRelease => crate::aio::loom_tests::wake::a_kick_carries_its_writes,
    take_kick_without_acquire: TakeKickWithoutAcquire => crate::aio::loom_tests::wake::a_kick_carries_its_writes,
    kick_by_store: KickByStore => crate::aio::loom_tests::wake::two_kicks_carry_their_writes,

    bh_schedule_without_release: BhScheduleWithoutRelease => crate::aio::loom_tests::bh::schedule_against_run,
    bh_schedule_without_acquire: BhScheduleWithoutAcquire => crate::aio::loom_tests::bh::schedule_against_run,
    bh_dequeue_without_release: BhDequeueWithoutRelease => crate::aio::loom_tests::bh::schedule_against_run,
    bh_dequeue_without_acquire: BhDequeueWithoutAcquire => crate::aio::loom_tests::bh::schedule_against_run,
    bh_scheduled_after_push: BhScheduledAfterPush => crate::aio::loom_tests::bh::schedule_against_run,
    bh_notifies_only_after_push: BhNotifiesOnlyAfterPush
        => crate::aio::loom_tests::bh::scheduling_after_cancelling_runs,
    bh_delete_keeps_function: BhDeleteKeepsFunction => crate::aio::loom_tests::bh::schedule_against_delete,

    timer_kicks_before_arming: TimerKicksBeforeArming => crate::aio::loom_tests::timer::a_timer_armed_elsewhere,
    generation_without_release: GenerationWithoutRelease => crate::aio::loom_tests::fd::the_list_is_as_new_as_its_number,
    generation_without_acquire: GenerationWithoutAcquire => crate::aio::loom_tests::fd::the_list_is_as_new_as_its_number,
    generation_before_list: GenerationBeforeList => crate::aio::loom_tests::fd::the_list_is_as_new_as_its_number,
    fd_kicks_before_adding: FdKicksBeforeAdding => crate::aio::loom_tests::fd::a_handler_added_elsewhere,

    task_wake_without_release: TaskWakeWithoutRelease => crate::task::loom_tests::wake_against_poll,
    task_wake_without_acquire: TaskWakeWithoutAcquire => crate::task::loom_tests::wake_against_poll,
    task_begin_without_acquire: TaskBeginWithoutAcquire => crate::task::loom_tests::wake_against_poll,
    task_pending_without_release: TaskPendingWithoutRelease => crate::task::loom_tests::wake_against_poll,
    task_begin_keeps_scheduled: TaskBeginKeepsScheduled => crate::task::loom_tests::wake_against_poll,
    join_wakes_before_result: JoinWakesBeforeResult => crate::task::loom_tests::end::join_against_completion,
    woken_without_release: WokenWithoutRelease => crate::task::loom_tests::block_on_is_woken,
    take_woken_without_acquire: TakeWokenWithoutAcquire => crate::task::loom_tests::block_on_is_woken,
    kick_before_woken: KickBeforeWoken => crate::task::loom_tests::block_on_is_woken,
    woken_by_store: WokenByStore => crate::task::loom_tests::two_wakers_of_one_block_on,

    waiters_keep_first_waker: WaitersKeepFirstWaker => crate::sync::loom_tests::a_waiter_is_polled_by_another_task,
    gate_joins_without_look: GateJoinsWithoutLook => crate::sync::loom_tests::mutex_excludes_and_hands_over,
    gate_overtakes_the_line: GateOvertakesTheLine => crate::sync::loom_tests::a_reader_does_not_overtake_a_writer,
    gate_drop_keeps_turn: GateDropKeepsTurn => crate::sync::loom_tests::mutex_waiter_that_gives_up_hands_on,
    gate_drop_admits_nobody: GateDropAdmitsNobody => crate::sync::loom_tests::who_gives_up_lets_the_next_one_in,
    queue_releases_before_joining: QueueReleasesBeforeJoining => crate::sync::loom_tests::queue_loses_no_wake_up,
    queue_drop_keeps_wake_up: QueueDropKeepsWakeUp => crate::sync::loom_tests::a_dropped_waiter_hands_its_wake_up_on,
    queue_lock_keeps_wake_up: QueueLockKeepsWakeUp
        => crate::sync::loom_tests::a_waiter_dropped_while_it_locks_hands_its_wake_up_on,
    oneshot_drop_tells_nobody: OneshotDropTellsNobody => crate::sync::loom_tests::a_dropped_sender_ends_the_wait,
    oneshot_keeps_first_waker: OneshotKeepsFirstWaker
        => crate::sync::loom_tests::a_receiver_is_polled_by_another_task,
}
