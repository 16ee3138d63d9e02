"""Pushes with real git over the real OpenSSH client."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from agent.git.receive import sweep_incoming
from agent.lifecycle import apps, deploys
from proto.names import AppId, AppName, DeployId
from tests.ssh.conftest import Clone, House, eventually
from tests.ssh.quarantine import leftovers

pytestmark = pytest.mark.real


async def test_a_first_push_creates_the_app_and_deploys_its_branch(house: House) -> None:
    clone = house.clone()
    pushed = await clone.push()
    assert pushed.status == 0, pushed.err
    app = await house.app("blog")
    (deploy,) = await house.deploys("blog")
    assert deploy.commit_id == clone.run("rev-parse", "HEAD")
    assert deploy.kind == "push" and deploy.by == "ann"
    assert "-----> Created blog" in pushed.err
    assert f"deploys:output blog {deploy.id}" in pushed.err
    assert f"outcome of {deploy.id}: live" in pushed.err
    assert "remote:" not in pushed.err
    assert await house.database.read.properties.get(app.id, "git.deploy-branch") == "main"
    assert (house.repo(app) / "HEAD").read_text() == "ref: refs/heads/main\n"
    assert leftovers(house) == []


@pytest.mark.parametrize("path", ["blog", "/blog", "blog.git", "~/blog", "blog/"])
async def test_every_usual_form_of_the_path_names_the_app(house: House, path: str) -> None:
    pushed = await house.clone().push(path=path.removeprefix("/"))
    assert pushed.status == 0, pushed.err
    assert await house.deploys("blog")


async def test_a_scp_like_address_names_the_app_too(house: House) -> None:
    pushed = await house.clone().git("push", "anybody@127.0.0.1:blog", "main")
    assert pushed.status == 0, pushed.err
    assert await house.deploys("blog")


async def test_a_second_push_deploys_the_new_commit(house: House) -> None:
    clone = house.clone()
    await clone.push()
    newer = clone.commit("index.html", "hello")
    pushed = await clone.push()
    assert pushed.status == 0 and "Created" not in pushed.err
    assert (await house.deploys("blog"))[0].commit_id == newer


async def test_a_deploy_that_fails_is_shown_and_ends_the_push_with_1(house: House) -> None:
    house.watcher.outcome = "failed"
    pushed = await house.clone().push("-q", "main")
    assert pushed.status == 1
    assert ": failed" in pushed.err


@pytest.mark.parametrize("options", [("--porcelain",), ("--force",), ("-q",), ("-v",), ("--atomic",), ("--no-thin",)])
@pytest.mark.parametrize("version", ["0", "1", "2"])
async def test_every_way_to_push_works(house: House, options: tuple[str, ...], version: str) -> None:
    pushed = await (clone := house.clone()).git(
        "-c", f"protocol.version={version}", "push", *options, house.url(), "main"
    )
    assert pushed.status == 0, pushed.err
    assert (await house.deploys("blog"))[0].commit_id == clone.run("rev-parse", "HEAD")


async def test_a_forced_push_that_rewinds_deploys_the_older_commit(house: House) -> None:
    clone = house.clone()
    older = clone.run("rev-parse", "HEAD")
    clone.commit("a", "b")
    await clone.push()
    pushed = await clone.push("--force", f"{older}:refs/heads/main")
    assert pushed.status == 0, pushed.err
    assert (await house.deploys("blog"))[0].commit_id == older


async def test_two_branches_at_once_deploy_one_and_say_how_to_deploy_the_other(house: House) -> None:
    clone = house.clone()
    clone.run("branch", "dev")
    pushed = await clone.push("dev", "main")
    assert pushed.status == 0, pushed.err
    assert len(await house.deploys("blog")) == 1
    assert "-----> dev was stored, not deployed: main is the branch that deploys blog" in pushed.err
    assert "git push <remote> dev:main" in pushed.err
    assert "git:set blog deploy-branch dev" in pushed.err


async def test_the_first_branch_becomes_the_deploy_branch_whatever_its_name(house: House) -> None:
    clone = house.clone()
    pushed = await clone.push("main:trunk")
    assert "trunk is the branch that deploys blog from now on" in pushed.err
    clone.commit("a", "b")
    other = await clone.push("main")
    assert other.status == 0 and "main was stored, not deployed" in other.err
    assert len(await house.deploys("blog")) == 1


async def test_a_tag_alone_creates_no_app(house: House) -> None:
    clone = house.clone()
    clone.run("tag", "v1")
    pushed = await clone.push("v1")
    assert "No branch was stored, so blog was not created" in pushed.err
    assert await house.database.read.apps.all() == []
    assert list((house.folder / "repos").iterdir()) == []


async def test_a_tag_of_an_app_is_stored_and_triggers_nothing(house: House) -> None:
    clone = house.clone()
    await clone.push()
    clone.run("tag", "v1")
    pushed = await clone.push("v1")
    assert pushed.status == 0, pushed.err
    assert len(await house.deploys("blog")) == 1


async def test_an_empty_push_does_nothing_after_a_deploy_that_went_live(house: House) -> None:
    clone = house.clone()
    await clone.push()
    pushed = await clone.push()
    assert pushed.status == 0 and "Everything up-to-date" in pushed.err
    assert len(await house.deploys("blog")) == 1


async def test_an_empty_push_deploys_again_what_failed(house: House) -> None:
    clone = house.clone()
    house.watcher.outcome = "failed"
    await clone.push()
    house.watcher.outcome = "live"
    pushed = await clone.push()
    assert pushed.status == 0, pushed.err
    assert "main did not go live last time" in pushed.err
    assert [deploy.status for deploy in await house.deploys("blog")] == ["live", "failed"]


async def test_an_empty_push_never_repeats_what_was_cancelled(house: House) -> None:
    clone = house.clone()
    house.watcher.outcome = "cancelled"
    await clone.push()
    assert (await clone.push()).status == 0
    assert len(await house.deploys("blog")) == 1


async def test_an_empty_push_watches_the_deploy_under_way(house: House) -> None:
    clone = house.clone()
    house.watcher.outcome = None
    first = asyncio.create_task(clone.push())
    await eventually(lambda: len(house.watcher.watched) == 1, what="the deploy is watched")
    house.watcher.outcome = "live"
    second = await clone.push()
    assert second.status == 0
    assert set(house.watcher.watched) == {house.watcher.watched[0]} and len(house.watcher.watched) == 2
    assert len(await house.deploys("blog")) == 1
    first.cancel()
    await asyncio.wait((first,))


async def test_what_git_stored_and_nobody_recorded_is_deployed_by_the_next_empty_push(house: House) -> None:
    """The agent died between git's end and its own row."""
    async with house.database.transaction() as tx:
        app = await apps.create(tx, app=AppId(house.ids.new("a")), name=AppName("blog"), by="ann")
    await house.repos.create(app.id)
    clone = house.clone()
    clone.run("push", "-q", str(house.repo(app)), "main")
    pushed = await clone.push()
    assert pushed.status == 0 and "Everything up-to-date" in pushed.err
    assert [deploy.commit_id for deploy in await house.deploys("blog")] == [clone.run("rev-parse", "HEAD")]


