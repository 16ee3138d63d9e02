"""git push, fetch and clone are allowed and put on record by what allows and records commands."""

from __future__ import annotations

import asyncio
import os

import pytest

from agent.commands import requests
from agent.errors import UserError
from agent.git.receive import PushLimits
from agent.lifecycle import apps
from agent.ports.session import Terminal, User
from agent.state.apps import App
from proto.names import AppId, AppName, DeployId
from tests.fakes.log import captured
from tests.ssh.conftest import Builder, House, eventually

pytestmark = pytest.mark.real


def only(monkeypatch: pytest.MonkeyPatch, *allowed: str, but: AppId | None = None) -> None:
    """Have the rule that roles will have: `allowed` permissions, and for no app `but`."""

    def rule(user: User, asked: requests.Asked, app: App | None) -> None:
        if asked.permission not in allowed or (app is not None and app.id == but):
            raise UserError("command.denied", f"You may not use {asked.name}.", "Ask who runs this server.")

    monkeypatch.setattr(requests, "authorise", rule)


async def test_one_rule_decides_about_pushes_and_fetches(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = house.clone()
    assert (await clone.push()).status == 0
    app = await house.app("blog")
    clone.commit("a", "b")
    only(monkeypatch, "read")
    pushed = await clone.push()
    assert pushed.status != 0 and "You may not use git-receive-pack" in pushed.err
    assert (await clone.push(path="another")).status != 0
    cloned = await clone.git("clone", "-q", house.url(), str(house.folder / "copy"))
    assert cloned.status == 0, cloned.err
    only(monkeypatch)
    refused = await clone.git("fetch", house.url())
    assert refused.status != 0 and "You may not use git-upload-pack" in refused.err
    assert len(await house.deploys("blog")) == 1
    assert [each.name for each in await house.database.read.apps.all()] == ["blog"]
    assert [path.name for path in (house.folder / "repos").iterdir()] == [app.id]
    assert await house.records() == [
        ("ann", "git-receive-pack", app.id, 0),
        ("ann", "git-receive-pack", app.id, 1),
        ("ann", "git-receive-pack", None, 1),
        ("ann", "git-upload-pack", app.id, 0),
        ("ann", "git-upload-pack", app.id, 1),
    ]


async def test_the_rule_is_asked_anew_where_the_name_went_to_another_app_while_a_push_waited(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = house.clone()
    assert (await clone.push()).status == 0
    clone.commit("a", "b")
    old, new = await house.app("blog"), AppId(house.ids.new("a"))
    async with house.pushes._turns.of(old.id):
        process = await asyncio.create_subprocess_exec(
            *("git", "push", house.url(), "main"),
            cwd=clone.folder,
            env=house.git_environment(),
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        async with asyncio.timeout(20):
            assert b"Waiting for another push" in await process.stderr.readline()
        async with house.database.transaction() as tx:
            await apps.destroy(tx, app=old)
            await apps.create(tx, app=new, name=AppName("blog"), by="bob")
        only(monkeypatch, "change", but=new)
    said = await process.stderr.read()
    assert await process.wait() != 0 and b"You may not use git-receive-pack" in said
    assert await house.deploys("blog") == []
    assert (await house.records())[-1] == ("ann", "git-receive-pack", new, 1)


async def test_refused_pushes_are_on_record(open_house: Builder) -> None:
    house = await open_house(limits=PushLimits(max_bytes=20_000), creates_apps=False)
    async with house.database.transaction() as tx:
        app = await apps.create(tx, app=AppId(house.ids.new("a")), name=AppName("blog"), by="ann")
    clone = house.clone()
    assert (await clone.push(path="nothing")).status != 0
    assert (await clone.push("main:refs/heads/$(id)")).status == 1
    assert (await clone.push()).status == 0
    assert (await clone.push("--delete", "main")).status == 1
    clone.commit("noise", os.urandom(100_000), message="t0ken")
    assert (await clone.push()).status == 1
    assert (await clone.push(path="../blog")).status != 0
    assert await house.records() == [
        ("ann", "git-receive-pack", None, 20),
        ("ann", "git-receive-pack", app.id, 1),
        ("ann", "git-receive-pack", app.id, 0),
        ("ann", "git-receive-pack", app.id, 1),
        ("ann", "git-receive-pack", app.id, 1),
        ("ann", "git-receive-pack", None, 1),
    ]


async def test_neither_records_nor_log_hold_what_was_pushed(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    clone = house.clone()
    clone.commit("s3cret-file", "s3cret content", message="s3cret message")
    assert (await clone.push("main", "main:s3cret-branch")).status == 0
    assert (await clone.git("ls-remote", house.url())).status == 0
    assert (await clone.push("main:refs/heads/s3cret$(id)")).status == 1
    assert (await house.ssh("git-upload-pack 'blog' 's3cret'")).status == 1
    rows = await house.database.read.invocations.newest(10)
    assert len(rows) == 4
    assert {row.fingerprint for row in rows} == {row.fingerprint for row in rows if row.fingerprint.startswith("SHA")}
    assert "s3cret" not in repr(rows)
    logged = capsys.readouterr().out
    assert "command.ended" in logged and "s3cret" not in logged


async def test_each_line_of_a_push_says_whose_and_which_app_and_deploy(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(deploy: DeployId, terminal: Terminal, *, to_stderr: bool = False) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(house.watcher, "watch", broken)
    with captured() as lines:
        assert (await house.clone().push()).status != 0
        await eventually(lambda: any(line["event"] == "command.ended" for line in lines), what="the push is logged")
    app, [deploy] = await house.app("blog"), await house.deploys("blog")
    for event in ("ssh.session-failed", "command.ended"):
        [line] = [line for line in lines if line["event"] == event]
        work = {key: line[key] for key in ("user", "command", "app", "deploy")}
        assert work == {"user": "ann", "command": "git-receive-pack", "app": app.id, "deploy": deploy.id}
