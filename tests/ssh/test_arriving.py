"""Pushes that break off after git has moved refs, and before anybody recorded what follows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.git.command_list import RefUpdate
from agent.ssh import arriving
from agent.ssh.arriving import Arrival, undo_broken_off
from tests.ssh.conftest import House

pytestmark = pytest.mark.real


async def test_a_push_that_broke_off_when_its_branch_was_moved_is_undone_by_the_next_start(house: House) -> None:
    clone = house.clone()
    await clone.push()
    before = clone.run("rev-parse", "HEAD")
    after = clone.commit("a", "b")
    app = await house.app("blog")
    arrival = Arrival(house.database, house.repos, app.id)
    await arrival.begin([RefUpdate(before, after, "refs/heads/main")])
    clone.run("push", "-q", str(house.repo(app)), "main")
    assert await house.repos.tip(app.id, "main") == after
    for _ in range(2):
        await undo_broken_off(house.database, house.repos)
        assert await house.repos.tip(app.id, "main") == before
        assert await house.database.read.arrivals.all() == {}
    pushed = await clone.push()
    assert pushed.status == 0, pushed.err
    assert [deploy.commit_id for deploy in await house.deploys("blog")] == [after, before]


async def test_a_push_that_could_not_be_undone_is_undone_before_the_next_one(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = house.clone()
    await clone.push()
    before = clone.run("rev-parse", "HEAD")
    broken_off = clone.commit("a", "b")
    app = await house.app("blog")
    await Arrival(house.database, house.repos, app.id).begin([RefUpdate(before, broken_off, "refs/heads/main")])
    clone.run("push", "-q", str(house.repo(app)), "main")
    noted = await house.database.read.arrivals.of(app.id)

    async def cannot(git_dir: Path, updates: Sequence[RefUpdate]) -> bool:
        return False

    with monkeypatch.context() as patched:
        patched.setattr(arriving, "put_back", cannot)
        clone.commit("a", "c")
        pushed = await clone.push()
        assert "cannot be undone yet" in pushed.err and pushed.status != 0, pushed.err
        assert await house.database.read.arrivals.of(app.id) == noted, "what it knows is not forgotten"
    pushed = await clone.push()
    assert pushed.status == 0, pushed.err
    assert await house.database.read.arrivals.all() == {}
    assert await house.repos.tip(app.id, "main") == clone.run("rev-parse", "HEAD")
    assert broken_off not in [deploy.commit_id for deploy in await house.deploys("blog")]


@pytest.mark.parametrize("branch", ["main", "dev"])
async def test_nothing_is_left_noted_of_a_push_that_ended(house: House, branch: str) -> None:
    clone = house.clone()
    await clone.push()
    commit = clone.commit("a", "b")
    pushed = await clone.push(f"main:{branch}")
    assert pushed.status == 0, pushed.err
    assert await house.database.read.arrivals.all() == {}
    assert await house.repos.tip((await house.app("blog")).id, branch) == commit