async def test_a_dry_run_to_an_app_that_does_not_exist_changes_nothing(house: House) -> None:
    pushed = await house.clone().push("--dry-run", "main")
    assert pushed.status == 0, pushed.err
    assert await house.database.read.apps.all() == []
    assert list((house.folder / "repos").iterdir()) == []


async def test_a_shallow_clone_can_be_pushed(house: House) -> None:
    origin = house.clone()
    origin.commit("a", "1")
    origin.commit("a", "2")
    shallow = Clone(house, house.folder / "shallow")
    origin.run("clone", "-q", "--depth=1", f"file://{origin.folder}", str(shallow.folder))
    pushed = await shallow.push()
    assert pushed.status == 0, pushed.err
    assert (await house.deploys("blog"))[0].commit_id == shallow.run("rev-parse", "HEAD")


async def test_two_pushes_at_once_to_one_new_app_are_served_one_after_the_other(house: House) -> None:
    first, second = house.clone("one"), house.clone("two")
    second.commit("b", "b")
    results = await asyncio.gather(first.push("--force", "main"), second.push("--force", "main"))
    assert [result.status for result in results] == [0, 0], [result.err for result in results]
    tips = {first.run("rev-parse", "HEAD"), second.run("rev-parse", "HEAD")}
    assert {deploy.commit_id for deploy in await house.deploys("blog")} == tips
    assert len(await house.database.read.apps.all()) == 1
    assert sum("Created blog" in result.err for result in results) == 1


async def test_pushes_to_two_apps_do_not_wait_for_each_other(house: House) -> None:
    clone = house.clone()
    house.watcher.outcome = None
    waiting = asyncio.create_task(clone.push(path="slow"))
    await eventually(lambda: len(house.watcher.watched) == 1, what="the first is watched")
    house.watcher.outcome = "live"
    assert (await clone.push(path="quick")).status == 0
    waiting.cancel()
    await asyncio.wait((waiting,))


async def test_the_deploy_goes_on_when_the_pusher_leaves(house: House) -> None:
    clone = house.clone()
    house.watcher.outcome = None
    process = await asyncio.create_subprocess_exec(
        "git", "push", house.url(), "main", cwd=clone.folder, env=house.git_environment(), start_new_session=True
    )
    await eventually(lambda: bool(house.watcher.watched), what="the deploy is watched")
    # Not SIGINT: where the tests run in the background, a shell has it ignored for all that they start.
    os.killpg(process.pid, signal.SIGTERM)
    async with asyncio.timeout(10):
        await process.wait()
        await house.watcher.left.wait()
    (deploy,) = await house.deploys("blog")
    assert deploy.status == "accepted"


async def test_a_pusher_who_leaves_in_the_middle_of_the_pack_leaves_nothing(house: House, tmp_path: Path) -> None:
    clone = house.clone()
    await clone.push()
    tip = clone.run("rev-parse", "HEAD")
    clone.commit("noise", os.urandom(16 << 20))
    process = await asyncio.create_subprocess_exec(
        "git", "push", "-q", house.url(), "main", cwd=clone.folder, env=house.git_environment(), start_new_session=True
    )
    await eventually(lambda: bool(leftovers(house)), what="the pack is coming")
    os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    await eventually(lambda: not leftovers(house), what="the quarantine is gone")
    assert await house.repos.tip((await house.app("blog")).id, "main") == tip
    assert (await clone.push()).status == 0


