from __future__ import annotations

from pathlib import Path

from agent.handlers.upkeep import KEPT_SECONDS, Upkeep
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
