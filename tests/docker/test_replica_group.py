"""The control group of replicas, as each of the engine's drivers wants it named."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.docker.replica_group import ReplicaGroup
from tests.support.scripted_engine import always, http, scripted


@pytest.mark.parametrize(("driver", "parent"), [("systemd", "pushboat.slice"), ("cgroupfs", "/pushboat.slice")])
async def test_the_engine_is_asked_once_how_it_wants_the_name(tmp_path: Path, driver: str, parent: str) -> None:
    async with scripted(tmp_path, always(http(200, b'{"CgroupDriver": "%s"}' % driver.encode()))) as (engine, seen):
        group = ReplicaGroup(engine, "pushboat.slice")
        assert [await group.parent(), await group.parent()] == [parent, parent]
    assert sum("/info" in line for line in seen) == 1


async def test_without_a_slice_nobody_is_asked(tmp_path: Path) -> None:
    async with scripted(tmp_path, always(http(500, b"{}"))) as (engine, seen):
        assert await ReplicaGroup(engine, "").parent() == ""
    assert seen == []
