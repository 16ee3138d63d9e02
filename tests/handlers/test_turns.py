"""Whose turn it is while one release takes the place of another: a pure function of the rows that are there."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from agent.lifecycle.strategies import batch, stand_ins, turns
from agent.state.plans import Plan, ProcessPlan, Strategy
from agent.state.releases import Release
from agent.state.replicas import Replica, State
from proto.names import AppId, DeployId, ProcessType, ReplicaId

WEB = ProcessType("web")
LETTERS: dict[str, State] = {"p": "planned", "s": "started", "r": "ready", "d": "draining", "x": "stopping"}


def release(version: int, strategy: Strategy = "rolling", *, max_parallel: int = 0) -> Release:
    process = ProcessPlan(type=WEB, strategy=strategy, max_parallel=max_parallel)
    return Release(
        app=AppId("a1"),
        version=version,
        deploy=DeployId("d1"),
        image="sha256:1",
        plan=Plan(processes=(process,)),
        commit_id=None,
        by="ada",
        why="because",
        created_at=0.0,
        live_at=None,
        is_image_kept=True,
    )


def rows(**states: str) -> list[Replica]:
    """Return replicas: ``v1="r-d"`` has number 1 of release 1 ready and number 3 draining; R is ready and replaced."""
    return [
        Replica(
            id=ReplicaId(f"{name}.{number}"),
            app=AppId("a1"),
            release=int(name[1:]),
            process=WEB,
            number=number,
            state=LETTERS[letter.lower()],
            is_replaced=letter.isupper(),
            bridge=0,
            address="10.213.0.2",
            port=5000,
            container=None,
            planned_at=0.0,
            losses=0,
            retry_at=0.0,
            started_at=None,
            ready_at=None,
            drain_until=None,
        )
        for name, letters in states.items()
        for number, letter in enumerate(letters, start=1)
        if letter != "-"
    ]


def told(
    there: Sequence[Replica], *holders: Release, live: int | None = 1, count: int = 4, now: Strategy = "rolling"
) -> str:
    """Return what should run, in parentheses what waits, and with an R what is replaced: ``1.4 2.1 (2.2)``."""
    found = turns(WEB, holders, there, strategy=now, live=live, count=count)
    words = {}
    for one in found:
        word = f"{one.release}.{one.number}{'R' * one.is_replaced}"
        words[one.release, one.number, not one.is_replaced] = f"({word})" if one.waits_for else word
    return " ".join(words[key] for key in sorted(words))


ONE, TWO, THREE = release(1), release(2), release(3)


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        (rows(v1="rrrr"), "1.1 1.2 1.3 1.4 2.1 (2.2) (2.3) (2.4)"),
        (rows(v1="rrrr", v2="s"), "1.1 1.2 1.3 1.4 2.1 (2.2) (2.3) (2.4)"),
        (rows(v1="rrrr", v2="r"), "1.2 1.3 1.4 2.1 (2.2) (2.3) (2.4)"),
        (rows(v1="drrr", v2="r"), "1.2 1.3 1.4 2.1 (2.2) (2.3) (2.4)"),
        (rows(v1="-rrr", v2="r"), "1.2 1.3 1.4 2.1 2.2 (2.3) (2.4)"),
        (rows(v1="--rr", v2="rr"), "1.3 1.4 2.1 2.2 2.3 (2.4)"),
        (rows(v1="---r", v2="rrr"), "1.4 2.1 2.2 2.3 2.4"),
        (rows(v1="---r", v2="rrrr"), "1.4 2.1 2.2 2.3 2.4"),
    ],
)
def test_a_batch_takes_the_place_of_as_many_old_ones_which_end_before_the_next_starts(
    there: list[Replica], wanted: str
) -> None:
    assert told(there, ONE, TWO) == wanted


def test_with_one_replica_the_old_one_stays_until_the_switch() -> None:
    assert told(rows(v1="r"), ONE, TWO, count=1) == "1.1 2.1"
    assert told(rows(v1="r", v2="r"), ONE, TWO, count=1) == "1.1 2.1"


def test_a_new_replica_that_was_lost_holds_up_the_rest_and_brings_no_old_one_back() -> None:
    assert told(rows(v1="--rr", v2="rp"), ONE, TWO) == "1.3 1.4 2.1 2.2 (2.3) (2.4)"


def test_an_old_replica_that_does_not_serve_goes_first() -> None:
    assert told(rows(v1="rrrp", v2="r"), ONE, TWO) == "1.1 1.2 1.3 2.1 (2.2) (2.3) (2.4)"


def test_what_was_taken_comes_back_in_the_same_way_when_the_new_release_fails() -> None:
    assert told(rows(v1="---r", v2="rrrd"), ONE) == "(1.1) (1.2) (1.3) 1.4 2.1 2.2 2.3"
    assert told(rows(v1="---r", v2="rrr"), ONE) == "1.1 (1.2) (1.3) 1.4 2.1 2.2 2.3"
    assert told(rows(v1="r--r", v2="rrr"), ONE) == "1.1 (1.2) (1.3) 1.4 2.2 2.3"
    assert told(rows(v1="r--r", v2="ddr"), ONE) == "1.1 (1.2) (1.3) 1.4 2.3"
    assert told(rows(v1="rr-r", v2="--r"), ONE) == "1.1 1.2 1.3 1.4 2.3"
    assert told(rows(v1="rrrr", v2="--r"), ONE) == "1.1 1.2 1.3 1.4"


def test_replicas_that_stand_in_and_are_lost_are_not_started_again() -> None:
    assert told(rows(v1="---r", v2="rrp"), ONE) == "1.1 (1.2) (1.3) 1.4 2.1 2.2"


def test_a_third_release_takes_the_place_of_both_the_live_one_and_what_stands_in() -> None:
    assert told(rows(v1="--rr", v2="rr"), ONE, THREE) == "1.3 1.4 2.1 2.2 3.1 (3.2) (3.3) (3.4)"
    assert told(rows(v1="--rr", v2="rr", v3="r"), ONE, THREE) == "1.3 1.4 2.2 3.1 (3.2) (3.3) (3.4)"


def test_scaling_in_the_middle_of_a_rollout_scales_the_new_release() -> None:
    assert told(rows(v1="-rr", v2="r"), ONE, TWO, count=6) == "1.2 1.3 2.1 2.2 2.3 2.4 2.5 (2.6)"
    assert told(rows(v1="--rr", v2="rr"), ONE, TWO, count=1) == "1.4 2.1"
    assert told(rows(v1="--rr", v2="rr"), ONE, TWO, count=0) == ""


def test_one_above_the_count_serves_for_one_that_does_not() -> None:
    assert told(rows(v1="prr"), ONE, count=2) == "1.1 1.2 1.3"
    assert told(rows(v1="rrr"), ONE, count=2) == "1.1 1.2"
    # And does not take the room of what comes back.
    assert told(rows(v1="-rr", v2="r"), ONE, count=2) == "(1.1) 1.2 1.3"


def test_all_at_once_wants_both_releases_whole() -> None:
    two = release(2, "all-at-once")
    assert told(rows(v1="rr"), ONE, two, count=2) == "1.1 1.2 2.1 2.2"
    assert told(rows(v1="rr", v2="rs"), ONE, two, count=2) == "1.1 1.2 2.1 2.2"


@pytest.mark.parametrize("now", ["rolling", "stop-first"])
def test_stopped_first_the_new_ones_wait_for_the_end_of_every_old_one(now: Strategy) -> None:
    two = release(2, "rolling" if now == "stop-first" else "stop-first")
    assert told(rows(v1="rr"), ONE, two, count=2, now=now) == "(2.1) (2.2)"
    assert told(rows(v1="xx"), ONE, two, count=2, now=now) == "(2.1) (2.2)"
    assert told(rows(), ONE, two, count=2, now=now) == "2.1 2.2"


def test_where_nothing_is_live_nothing_waits() -> None:
    assert told(rows(), ONE, live=None) == "1.1 1.2 1.3 1.4"
    assert told(rows(v1="dddd"), TWO, live=None) == "2.1 2.2 2.3 2.4"


@pytest.mark.parametrize(
    ("count", "max_parallel", "size"), [(0, 0, 0), (1, 0, 1), (3, 0, 1), (8, 0, 2), (8, 3, 3), (2, 3, 2), (8, -1, 8)]
)
def test_a_batch_is_a_quarter_or_what_app_json_says(count: int, max_parallel: int, size: int) -> None:
    assert batch(release(1, max_parallel=max_parallel).plan.processes[0], count) == size


def test_no_more_go_on_of_a_release_that_is_given_up_than_the_live_one_lacks() -> None:
    def named(there: list[Replica]) -> list[str]:
        return [row.id for row in stand_ins(there, release=2, live=1, count=4)]

    assert named(rows(v1="--rr", v2="rrs")) == ["v2.1", "v2.2"]
    assert named(rows(v1="drrr", v2="rr")) == ["v2.1"]
    assert named(rows(v1="rrrr", v2="r")) == []


def test_a_restarted_type_is_replaced_batch_by_batch_and_none_goes_before_another_is_ready() -> None:
    assert told(rows(v1="RRRR"), ONE) == "1.1R 1.1 1.2R (1.2) 1.3R (1.3) 1.4R (1.4)"
    assert told([*rows(v1="RRRR"), *rows(v1="r")], ONE) == "1.1 1.2R (1.2) 1.3R (1.3) 1.4R (1.4)"
    assert told([*rows(v1="-RRR"), *rows(v1="r")], ONE) == "1.1 1.2R 1.2 1.3R (1.3) 1.4R (1.4)"
    assert told([*rows(v1="---R"), *rows(v1="rrrr")], ONE) == "1.1 1.2 1.3 1.4"


def test_a_restarted_type_that_runs_alone_ends_first() -> None:
    assert told(rows(v1="R"), ONE, count=1, now="stop-first") == "(1.1)"
    assert told([], ONE, count=1, now="stop-first") == "1.1"


def test_a_deploy_replaces_what_is_being_restarted() -> None:
    assert told([*rows(v1="RR"), *rows(v1="r")], ONE, TWO, count=2) == "1.1R 1.2R (2.1) (2.2)"
    assert told(rows(v1="RR"), ONE, TWO, count=2) == "1.1R 1.2R 2.1 (2.2)"
    assert told(rows(v1="R"), ONE, release(2, "all-at-once"), count=1) == "1.1R 1.1 2.1"
