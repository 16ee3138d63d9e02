from __future__ import annotations

import pytest

from agent.lifecycle.building import build_options
from agent.lifecycle.resources import memory_of, resources, told_memory
from agent.ports.scheduler import Resources
from proto.wire import Exit
from tests.commands.desk import Desk

MIB = 1 << 20


async def test_limits_hold_for_a_type_else_for_every_type_and_never_restart_anything(desk: Desk) -> None:
    app, _ = await desk.deployed("blog")
    before = set(desk.core.scheduler.containers)
    said = await desk.give("resource:limit --memory 100 --cpu 0.5 blog")
    assert said.out == "=====> Setting resource limits for blog\n       cpu: 0.5\n       memory: 100m\n"
    assert (await desk.give("resource:limit --process-type web --memory 1g blog")).status == 0
    await desk.core.settle()
    assert set(desk.core.scheduler.containers) == before
    defaults = Resources(pids=99)
    read = desk.database.read
    web = await resources(read, app=app.id, process="web", defaults=defaults)
    worker = await resources(read, app=app.id, process="worker", defaults=defaults)
    assert web == Resources(memory_bytes=1 << 30, cpus=0.5, pids=99)
    assert worker == Resources(memory_bytes=100 * MIB, cpus=0.5, pids=99)


async def test_a_restart_gives_processes_their_limits_and_a_run_has_them_at_once(desk: Desk) -> None:
    await desk.deployed("blog")
    await desk.give("resource:limit --memory 64 blog")
    assert (await desk.meanwhile("ps:restart blog")).status == 0
    wishes = [wish for wish in desk.core.scheduler.wishes.values()]
    assert {wish.resources.memory_bytes for wish in wishes if wish.release == 2} == {64 * MIB}


async def test_limits_of_builds_are_their_own(desk: Desk) -> None:
    app, _ = await desk.deployed("blog")
    await desk.give("resource:limit --memory 64 blog")
    options = await build_options(desk.database.read, app=app.id, name="blog")
    assert (options.memory_bytes, options.cpus) == (0, 0.0)
    await desk.give("resource:limit --process-type build --memory 2g --cpu 1 blog")
    await desk.give("builder:set blog timeout-seconds 60")
    options = await build_options(desk.database.read, app=app.id, name="blog")
    assert (options.memory_bytes, options.cpus, options.timeout_seconds) == (2 << 30, 1.0, 60.0)


async def test_limits_are_shown_reported_and_cleared(desk: Desk) -> None:
    await desk.give("apps:create blog")
    assert (await desk.give("resource:limit --process-type build --memory 300k --cpu 1 blog")).status == Exit.FAILED
    assert (await desk.give("resource:limit --process-type build --memory 6144k --cpu 1 blog")).status == 0
    shown = await desk.give("resource:limit --process-type build blog")
    assert shown.out == "=====> resource limits blog information [build]\n       cpu: 1\n       memory: 6m\n"
    assert (await desk.give("resource:report blog --format json")).json() == {
        "_default_.limit.cpu": "",
        "_default_.limit.memory": "",
        "build.limit.cpu": "1",
        "build.limit.memory": "6m",
    }
    assert (await desk.give("resource:limit --process-type build --memory clear blog")).status == 0
    assert (await desk.give("resource:limit --process-type build --format json blog")).json() == {"cpu": "1"}
    assert (await desk.give("resource:limit-clear --process-type build blog")).status == 0
    assert (await desk.give("resource:limit --process-type build --format json blog")).json() == {}


@pytest.mark.parametrize("size", ["0", "1k", "5m", "-1", "1.5g", "lots", "9999999999999999g", ""])
async def test_a_wrong_amount_is_refused(size: str) -> None:
    with pytest.raises(ValueError, match="such as 512m"):
        memory_of(size)


async def test_a_wrong_limit_is_refused_with_a_way_out(desk: Desk) -> None:
    await desk.give("apps:create blog")
    for words, says in (("--memory lots", "such as 512m"), ("--cpu many", "such as 1 or 0.5"), ("--cpu 0", "cores")):
        answer = await desk.give(f"resource:limit {words} blog")
        assert answer.status == Exit.FAILED and says in answer.err
    assert (await desk.give("resource:limit --memory 1g nobody")).status == Exit.NO_SUCH_APP
    assert (await desk.give("resource:limit --process-type 'a b' --memory 1g blog")).status == Exit.FAILED
    assert (await desk.give("resource:report blog --format json")).json() == {
        "_default_.limit.cpu": "",
        "_default_.limit.memory": "",
    }


def test_memory_is_told_as_it_is_written() -> None:
    assert [told_memory(memory_of(text)) for text in ("512", "1g", "1024m", "6145k")] == ["512m", "1g", "1g", "6145k"]


async def test_memory_is_reserved_beside_limits_and_neither_touches_the_other(desk: Desk) -> None:
    app, _ = await desk.deployed("blog")
    said = await desk.give("resource:reserve --memory 32 blog")
    assert said.out == "=====> Setting resource reservation for blog\n       memory: 32m\n"
    await desk.give("resource:limit --memory 1g --cpu 1 blog")
    await desk.give("resource:reserve --process-type web --memory 64 blog")
    shown = await desk.give("resource:reserve --process-type web blog")
    assert shown.out == "=====> resource reservation blog information [web]\n       memory: 64m\n"
    web = await resources(desk.database.read, app=app.id, process="web", defaults=Resources())
    assert web == Resources(memory_bytes=1 << 30, cpus=1.0, reserved_bytes=64 * MIB)
    assert (await desk.give("resource:report blog --format json")).json() == {
        "_default_.limit.cpu": "1",
        "_default_.limit.memory": "1g",
        "_default_.reserve.memory": "32m",
        "web.limit.cpu": "",
        "web.limit.memory": "",
        "web.reserve.memory": "64m",
    }
    await desk.give("resource:limit-clear blog")
    await desk.give("resource:reserve --process-type web --memory clear blog")
    worker = await resources(desk.database.read, app=app.id, process="web", defaults=Resources())
    assert worker == Resources(reserved_bytes=32 * MIB)
    await desk.give("resource:reserve-clear blog")
    assert (await desk.give("resource:reserve --format json blog")).json() == {}
    for words, says in (("--memory lots", "such as 512m"), ("--process-type build --memory 1g", "give way to apps")):
        refused = await desk.give(f"resource:reserve {words} blog")
        assert refused.status == Exit.FAILED and says in refused.err
