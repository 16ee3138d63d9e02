"""Who builds, who waits, and what those that wait are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agent.handlers.slots import Slots
from agent.lifecycle import deploys
from tests.fakes.core import Core, core

FILES = {"Dockerfile": "FROM scratch\nEXPOSE 8080\n"}


class Visitor:
    """One that wants a slot, and what it was told."""

    def __init__(self, slots: Slots) -> None:
        self.places: list[int] = []
        self.is_inside = False
        self._may_go = asyncio.Event()
        self.task = asyncio.ensure_future(self._visit(slots))

    async def _visit(self, slots: Slots) -> None:
        async with slots.one(self.places.append):
            self.is_inside = True
            await self._may_go.wait()

    async def leave(self) -> None:
        self._may_go.set()
        await self.task


async def visitors(slots: Slots, count: int) -> list[Visitor]:
    found = [Visitor(slots) for _ in range(count)]
    await asyncio.sleep(0)
    return found


async def test_a_few_are_let_in_and_the_others_know_how_many_are_before_them() -> None:
    first, second, third, fourth = await visitors(Slots(2), 4)
    assert [first.is_inside, second.is_inside, third.is_inside] == [True, True, False]
    assert (first.places, second.places, third.places, fourth.places) == ([], [], [2], [3])
    await second.leave()
    await asyncio.sleep(0)
    assert third.is_inside and not fourth.is_inside
    assert (third.places, fourth.places) == ([2], [3, 2])
    for visitor in (first, third, fourth):
        await visitor.leave()


async def test_who_gives_up_waiting_lets_those_behind_move_up() -> None:
    first, second, third, fourth = await visitors(Slots(1), 4)
    second.task.cancel()
    await asyncio.wait((second.task,))
    assert (third.places, fourth.places) == ([2, 1], [3, 2])
    await first.leave()
    await asyncio.sleep(0)
    assert third.is_inside and fourth.places == [3, 2, 1]
    await third.leave()
    await fourth.leave()


async def test_who_gives_up_just_as_its_turn_comes_takes_no_slot_along() -> None:
    slots = Slots(1)
    first, second, third = await visitors(slots, 3)
    first._may_go.set()
    await asyncio.sleep(0)
    second.task.cancel()
    await asyncio.wait((second.task,))
    await third.leave()
    assert third.is_inside
    (last,) = await visitors(slots, 1)
    assert last.is_inside
    await last.leave()


@pytest.fixture
async def busy(tmp_path: Path) -> AsyncIterator[Core]:
    """A core whose builds do not end until its gate is opened."""
    async with core(tmp_path) as c:
        c.builder.gate.clear()
        yield c


async def until(core: Core, claim: Callable[[], bool]) -> None:
    """Let others work until `claim` holds."""
    while not claim():
        await core.database.read.apps.all()


async def test_a_deploy_says_its_place_and_one_that_is_cancelled_or_overtaken_leaves_the_queue(busy: Core) -> None:
    waits = "       Waiting for a free build slot: {} builds before yours"
    lines = busy.transcripts.lines
    pushed = []
    async with busy.bus.delivering():
        for number in range(5):
            app = await busy.create(f"app{number}")
            deploy = await busy.push(app, FILES)
            pushed.append(deploy)
            running = min(number + 1, 2)
            await until(busy, lambda id=deploy.id, count=running: bool(lines[id]) and busy.builder.builds == count)
        assert [lines[deploy.id] for deploy in pushed[2:]] == [[waits.format(count)] for count in (2, 3, 4)]
        async with busy.database.transaction() as tx:
            await deploys.cancel(tx, deploy=await busy.deploy(pushed[2]), by="ada")
        await until(busy, lambda: waits.format(3) in lines[pushed[4].id])
        app3 = await busy.database.read.apps.get(pushed[3].app)
        assert app3 is not None
        newer = await busy.push(app3, FILES, commit="d" * 40)
        # The newer one stands behind those that came before it.
        await until(busy, lambda: waits.format(3) in lines[newer.id])
        assert lines[pushed[4].id][-1] == waits.format(2)
        assert busy.builder.builds == 2
        busy.builder.gate.set()
        await busy.settle()
    statuses = [(await busy.deploy(deploy)).status for deploy in (*pushed, newer)]
    assert statuses == ["live", "live", "cancelled", "superseded", "live", "live"]
