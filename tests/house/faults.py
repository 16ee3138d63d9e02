"""What Pushboat is to survive and to refuse, each with the tests that show it, or with why no test can.

``test_faults_listed.py`` checks that each of the tests is there. Who finds another fault adds a line, and then a test.
"""

from __future__ import annotations

import msgspec


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One fault or attack."""

    what: str
    then: str
    """What is to happen."""
    tests: tuple[str, ...] = ()
    """Below ``tests/``."""
    beside: str = ""
    """What no test can show, and what stands for it; or where else it is looked at."""


IN_BENCH = "How fast is measured in bench/, not asserted: figures depend on the machine."
NOTED = "How fast is told at the end of each run of the tests, not asserted: figures depend on the machine."

FAULTS = (
    Line(
        what="the agent dies before a push is stored",
        then="the pusher sees a failure, nothing exists",
        tests=(
            "simulation/test_crash_points.py::test_dying_at_any_step_loses_nothing",
            "flow/test_kills.py::test_kills_of_what_serves_no_visitor_lose_nothing_and_are_not_noticed",
            "git/test_repos.py::test_tidy_removes_the_quarantine_of_a_killed_push_only",
            "ssh/test_pushes.py::test_what_git_stored_and_nobody_recorded_is_deployed_by_the_next_empty_push",
            "git/test_receive.py::test_what_a_git_moved_that_was_killed_before_it_had_ended_is_put_back_and_told",
            "ssh/test_pushes.py::test_the_sweep_removes_what_killed_pushes_left_and_nothing_else",
        ),
    ),
    Line(
        what="the agent dies while it builds, between image and row, between create and start, while checks run",
        then="after the restart it goes on or undoes; the old release serves",
        tests=(
            "simulation/test_crash_points.py::test_dying_at_any_step_loses_nothing",
            "flow/test_survival.py::test_an_agent_killed_while_it_builds_goes_on_after_its_restart",
            "flow/test_survival.py::test_an_agent_killed_while_replicas_start_goes_on_after_its_restart",
            "schedulers/test_docker.py::test_a_create_that_comes_true_late_is_adopted",
        ),
    ),
    Line(
        what="the agent dies when the route has switched and that is not stored yet",
        then="what is stored decides, and no request fails",
        tests=(
            "simulation/test_crash_points.py::test_dying_at_any_step_loses_nothing",
            "flow/test_survival.py::test_an_agent_killed_while_it_switches_goes_on_after_its_restart",
        ),
    ),
    Line(
        what="the agent dies while an old replica drains",
        then="the new one serves, the old one has what is left of its time and goes",
        tests=(
            "flow/test_survival.py::test_an_agent_killed_during_a_drain_lets_the_request_in_flight_finish",
            "simulation/test_switching.py::test_what_drained_while_no_agent_ran_ends_only_when_no_request_goes_to_it_any_more",
            "handlers/test_switch.py::test_a_busy_replica_is_waited_for_and_a_restart_of_the_agent_does_not_change_its_deadline",
        ),
    ),
    Line(
        what="the agent dies inside any other command",
        then="it is done or not done, never half",
        tests=(
            "simulation/test_crash_points.py::test_dying_at_any_step_loses_nothing",
            "simulation/test_walks.py::test_whatever_happens_every_promise_is_kept",
            "state/test_transaction.py::test_a_failure_at_any_call_leaves_all_or_nothing",
            "git/test_repos.py::test_a_removal_that_was_cut_short_is_finished_by_the_next",
        ),
    ),
    Line(
        what="the agent is killed at each sync and each write of a deploy",
        then="what was acknowledged is stored, and the database is whole",
        tests=(
            "flow/test_syncs.py::test_an_agent_that_ends_or_meets_a_failing_disk_at_a_sync_or_a_write_loses_nothing",
        ),
        beside="All of them with scripts/torture syncs; every tenth sync and two writes in each run of the tests.",
    ),
    Line(
        what="the agent's loop hangs",
        then="systemd restarts it, the apps go on",
        tests=(
            "test_system.py::test_a_loop_that_turns_is_told_again_and_again",
            "test_system.py::test_a_loop_that_hangs_tells_nothing",
            "house/test_install_booted.py::test_an_installation_from_the_first_start_to_its_end",
        ),
    ),
    Line(
        what="the engine restarts",
        then="calls are tried again, no second container; what runs is taken up again",
        tests=(
            "schedulers/test_docker.py::test_a_half_removed_container_is_ended_and_removed",
            "flow/test_engine_faults.py::test_a_restart_of_the_engine_moves_nothing_and_a_push_meanwhile_goes_live",
            "flow/test_engine_faults.py::test_a_killed_engine_leaves_the_site_up_and_everything_in_its_place",
            "schedulers/test_docker.py::test_an_answer_that_was_lost_is_found_again",
        ),
        beside=NOTED,
    ),
    Line(
        what="the engine hangs",
        then="every call has an end; reading commands answer and say so",
        tests=(
            "docker/test_engine.py::test_an_engine_that_hangs_is_unavailable_after_the_deadline",
            "flow/test_engine_faults.py::test_commands_tell_of_a_silent_engine_and_what_they_ask_for_comes_true_with_its_return",
            "flow/test_engine_faults.py::test_a_frozen_engine_costs_a_push_time_and_nobody_else_anything",
            "commands/test_ps.py::test_reports_answer_while_docker_does_not_and_say_so",
        ),
        beside=NOTED,
    ),
    Line(
        what="the engine answers 500, 409 or 404, or its answer is lost after the effect",
        then="tried again where that is harmless, our own is adopted",
        tests=(
            "docker/test_engine.py::test_a_fault_of_the_engine_is_unavailable_and_keeps_its_words",
            "docker/test_engine.py::test_a_cut_or_senseless_answer_is_unavailable",
            "schedulers/test_docker.py::test_an_answer_that_was_lost_is_found_again",
            "schedulers/test_docker.py::test_two_containers_of_one_replica_become_one",
            "simulation/test_walks.py::test_whatever_happens_every_promise_is_kept",
        ),
    ),
    Line(
        what="the engine's events end, come twice, late or in another order",
        then="they are hints: a comparison every 30 s and at each reconnect finds all",
        tests=(
            "docker/test_events.py::test_every_reconnect_is_a_notice_about_everything",
            "docker/test_events.py::test_the_return_of_an_engine_that_hung_is_a_notice",
            "bus/test_levels.py::test_surveys_come_at_the_start_every_30_seconds_and_on_request",
            "simulation/test_walks.py::test_whatever_happens_every_promise_is_kept",
        ),
    ),
    Line(
        what="somebody removes or restarts a container of ours",
        then="it is back, and an event says so",
        tests=("flow/test_survival.py::test_a_restarted_or_removed_replica_comes_back",),
        beside=NOTED,
    ),
    Line(
        what="an image goes from under a release",
        then="what runs goes on; it is told how to get it back; a rollback looks first",
        tests=(
            "flow/test_replica_faults.py::test_a_missing_image_is_told_and_a_rebuild_brings_it_back",
            "commands/test_releases.py::test_an_image_that_is_gone_cannot_be_rolled_back_to",
            "commands/test_releases.py::test_an_image_that_somebody_removed_cannot_be_rolled_back_to",
            "flow/test_replica_faults.py::test_a_rollback_whose_image_somebody_removed_is_refused_and_what_runs_goes_on",
        ),
    ),
    Line(
        what="a stranger's container or network has our name",
        then="it is never touched, and named",
        tests=(
            "flow/test_replica_faults.py::test_a_strangers_container_of_our_name_is_left_alone_and_in_nobodys_way",
            "docker/test_networks.py::test_a_foreign_network_of_our_name_is_named_and_not_touched",
        ),
    ),
    Line(
        what="HAProxy is killed, started empty, changed by hand, or hangs",
        then="it is put right; a deploy that cannot switch fails before it does",
        tests=(
            "proxies/test_recovery.py::test_a_killed_haproxy_comes_back_with_what_it_served",
            "proxies/test_recovery.py::test_a_haproxy_started_by_hand_on_another_file_is_brought_to_the_right_one",
            "proxies/test_recovery.py::test_what_was_changed_by_hand_is_noticed_and_mended",
            "flow/test_proxy_faults.py::test_a_proxy_killed_during_a_deploy_comes_back_and_the_deploy_goes_live",
            "flow/test_proxy_faults.py::test_a_proxy_that_hangs_fails_the_deploy_before_it_switches",
            "flow/test_proxy_faults.py::test_what_a_hand_changes_in_the_proxy_is_undone",
        ),
        beside=NOTED,
    ),
    Line(
        what="one app's settings would make the proxy's file invalid",
        then="that change is refused, all others go on",
        tests=(
            "contracts/test_proxy.py::test_a_refused_route_keeps_the_former_one_and_stops_no_other",
            "handlers/test_deploys.py::test_a_refused_route_fails_its_own_deploy_and_no_other",
            "proxies/test_recovery.py::test_a_file_that_haproxy_refuses_is_never_put_in_its_place",
        ),
    ),
    Line(
        what="a disk is full, in any step",
        then="a clear refusal, nothing half done, and it goes on by itself when there is room",
        tests=(
            "flow/test_disk.py::test_a_full_disk_refuses_clearly_serves_on_and_recovers",
            "flow/test_disk.py::test_a_disk_that_fills_up_during_a_deploy_holds_it_until_there_is_space",
            "flow/test_disk.py::test_an_engine_s_full_disk_loses_nothing_and_cleaning_up_frees_what_nothing_needs",
            "bus/test_survival.py::test_a_full_disk_makes_handlers_wait_and_counts_against_nobody",
            "proxies/test_recovery.py::test_a_full_disk_refuses_the_change_and_leaves_what_is_served",
            "handlers/test_logs.py::test_a_full_disk_costs_nothing_once_there_is_room",
        ),
    ),
    Line(
        what="a sync fails (EIO)",
        then="nothing is acknowledged; the agent ends and starts again",
        tests=(
            "flow/test_syncs.py::test_an_agent_that_ends_or_meets_a_failing_disk_at_a_sync_or_a_write_loses_nothing",
            "state/test_transaction.py::test_a_failing_disk_is_told_once_and_for_all",
        ),
    ),
    Line(
        what="the database is damaged",
        then="the start is refused with the command that restores it; the apps go on",
        tests=(
            "flow/test_refused_starts.py::test_a_damaged_database_comes_back_from_its_backup_by_the_command_that_is_printed",
            "flow/test_refused_starts.py::test_a_damaged_database_without_a_backup_is_begun_anew_by_the_command_that_is_printed",
            "test_soundness.py::test_a_damaged_file_is_named_with_what_to_type",
        ),
    ),
    Line(
        what="a task is cancelled inside a transaction",
        then="it is rolled back before anything else runs",
        tests=(
            "state/test_transaction.py::test_a_cancellation_at_any_call_leaves_all_or_nothing",
            "state/test_transaction.py::test_many_who_are_cancelled_at_random_leave_whole_transactions_only",
        ),
    ),
    Line(
        what="another process holds the database",
        then="it is waited for, then told clearly",
        tests=(
            "state/test_database.py::test_a_second_process_waits_and_is_then_told_who_holds_the_data",
            "state/test_database.py::test_another_programs_lock_is_told_in_words",
            "flow/test_refused_starts.py::test_a_second_agent_on_the_same_folder_gives_way",
        ),
    ),
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
        what="somebody else has a port of ours",
        then="the start says who, ends with 78 and is not tried again and again",
        tests=(
            "flow/test_refused_starts.py::test_a_taken_http_port_is_told_with_who_has_it",
            "flow/test_refused_starts.py::test_a_taken_ssh_port_is_told",
            "house/test_units.py::test_what_ends_is_brought_back",
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
            "flow/test_builds.py::test_a_build_that_wants_all_the_memory_ends_and_takes_nothing_else_down",
        ),
        beside="An agent that the kernel ends for want of memory is a killed agent, see above; CPython cannot be made "
        "to fail at an allocation of one's choice and go on.",
    ),
    Line(
        what="the machine is started anew; Docker, proxy and agent come in any order",
        then="all is back without a command",
        tests=(
            "house/test_install_booted.py::test_an_installation_from_the_first_start_to_its_end",
            "flow/test_engine_faults.py::test_an_agent_starts_without_its_engine_and_takes_everything_up_when_it_comes",
            "flow/test_engine_faults.py::"
            "test_after_a_reboot_all_is_back_within_half_a_minute_of_docker_whichever_starts_first",
            "proxies/test_recovery.py::test_without_supervision_the_agent_starts_with_haproxy_down_and_never_starts_it",
        ),
    ),
    Line(
        what="power is lost right after a push was acknowledged",
        then="it is there",
        tests=(
            "git/test_repos.py::test_objects_and_refs_of_a_small_push_are_synced_by_git",
            "git/test_repos.py::test_sync_flushes_every_folder_that_names_something_new",
            "git/test_receive.py::test_the_client_is_told_only_after_the_push_was_settled",
            "state/test_database.py::test_the_writer_syncs_and_readers_neither_write_nor_checkpoint",
        ),
        beside="Power cannot be cut here: that each sync is asked for, before the acknowledgement, is what is tested.",
    ),
    Line(
        what="an upgrade fails: a full disk, packages that cannot be had, a version that does not start",
        then="what ran goes on, its units and its version as they were",
        tests=(
            "house/test_install.py::test_an_upgrade_that_fails_leaves_what_runs_as_it_was",
            "house/test_install_booted.py::test_an_installation_from_the_first_start_to_its_end",
        ),
    ),
    Line(
        what="root puts files of his own into the data folder, before the first start or from a backup",
        then="what he adds by a command is the agent's; what is not, the start names",
        tests=(
            "flow/test_offline.py::test_what_root_adds_before_the_first_start_is_the_agents",
            "flow/test_offline.py::test_nobody_starts_on_what_is_somebody_elses",
        ),
    ),
    Line(
        what="the agent is upgraded in the middle of a deploy; an older agent meets a newer database",
        then="the deploy goes on; the older one does not start, and names the version",
        tests=(
            "flow/test_survival.py::"
            "test_an_agent_that_is_upgraded_in_mid_deploy_goes_on_and_the_older_one_refuses_to_start",
            "house/test_install_booted.py::test_an_installation_from_the_first_start_to_its_end",
            "state/test_database.py::test_a_newer_schema_is_refused_by_its_number",
            "state/test_database.py::test_deploys_of_before_there_were_tasks_are_all_there_afterwards",
        ),
    ),
    Line(
        what="the clock is set forward or back while replicas start, run, are lost and drain, and deploys wait",
        then="what is waited for is waited for as long as it should be; nothing is lost or cut short",
        tests=(
            "simulation/test_clocks.py::test_a_lost_replica_is_back_within_a_minute_of_a_clock_that_was_set_back",
            "simulation/test_clocks.py::test_a_clock_that_is_set_forward_fails_no_check_that_has_just_begun",
            "simulation/test_clocks.py::test_a_drain_lasts_as_long_whatever_the_clock_is_set_to",
            "simulation/test_clocks.py::"
            "test_what_a_deploy_waits_for_is_waited_for_as_long_whatever_the_clock_is_set_to",
            "simulation/test_walks.py::test_whatever_happens_every_promise_is_kept",
        ),
        beside="The real clock of the machine is never set by a test: other programs live by it.",
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

ATTACKS = (
    Line(
        what="text that reaches a shell, when it is given, and again whenever it is read from the database",
        then="there is no shell: vectors of words and JSON only",
        tests=(
            "test_shape.py::test_nothing_that_could_run_what_users_wrote_is_used",
            "test_shape.py::test_no_script_of_ours_makes_code_of_text",
            "test_shell_ban.py::test_a_way_around_the_ban_is_caught",
            "flow/test_door.py::test_newlines_and_quotes_reach_the_apps_processes_as_they_were_set",
            "flow/test_door.py::test_names_that_look_like_options_are_names",
            "builders/test_hostile.py::test_a_package_json_may_hold_anything",
        ),
    ),
    Line(
        what="who is let in does what nobody allowed",
        then="one dispatcher, which refuses what does not say who may; that stops the start, too",
        tests=(
            "commands/test_requests.py::test_whoever_has_no_key_may_do_nothing",
            "commands/test_requests.py::test_what_does_not_say_who_may_use_it_is_for_nobody",
            "commands/test_parsing.py::test_a_wrong_declaration_stops_the_start",
            "ssh/test_records.py::test_one_rule_decides_about_pushes_and_fetches",
        ),
    ),
    Line(
        what="another's identity: a login name, the first key of several, a question about one key and a signature by "
        "another, a forged signature, a key that is looked up slowly or removed meanwhile; root's key used elsewhere, "
        "or a key with root's name",
        then="who signed is who it is, and nobody without a key",
        tests=(
            "ssh/test_identity.py::test_the_name_is_that_of_the_key_and_no_login_name_counts",
            "ssh/test_identity.py::test_asking_about_one_key_and_signing_with_another_makes_the_second_the_user",
            "ssh/test_identity.py::test_a_forged_signature_signs_nobody_in",
            "ssh/test_identity.py::test_a_key_is_required_before_anything_can_wait",
            "ssh/test_identity.py::test_a_question_that_is_answered_late_does_not_change_who_signed",
            "ssh/test_identity.py::test_nobody_gets_in_while_a_key_is_looked_up",
            "ssh/test_identity.py::test_a_key_that_is_removed_during_its_login_does_not_get_in",
            "ssh/test_local_key.py::test_the_local_key_does_not_sign_in_from_another_address",
            "commands/test_keys.py::test_no_key_is_called_what_root_on_the_server_is",
        ),
    ),
    Line(
        what="many tries, connections and sessions; a mistake of ours in a session",
        then="each has its limit (docs/security.md); a mistake is a line with a number, and the connection stays",
        tests=(
            "house/test_limits_listed.py::test_each_limit_is_tried_by_a_test_that_is_there",
            "ssh/test_turnstile.py::test_caps_hold_and_nobody_is_lost_whatever_happens",
            "ssh/test_turnstile.py::test_failed_logins_slow_a_source_and_never_lock_it_out",
            "ssh/test_sessions.py::test_a_bug_is_a_line_with_an_id_and_its_traceback_is_in_the_log",
        ),
    ),
    Line(
        what="command lines and names many times as long as they may be",
        then="refused in few words, and the connection stays",
        tests=(
            "ssh/test_sessions.py::test_a_command_that_is_too_long_is_refused_in_words_and_the_connection_stays",
            "commands/test_limits.py::test_what_is_many_times_as_long_as_it_may_be_is_refused_in_few_words",
        ),
    ),
    Line(
        what="forwarding of ports, sockets, agents and screens; sftp; variables of the client",
        then="refused, or left out",
        tests=(
            "ssh/test_sessions.py::test_forwarding_is_refused_in_every_direction",
            "ssh/test_sessions.py::test_there_is_no_sftp_and_no_other_subsystem",
            "ssh/test_sessions.py::test_only_harmless_variables_are_taken",
            "ssh/test_openssh.py::test_nothing_is_forwarded",
            "ssh/test_openssh.py::test_neither_the_users_agent_nor_his_screen_is_touched",
            "ssh/test_openssh.py::test_files_cannot_be_copied",
            "flow/test_door.py::test_neither_forwarded_agents_nor_variables_reach_anything",
            "ssh/test_pushes.py::test_odd_values_of_git_protocol_are_left_out",
        ),
    ),
    Line(
        what="hostile pushes: damaged trees, odd modes and names, refs of other kinds, paths out of the folder, hooks, "
        "configuration, deletion of the deploy branch, what a killed push leaves",
        then="refused before git sees it, or by git's own checks; hooks and strange configuration never count",
        tests=(
            "git/test_repos.py::test_a_hostile_tree_is_refused",
            "git/test_repos.py::test_hostile_branch_names_are_refused",
            "git/test_repos.py::test_refs_other_than_branches_and_tags_are_refused",
            "git/test_repos.py::test_hooks_in_the_repository_never_run",
            "git/test_repos.py::test_git_sees_no_configuration_but_ours",
            "git/test_repos.py::test_the_deploy_branch_cannot_be_deleted_others_can",
            "git/test_repos.py::test_only_an_app_id_becomes_a_folder",
            "ssh/test_pushes.py::test_a_hostile_branch_name_reaches_neither_git_nor_us",
            "ssh/test_pushes.py::test_a_corrupt_tree_is_refused_by_git",
            "ssh/test_pushes.py::test_the_sweep_removes_what_killed_pushes_left_and_nothing_else",
            "flow/test_door.py::test_a_path_that_is_no_app_is_refused_for_pushes_and_fetches",
        ),
    ),
    Line(
        what="files of a push on the host; submodules that the host fetches",
        then="what is pushed never becomes a file; submodules of pushes are not fetched",
        tests=(
            "flow/test_door.py::test_what_is_pushed_never_becomes_a_file_and_what_is_not_fetched_is_said",
            "git/test_tree.py::test_archive_holds_what_was_pushed_in_spite_of_export_attributes",
            "git/test_tree.py::test_notes_name_submodules_and_lfs_pointers",
        ),
    ),
    Line(
        what="archives with names, links and devices that lead out, and bombs",
        then="read member by member, never extracted; counted while they unfold",
        tests=(
            "git/test_archives.py::test_what_is_wrong_is_refused_and_leaves_nothing",
            "git/test_archives.py::test_what_a_library_holds_at_once_has_a_limit",
            "flow/test_archives.py::test_an_archive_that_leads_out_of_itself_changes_nothing",
            "builders/test_context.py::test_names_that_lead_elsewhere_never_pass",
        ),
    ),
    Line(
        what="wishes for containers that would own the machine; strange frontends of BuildKit",
        then="one function with a list of what may be, and protections that cannot be left out",
        tests=(
            "docker/test_spec.py::test_every_wish_becomes_a_body_that_is_allowed",
            "docker/test_spec.py::test_what_is_not_on_the_list_is_refused",
            "docker/test_spec.py::test_a_protection_that_is_left_out_is_refused",
            "schedulers/test_docker.py::test_a_replica_is_confined",
            "builders/test_frontend.py::test_all_others_are_refused",
            "builders/test_dockerfile.py::test_a_step_cannot_give_itself_the_rights_of_this_machine",
        ),
    ),
    Line(
        what="ways from an app to another, to this machine, its sockets, and the metadata address",
        then="there is none but by a public domain or the public ssh port, as for everybody",
        tests=(
            "flow/test_isolation.py::test_an_app_reaches_the_world_and_of_this_machine_what_is_public_alone",
            "flow/test_isolation.py::test_an_app_reaches_no_other_container_at_any_port_address_or_network",
            "flow/test_isolation.py::test_an_app_sees_none_of_the_sockets_and_files_of_this_machine",
            "docker/test_firewall.py::test_containers_do_not_reach_this_machine_while_the_way_out_and_the_way_in_stay_open",
            "schedulers/test_docker.py::test_apps_on_one_bridge_do_not_reach_each_other",
        ),
    ),
    Line(
        what="the domain of another app, by case, by alphabet or by a wildcard",
        then="it belongs to one app",
        tests=(
            "commands/test_domains.py::test_a_domain_of_another_app_is_refused_with_its_name",
            "commands/test_domains.py::test_what_is_no_domain_is_refused",
            "commands/test_domains.py::test_an_app_cannot_be_called_as_the_domain_of_another",
            "proxies/test_plan.py::test_who_had_a_domain_keeps_it_against_one_that_claims_it_too",
            "proxies/test_routing.py::test_two_names_in_one_request_are_refused",
        ),
    ),
    Line(
        what="sequences that act on a terminal, in output, commits, names and errors",
        then="none reaches one",
        tests=(
            "sanitise/test_sanitise.py::test_nothing_but_colours_is_left_of_what_a_terminal_acts_on",
            "sanitise/test_sanitise.py::test_known_tricks",
            "commands/test_dispatcher.py::test_values_that_would_move_the_cursor_do_not_reach_a_terminal",
            "commands/test_logs.py::test_on_a_terminal_each_process_has_its_colour_and_nothing_else_acts",
        ),
    ),
    Line(
        what="secrets in vectors, labels, events, logs, errors and images; a secret by default",
        then="nowhere; a missing key file stops the start",
        tests=(
            "flow/test_secrets.py::test_a_secret_is_where_it_belongs_and_nowhere_else",
            "flow/test_secrets.py::test_what_a_build_read_by_a_secret_mount_is_in_no_layer_of_its_image",
            "commands/test_config.py::test_a_mistake_shows_no_value",
            "handlers/test_deploys.py::test_what_a_build_says_has_no_secret_argument_in_it",
            "test_memory.py::test_a_database_without_its_key_file_is_refused_and_no_new_key_is_made",
            "flow/test_offline.py::test_a_database_without_its_key_file_stops_the_start",
        ),
    ),
)
