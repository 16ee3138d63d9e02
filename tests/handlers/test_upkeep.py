from __future__ import annotations

from pathlib import Path

from agent.handlers.upkeep import (
    KEPT_RECORDS_SECONDS,
    KEPT_SECONDS,
    ROUND_SECONDS,
    TRIMMED_AT_ONCE,
    Upkeep,
    seconds_until_due,
)
from tests.fakes.core import core


async def test_a_round_backs_up_and_trims_what_is_old(tmp_path: Path) -> None:
    async with core(tmp_path) as c:
        await c.create("old")
        await c.settle()
        c.clock.advance(KEPT_SECONDS + 1)
        app = await c.create("new")
        await c.settle()
        await Upkeep(c.database, repos=c.repos, clock=c.clock).round()
        assert [event.app for event in await c.database.read.outbox.events()] == [app.id]
    assert (tmp_path / "state.db.backup").stat().st_mode & 0o777 == 0o600


async def test_who_asked_for_what_is_forgotten_after_more_than_a_year(tmp_path: Path) -> None:
    async with core(tmp_path) as c:

        async def record(user: str, count: int = 1) -> None:
            async with c.database.transaction() as tx:
                for _ in range(count):
                    await tx.invocations.add(
                        at=tx.now, user=user, fingerprint="SHA256:x", command="apps:create", app=None, status=0
                    )

        await record("old", TRIMMED_AT_ONCE + 1)
        c.clock.advance(KEPT_RECORDS_SECONDS + 1)
        await record("new")
        await Upkeep(c.database, repos=c.repos, clock=c.clock).round()
        assert [row.user for row in await c.database.read.invocations.newest(10)] == ["new"]


async def test_commits_that_may_be_built_again_are_named_to_whoever_tidies_repositories(tmp_path: Path) -> None:
    async with core(tmp_path) as c:
        app = await c.create()
        for letter in "ab":
            await c.push(app, {"Dockerfile": "FROM x"}, commit=letter * 40)
            await c.settle()
        await Upkeep(c.database, repos=c.repos, clock=c.clock).round()
        assert c.repos.kept[app.id] == {"a" * 40, "b" * 40}, "a release of each is kept"
        async with c.database.transaction() as tx:
            await tx.releases.forget_image(app.id, 1)
        await Upkeep(c.database, repos=c.repos, clock=c.clock).round()
        assert c.repos.kept[app.id] == {"b" * 40}


async def test_a_clock_that_is_years_ahead_for_a_while_costs_no_events(tmp_path: Path) -> None:
    years = 10 * 365 * 86_400.0
    async with core(tmp_path) as c:
        app = await c.create("old")
        await c.settle()
        upkeep = Upkeep(c.database, repos=c.repos, clock=c.clock)
        await upkeep.round()
        c.clock.jump(years)
        for _ in range(3):
            await upkeep.round()
        c.clock.jump(-years)
        await upkeep.round()
        assert app.id in [event.app for event in await c.database.read.outbox.events()]
        for _ in range(int(KEPT_SECONDS / ROUND_SECONDS) + 2):
            c.clock.advance(ROUND_SECONDS)
            await upkeep.round()
        assert await c.database.read.outbox.events() == [], "in their own time they go"


def test_a_round_that_was_noted_by_a_clock_since_set_back_does_not_keep_the_next_one_waiting() -> None:
    assert seconds_until_due(1_000_000.0, now=1_000_000.0 + 60) == ROUND_SECONDS - 60
    assert seconds_until_due(1_000_000.0, now=1_000_000.0 + 2 * ROUND_SECONDS) == 0
    assert seconds_until_due(1_000_000.0, now=900_000.0) == 0
