"""What Pushboat is to survive of its own death, its parts, the disk, the clock and the machine."""

from __future__ import annotations

from tests.house.known import NOTED, Line

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
            "handlers/test_log_losses.py::test_a_full_disk_costs_nothing_once_there_is_room",
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
        what="somebody else has a port of ours",
        then="the start says who, ends with 78 and is not tried again and again",
        tests=(
            "flow/test_refused_starts.py::test_a_taken_http_port_is_told_with_who_has_it",
            "flow/test_refused_starts.py::test_a_taken_ssh_port_is_told",
            "house/test_units.py::test_what_ends_is_brought_back",
        ),
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
)
