"""What Pushboat is to refuse."""

from __future__ import annotations

from tests.house.known import Line

ATTACKS = (
    Line(
        what="text that reaches a shell, when it is given, and again whenever it is read from the database",
        then="there is no shell: vectors of words and JSON only",
        tests=(
            "test_shape.py::test_nothing_that_could_run_what_users_wrote_is_used",
            "test_shape.py::test_no_script_of_ours_makes_code_of_text",
            "test_shell_ban.py::test_a_way_around_the_ban_is_caught",
            "attacks/test_commands.py::test_no_command_line_leads_to_a_traceback",
            "attacks/test_commands.py::test_a_program_that_is_started_on_the_way_is_seen",
            "attacks/test_fields.py::test_a_payload_in_any_field_is_stored_whole_or_refused_and_has_no_effect_later",
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
            "house/test_limits_listed.py::test_each_limit_is_tried_one_past_it_and_at_it_or_it_is_said_why_not",
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
            "ssh/test_refused_pushes.py::test_a_hostile_branch_name_reaches_neither_git_nor_us",
            "ssh/test_refused_pushes.py::test_a_corrupt_tree_is_refused_by_git",
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
            "commands/test_domains.py::test_a_name_beyond_ascii_is_kept_and_compared_in_its_a_label_form",
            "commands/test_domains.py::test_no_wildcard_covers_a_name_of_another_app",
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