async def test_an_app_destroyed_during_a_push_is_said_so(house: House) -> None:
    clone = house.clone()
    await clone.push()
    clone.commit("noise", os.urandom(32 << 20))
    pushing = asyncio.create_task(clone.push())
    await eventually(lambda: bool(leftovers(house)), what="the pack is coming")
    async with house.database.transaction() as tx:
        app = await tx.apps.by_name("blog")
        assert app is not None
        await apps.destroy(tx, app=app)
    pushed = await pushing
    assert pushed.status == 1 and "blog was destroyed while you pushed" in pushed.err


async def test_a_branch_that_is_only_stored_is_synced_before_its_pusher_hears_of_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = house.clone()
    await clone.push()
    synced: list[tuple[AppId, str | None]] = []
    real = house.repos.sync

    async def sync(app: AppId) -> None:
        synced.append((app, await house.repos.tip(app, "dev")))
        await real(app)

    monkeypatch.setattr(house.repos, "sync", sync)
    commit = clone.commit("a", "b")
    assert (await clone.push("main:dev")).status == 0
    assert synced == [((await house.app("blog")).id, commit)]


async def test_a_deploy_branch_chosen_during_a_push_is_not_passed_over(house: House) -> None:
    clone = house.clone()
    await clone.push()
    before = clone.run("rev-parse", "HEAD")
    clone.commit("noise", os.urandom(32 << 20))
    pushing = asyncio.create_task(clone.push())
    await eventually(lambda: bool(leftovers(house)), what="the pack is coming")
    app = await house.app("blog")
    async with house.database.transaction() as tx:
        await tx.properties.set(app.id, "git.deploy-branch", "release")
    pushed = await pushing
    assert pushed.status == 1 and "another branch to deploy blog" in pushed.err, pushed.err
    assert [deploy.commit_id for deploy in await house.deploys("blog")] == [before]
    assert await house.repos.tip(app.id, "main") == before


async def test_what_was_pushed_can_be_cloned_and_fetched(house: House) -> None:
    clone = house.clone()
    await clone.push()
    cloned = await clone.git("clone", "-q", house.url(), str(house.folder / "copy"))
    assert cloned.status == 0, cloned.err
    copy = Clone(house, house.folder / "copy")
    assert copy.run("rev-parse", "HEAD") == clone.run("rev-parse", "HEAD")
    clone.commit("a", "b")
    await clone.push()
    assert (await copy.git("pull", "-q")).status == 0
    assert copy.run("rev-parse", "HEAD") == clone.run("rev-parse", "HEAD")


async def test_a_clone_of_no_app_says_so(house: House) -> None:
    cloned = await house.clone().git("clone", house.url("nothing"), str(house.folder / "copy"))
    assert cloned.status == 128 and "There is no app called nothing" in cloned.err


@pytest.mark.parametrize("protocol", ["version=2; id", "version=9", "$(id)", "version=2\n", "x" * 5000])
async def test_odd_values_of_git_protocol_are_left_out(house: House, protocol: str) -> None:
    clone = house.clone()
    pushed = await clone.push(GIT_PROTOCOL=protocol)
    assert pushed.status == 0, pushed.err


async def test_the_sweep_removes_what_killed_pushes_left_and_nothing_else(house: House) -> None:
    clone = house.clone()
    await clone.push()
    app = await house.app("blog")
    for lock in ("refs/heads/main.lock", "HEAD.lock"):
        (house.repo(app) / lock).touch()
    clone.commit("a", "b")
    assert (await clone.push()).status != 0, "git takes no lock for left over"
    (house.repo(app) / "objects" / "tmp_objdir-incoming-abc").mkdir()
    orphan = house.folder / "repos" / "azzzzzzzzzzz"
    orphan.mkdir()
    removed = await asyncio.to_thread(sweep_incoming, house.folder / "repos", apps={app.id})
    assert sorted(removed) == ["HEAD.lock", "azzzzzzzzzzz", "refs/heads/main.lock", "tmp_objdir-incoming-abc"]
    assert await asyncio.to_thread(sweep_incoming, house.folder / "repos", apps={app.id}) == []
    assert (await clone.push()).status == 0
    assert await house.repos.tip(app.id, "main") == clone.run("rev-parse", "HEAD")


async def test_a_deploy_that_was_superseded_ends_its_push_with_1(house: House) -> None:
    clone = house.clone()
    await clone.push()
    app = await house.app("blog")
    async with house.database.transaction() as tx:
        accepted = await deploys.accept(
            tx, deploy=DeployId(house.ids.new("d")), app=app.id, kind="push", by="ann", why="", commit="0" * 40
        )
    clone.commit("a", "b")
    assert (await clone.push()).status == 0
    older = await house.database.read.deploys.get(accepted.id)
    assert older is not None and older.status == "superseded"
