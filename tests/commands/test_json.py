"""``--format json`` everywhere: what a command answers, and what it refuses, is one JSON value."""

from __future__ import annotations

import io
import tarfile

import msgspec
import pytest

from agent.commands.arguments import Argument
from agent.commands.catalogue import every_command
from agent.commands.registry import Entry
from tests.commands.desk import Desk

ENTRIES = every_command().entries()
FOLLOWING = ("logs", "deploys:output")
"""One JSON value a line."""
FOR_PEOPLE = ("help", "enter", "run")
"""Help is text, and what runs in a container answers for itself."""


def archive() -> bytes:
    """Return a tar with one file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        info = tarfile.TarInfo("Dockerfile")
        info.size = len(b"FROM scratch\n")
        made.addfile(info, io.BytesIO(b"FROM scratch\n"))
    return file.getvalue()


def words_for(entry: Entry) -> list[str]:
    """Return words for what a command needs: the app, and something for each other argument."""
    words = []
    for argument in entry.signature.arguments:
        assert isinstance(argument.kind, Argument)
        if argument.kind.is_app:
            words.append("blog")
        elif argument.is_required:
            words.append({"key": "KEY", "KEY": "KEY", "KEY=value": "KEY=1"}.get(argument.metavar, "another"))
    return words


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
async def test_every_answer_is_json(desk: Desk, entry: Entry) -> None:
    if entry.name in FOR_PEOPLE:
        return
    await desk.deployed("blog")
    stdin = {"config:import": b'{"KEY": "value"}', "git:from-archive": archive()}.get(entry.name, b"blog\n")
    line = " ".join([entry.name, "--format", "json", *([] if "--all" in words_for(entry) else words_for(entry))])
    answer = await desk.meanwhile(line, stdin)
    assert answer.status in (0, 1, 20, 75), answer
    if answer.err:
        assert answer.status and set(msgspec.json.decode(answer.err)["error"]) >= {"code", "message"}, answer
    if entry.name in FOLLOWING:
        assert all(isinstance(msgspec.json.decode(each), dict) for each in answer.out.splitlines())
    elif answer.out:
        msgspec.json.decode(answer.out)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
async def test_every_refusal_is_json(desk: Desk, entry: Entry) -> None:
    answer = await desk.give(f"{entry.name} --format json --frobnicate=1 -- a b c d e f g h")
    if answer.status == 0:
        return
    assert answer.out == "" and answer.err.count("\n") == 1
    error = msgspec.json.decode(answer.err)["error"]
    assert error["code"] and error["message"]
