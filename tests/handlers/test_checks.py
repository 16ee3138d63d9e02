"""Which checks a replica has to pass, by what its image and its app.json say."""

from __future__ import annotations

import pytest

from agent.lifecycle.checks import due
from agent.ports.scheduler import CheckSpec
from agent.state.plans import Plan, ProcessPlan
from agent.state.releases import Release
from agent.state.replicas import Replica
from proto.names import AppId, DeployId, ProcessType, ReplicaId

PATH = CheckSpec(name="up", kind="path")


def kinds(
    process: str = "web", *, checks: tuple[CheckSpec, ...] = (), losses: int = 0, **image: object
) -> list[tuple[str, float]]:
    """Return the kinds of the checks, and how long each may take."""
    plan = Plan(processes=(ProcessPlan(type=ProcessType(process), checks=checks),), **image)  # type: ignore[arg-type]
    release = Release(
        app=AppId("a1"),
        version=1,
        deploy=DeployId("d1"),
        image="sha256:1",
        plan=plan,
        commit_id=None,
        by="ada",
        why="because",
        created_at=0.0,
        live_at=None,
        is_image_kept=True,
    )
    row = Replica(
        id=ReplicaId("r1"),
        app=AppId("a1"),
        release=1,
        process=ProcessType(process),
        number=1,
        state="started",
        bridge=0,
        address="10.213.0.2",
        port=5000 if process == "web" else 0,
        container="c",
        planned_at=0.0,
        losses=losses,
        retry_at=0.0,
        started_at=0.0,
        ready_at=None,
        drain_until=None,
    )
    return [(check.kind, check.uptime) for check in due(release, row, start_seconds=60.0)]


def test_a_port_is_waited_for_and_other_processes_have_to_stay_up() -> None:
    assert kinds("web") == [("connect", 60.0)]
    assert kinds("worker") == [("uptime", 1.0)]


def test_a_process_that_was_lost_before_has_to_stay_up_longer_each_time() -> None:
    assert [kinds("worker", losses=losses)[0][1] for losses in range(7)] == [1, 2, 4, 8, 16, 30, 30]


def test_the_images_check_and_those_of_app_json_all_count() -> None:
    assert kinds(checks=(PATH,)) == [("path", 0.0)]
    assert kinds(has_healthcheck=True) == [("image", 60.0)]
    assert kinds(checks=(PATH,), has_healthcheck=True) == [("path", 0.0), ("image", 60.0)]
    assert kinds("worker", has_healthcheck=True) == [("image", 60.0)]


@pytest.mark.parametrize(("needs", "gets"), [(10.0, 60.0), (190.0, 190.0)])
def test_a_healthcheck_that_asks_seldom_gets_the_time_it_needs(needs: float, gets: float) -> None:
    assert kinds(has_healthcheck=True, health_seconds=needs) == [("image", gets)]
