"""What the page on operations tells people to type, typed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from agent.commands.words import split
from tests.flow import apps
from tests.support.pages import command_lines
from tests.support.rig import Rig

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
STATUS = {"deploys:cancel": (1,), "doctor": (0, 1)}
"""What is refused by then, and what depends on the machine; all else has to work."""


async def test_the_table_of_what_to_ask_day_to_day_is_true(boat: Rig) -> None:
    app = boat.checkout("blog", apps.shell("echo an error; exec httpd -f -p $PORT -h /www"))
    assert (await boat.git_push(app)).status == 0
    assert (await boat.ssh("ps:restart", "blog")).status == 0
    (deploy, *_), (event, *_) = [
        json.loads(await boat.must(*words, "--format", "json")) for words in (("deploys", "blog"), ("events", "blog"))
    ]
    section = PAGE.read_text().partition("## Day to day")[2].partition("\n## ")[0]
    lines = [
        line.replace(":why ID", f":why {event['id']}").replace("ID", deploy["id"]).replace("APP", "blog")
        for line in command_lines(section.replace("v6", "v1").replace("v7", "v2"))
    ]
    assert len(lines) > 12
    for line in lines:
        words = split(line)
        if "-t" in words:
            await _is_followed(boat, words)
            continue
        done = await boat.ssh(line)
        assert done.status in STATUS.get(words[0], (0,)), (line, done)


async def _is_followed(boat: Rig, words: list[str]) -> None:
    follower = await boat.spawn(*boat.boat.ssh_command(words))
    assert follower.stdout is not None
    async with asyncio.timeout(30):
        assert b"an error" in await follower.stdout.readline()
    follower.terminate()
    await follower.communicate()
