"""How much the core asks of SQLite, the engine and the proxy as apps grow in number: counted, not timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.bus.surveys import SURVEY_SECONDS
from agent.state.sql import InlineSql, Rows, Sql, Value
from tests.fakes.core import Core, World, core

FEW, MANY = 30, 300
MOST_EACH = {"statements": 37, "rows": 25, "engine.look": 2}
"""What a restart may ask for each app; once of all else."""
FILES = {"Dockerfile": "FROM scratch\n"}


Counts = Counter[str]
"""What was asked, by kind."""


class CountingSql:
    """A connection that counts its statements and the rows that they bring."""

    def __init__(self, sql: Sql, counts: Counts) -> None:
        self._sql = sql
        self._counts = counts

    async def run(self, statement: str, parameters: Sequence[Value] = ()) -> Rows:
        found = await self._sql.run(statement, parameters)
        self._counts["statements"] += 1
        self._counts["rows"] += len(found.rows)
        return found

    async def run_many(self, statement: str, rows: Iterable[Sequence[Value]]) -> int:
        self._counts["statements"] += 1
        return await self._sql.run_many(statement, rows)

    async def script(self, text: str) -> None:
        await self._sql.script(text)

    async def roll_back(self) -> None:
        await self._sql.roll_back()

    async def close(self) -> None:
        await self._sql.close()


class Fleet:
    """Apps of one world, whose agent is started as often as a test wants."""

    def __init__(self, folder: Path) -> None:
        self.world = World()
        self.counts = Counts()
        self._folder = folder

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[Core]:
        async def opened(path: Path) -> Sql:
            return CountingSql(await InlineSql.open(path), self.counts)

        self.counts.clear()
        async with core(self._folder, world=self.world, opener=opened) as c:
            yield c

    async def grow(self, c: Core, size: int) -> None:
        """Deploy apps until there are so many."""
        await c.global_domain()
        for number in range(size):
            await c.push(await c.create(f"app-{number}"), FILES, commit=f"{number:040x}")
        await c.settle()

    def asked(self) -> Counts:
        """Return what was asked since this was last asked."""
        scheduler, proxy = self.world.scheduler, self.world.proxy
        found = Counts(self.counts)
        found.update(f"engine.{name}" for name, _ in scheduler.calls)
        found["proxy.applied"] = len(proxy.tables)
        self.counts.clear()
        scheduler.calls.clear()
        proxy.tables.clear()
        return found


class Asked(NamedTuple):
    """What was asked at one size."""

    restart: Counts
    """By a start that finds a tenth of the containers gone, until all is well."""
    deploy: Counts
    """By one deploy, to its end."""
    rest: Counts
    """By half a minute in which nothing happens."""


async def asked_by(size: int, *, folder: Path) -> Asked:
    folder.mkdir()
    fleet = Fleet(folder)
    scheduler = fleet.world.scheduler
    async with fleet.agent() as c:
        await fleet.grow(c, size)
    for replica in list(scheduler.containers)[::10]:
        scheduler.vanish(replica)
    fleet.asked()
    async with fleet.agent() as c:
        await c.settle(within=SURVEY_SECONDS - 5)
        restart = fleet.asked()
        rows = await c.database.read.replicas.all()
        assert [row.state for row in rows] == ["ready"] * size
        assert {status.replica for status in scheduler.containers.values()} == {row.id for row in rows}
        assert all(fleet.world.proxy.upstreams(row.app) for row in rows)

        [app] = [app for app in await c.database.read.apps.all() if app.name == "app-7"]
        fleet.asked()
        await c.push(app, FILES, commit="f" * 40)
        await c.bus.settle()
        deploy = fleet.asked()
        assert fleet.world.proxy.upstreams(app.id)[0].name not in {row.id for row in rows}

        await c.settle(within=4 * SURVEY_SECONDS)
        fleet.asked()
        await c.settle(within=SURVEY_SECONDS)
        return Asked(restart, deploy, fleet.asked())


@pytest.mark.slow
async def test_many_apps_cost_no_more_each_than_few_and_nothing_of_each_other(tmp_path: Path) -> None:
    few = await asked_by(FEW, folder=tmp_path / "few")
    many = await asked_by(MANY, folder=tmp_path / "many")

    each = {kind: many.restart[kind] / MANY for kind in many.restart}
    assert {kind: count for kind, count in each.items() if count > MOST_EACH.get(kind, 1)} == {}
    assert {kind for kind, count in each.items() if count > 1.1 * few.restart[kind] / FEW} == set()
    assert many.deploy == few.deploy
    assert many.rest["rows"] / MANY <= few.rest["rows"] / FEW
    assert Counts(many.rest | {"rows": 0}) == Counts(few.rest | {"rows": 0})
