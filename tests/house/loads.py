"""What Pushboat is to survive of its users, apps, builds and visitors, who are many, large, slow or gone."""

from __future__ import annotations

from tests.house.known import IN_BENCH, Line

LOADS = (
    Line(
        what="a client leaves before its pack is whole, or after",
        then="before: nothing changed, no folder left; after: the deploy goes on and can be watched",
        tests=(
            "ssh/test_pushes.py::test_a_pusher_who_leaves_in_the_middle_of_the_pack_leaves_nothing",
            "ssh/test_pushes.py::test_the_deploy_goes_on_when_the_pusher_leaves",
            "flow/test_push.py::test_ctrl_c_ends_the_watching_and_not_the_deploy",
        ),
    ),
    Line(
        what="two pushes to one app at once, or a push while it is destroyed, renamed, rolled back or scaled",
        then="one after the other; the outcome is one of them, whole",
        tests=(
            "flow/test_push.py::test_two_pushes_at_once_leave_one_of_them_live",
            "simulation/test_crash_points.py::test_dying_at_any_step_loses_nothing",
            "ssh/test_pushes.py::test_two_pushes_at_once_to_one_new_app_are_served_one_after_the_other",
            "flow/test_mixed.py::test_a_push_a_rollback_a_scale_and_a_rename_at_once_leave_one_whole_app",
            "ssh/test_pushes.py::test_an_app_destroyed_during_a_push_is_said_so",
            "ssh/test_records.py::test_the_rule_is_asked_anew_where_the_name_went_to_another_app_while_a_push_waited",
            "simulation/test_walks.py::test_whatever_happens_every_promise_is_kept",
        ),
    ),
    Line(
        what="a push of a gigabyte; bombs of trees or zeros; a very deep tree; a million files",
        then="refused while they come, in bounded memory",
        tests=(
            "flow/test_push_limits.py::test_a_bomb_is_refused_and_nothing_of_it_is_left",
            "flow/test_push_limits.py::test_a_new_app_whose_first_pack_is_a_byte_too_large_is_not_made",
            "git/test_pack.py::test_zeros_within_the_limit_pass_and_cost_no_memory",
            "git/test_tree.py::test_a_bomb_of_repeated_trees_is_refused",
        ),
        beside=IN_BENCH,
    ),
    Line(
        what="200 logins at once; thousands of silent connections; peers that are half gone",
        then="all are served, a good login too; what is silent is freed",
        tests=(
            "ssh/test_openssh.py::test_200_logins_at_once_are_all_served",
            "ssh/test_openssh.py::test_5000_silent_connections_do_not_keep_out_a_good_login",
            "ssh/test_crowds.py::test_silent_connections_of_many_sources_keep_nobody_out_and_are_all_freed",
            "ssh/test_openssh.py::test_past_the_cap_connections_wait_and_are_then_served",
            "ssh/test_sessions.py::test_a_peer_that_no_longer_answers_is_given_up",
            "ssh/test_identity.py::test_a_login_that_takes_too_long_is_ended",
            "ssh/test_silent_sessions.py::test_sessions_that_ask_for_nothing_do_not_keep_a_connection",
        ),
        beside=IN_BENCH,
    ),
    Line(
        what="a slow reader of logs; an app that floods its log; endless, binary and escaping lines",
        then="bounded memory, a gap for that reader alone, lines cut and cleaned, other apps not delayed",
        tests=(
            "docker/test_log_files.py::test_no_order_of_writes_rotations_and_reads_loses_a_line_unmarked",
            "flow/test_logs.py::test_a_reader_who_does_not_read_loses_its_own_oldest_lines_and_nobody_else_any",
            "flow/test_mixed.py::"
            "test_an_app_with_endless_output_delays_neither_other_apps_nor_commands_and_costs_bounded_memory",
            "handlers/test_logs.py::test_a_chatty_app_does_not_delay_another",
            "handlers/test_logs.py::test_long_and_binary_lines_are_split_and_decoded",
            "docker/test_logs.py::test_an_endless_line_is_given_in_pieces_and_not_kept",
            "commands/test_logs.py::test_on_a_terminal_each_process_has_its_colour_and_nothing_else_acts",
        ),
        beside=IN_BENCH,
    ),
    Line(
        what="a replica out of memory; one that ends again and again; checks that never pass, or flap; a port that is "
        "late, another, or on loopback; one that ignores SIGTERM",
        then="an event with the cause and a message that names it, growing pauses, and the old release serves",
        tests=(
            "flow/test_replica_faults.py::test_a_replica_that_takes_too_much_memory_is_lost_for_that_reason",
            "flow/test_replica_faults.py::test_an_app_that_ends_again_and_again_is_started_less_and_less_often_and_told_why",
            "simulation/test_patience.py::test_an_app_that_dies_as_it_starts_waits_longer_and_longer",
            "simulation/test_patience.py::test_an_app_that_serves_for_a_while_before_it_dies_is_back_soon_however_often",
            "flow/test_replica_faults.py::test_an_app_that_cannot_be_reached_is_told_where_it_listens",
            "flow/test_replica_faults.py::test_an_app_that_starts_late_is_waited_for",
            "flow/test_replica_faults.py::test_an_app_that_ignores_sigterm_is_ended_after_its_time_and_keeps_nobody_waiting",
            "flow/test_checks.py::test_a_replica_that_is_not_ready_fails_its_deploy_with_the_reason",
            "handlers/test_silence.py::test_a_live_replica_that_runs_and_never_gets_ready_is_started_afresh",
            "simulation/test_waiting.py::test_a_check_that_flaps_is_passed_once_it_passes_and_what_serves_is_not_touched",
        ),
    ),
    Line(
        what="a long request, an upload or a websocket while its app is deployed; websockets of other apps",
        then="they complete; those of other apps are never cut",
        tests=(
            "proxies/test_old_workers.py::test_a_request_in_flight_in_the_old_worker_keeps_its_replica",
            "proxies/test_old_workers.py::test_half_a_request_in_the_old_worker_is_served_once_it_is_whole",
            "proxies/test_switching.py::test_a_websocket_outlives_changes_of_other_apps_reloads_and_its_own_replicas_drain",
            "flow/test_survival.py::test_a_websocket_survives_the_deploy_of_another_app_and_its_own_drain",
        ),
    ),
    Line(
        what="an app that forks without end",
        then="it gets as many processes as it may; who pushed it reads why it ended, and nobody else is touched",
        tests=(
            "schedulers/test_docker.py::test_a_fork_bomb_gets_as_many_processes_as_the_limit_and_not_one_more",
            "flow/test_mixed.py::test_a_fork_bomb_in_an_app_is_told_to_who_pushed_it_and_stops_nobody_else",
        ),
    ),
    Line(
        what="visitors ask while their app and others are pushed, scaled, given domains, and HAProxy reloads",
        then="no request fails",
        tests=(
            "flow/test_mixed.py::test_visitors_lose_nothing_while_their_app_and_others_are_changed_and_haproxy_reloads",
            "proxies/test_many_switches.py::"
            "test_a_reload_then_a_switch_then_the_end_of_the_old_replica_costs_nobody_a_request",
        ),
        beside="At length, with visitors of every kind: scripts/torture switch.",
    ),
    Line(
        what="a build that forks, fills the disk, prints or sleeps without end",
        then="it meets its limits and is told so; the agent answers meanwhile",
        tests=(
            "builders/test_dockerfile.py::test_a_fork_bomb_in_a_build_meets_its_limit_and_ends",
            "flow/test_disk.py::test_an_engine_s_full_disk_loses_nothing_and_cleaning_up_frees_what_nothing_needs",
            "builders/test_dockerfile.py::test_an_endless_output_is_cut_and_ends_with_the_limit",
            "flow/test_builds.py::test_a_build_that_prints_without_end_stops_nobody_and_ends_at_its_time_limit",
            "builders/test_dockerfile.py::test_a_build_past_its_time_limit_fails_and_ends",
            "flow/test_builds.py::test_a_build_that_wants_all_the_memory_ends_and_takes_nothing_else_down",
        ),
    ),
    Line(
        what="no memory, or no further file, to be had",
        then="new work waits or is refused, what runs goes on",
        tests=(
            "commands/test_dispatcher.py::test_too_many_open_files_are_no_bug_and_worth_another_try",
            "flow/test_descriptors.py::test_without_a_file_to_be_had_new_work_waits_and_the_app_serves",
            "proxies/test_room.py::test_a_proxy_with_few_files_starts_and_serves_and_says_what_it_can",
            "flow/test_builds.py::test_a_build_that_wants_all_the_memory_ends_and_takes_nothing_else_down",
        ),
        beside="An agent that the kernel ends for want of memory is a killed agent, see above; CPython cannot be made "
        "to fail at an allocation of one's choice and go on.",
    ),
    Line(
        what="a thousand apps when the agent starts",
        then="all are looked at, and the loop turns meanwhile",
        tests=(
            "proxies/test_thousand.py::test_a_thousand_apps_are_applied_switched_drained_and_surveyed",
            "bus/test_survival.py::test_ten_thousand_owed_events_cost_no_more_each_than_a_hundred",
        ),
        beside=IN_BENCH,
    ),
)
