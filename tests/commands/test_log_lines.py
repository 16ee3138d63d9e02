"""Each line that is logged in the course of a command says whose work it belongs to."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from agent.commands.apps import AppsReport
from agent.commands.command import Context
from agent.commands.deploys import DeploysOutput, find_deploy
from agent.commands.replies import Reply
from tests.commands.desk import Desk
from tests.fakes.log import Line, captured

WORK = ("user", "command", "app", "deploy", "handler")


def work(line: Line) -> dict[str, object]:
    """Return what a line says about the work that it belongs to."""
    return {key: line[key] for key in WORK if line.get(key) is not None}


def only(lines: list[Line], event: str) -> Line:
    [line] = [line for line in lines if line["event"] == event]
    return line


async def test_a_bug_in_a_command_is_logged_with_user_command_and_app(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await desk.core.create("blog")

    async def broken(self: AppsReport, ctx: Context) -> Reply:
        structlog.get_logger().info("inside")
        raise ZeroDivisionError

    monkeypatch.setattr(AppsReport, "run", broken)
    with captured() as lines:
        await desk.give("apps:report blog")
        await asyncio.sleep(0)  # the last line waits for the loop's next turn
        await desk.give("nope")
    whole = {"user": "ada", "command": "apps:report", "app": app.id}
    for event in ("inside", "command.failed", "command.ended"):
        assert work(only(lines, event)) == whole, event
    assert structlog.contextvars.get_contextvars() == {}, "nothing of it is left"


async def test_a_command_about_a_deploy_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    app, deploy = await desk.deployed("blog")

    async def broken(self: DeploysOutput, ctx: Context) -> Reply:
        await find_deploy(ctx, self.deploy)
        raise ZeroDivisionError

    monkeypatch.setattr(DeploysOutput, "run", broken)
    with captured() as lines:
        await desk.give("deploys:output blog")
    expected = {"user": "ada", "command": "deploys:output", "app": app.id, "deploy": deploy.id}
    assert work(only(lines, "command.failed")) == expected


async def test_a_command_that_deploys_says_which_deploy_and_the_handlers_are_not_its_work(desk: Desk) -> None:
    app, first = await desk.deployed("blog")
    with captured() as lines:
        await desk.meanwhile("ps:restart blog")
        await asyncio.sleep(0)
    ended = work(only(lines, "command.ended"))
    assert ended.pop("deploy") not in (None, first.id)
    assert ended == {"user": "ada", "command": "ps:restart", "app": app.id}
    of_handlers = [line for line in lines if "handler" in line]
    assert not any("user" in line or "command" in line for line in of_handlers)


async def test_a_command_about_no_app_names_none_though_the_one_before_it_did(desk: Desk) -> None:
    await desk.core.create("blog")
    with captured() as lines:
        for line in ("apps:report blog", "version"):
            await desk.give(line)
            await asyncio.sleep(0)
    assert work(lines[-1]) == {"user": "ada", "command": "version"}
