"""What is promised of following containers' output, asked of the engine's files, of its stream and of the fake alike.

What engines alone do, such as rotating, flooding and restarting, is in ``tests/docker/test_following.py``.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Literal, NamedTuple, Protocol

import pytest

from agent.docker.file_changes import FileChanges
from agent.docker.logs import DockerLogs
from agent.ports.logs import LogSource, RawLine
from agent.schedulers.docker import DockerScheduler
from proto.names import ReplicaId
from tests.fakes.output import Output
from tests.support.docker import Corner, corner, token, until

SILENCE_SECONDS = 0.1
"""After which a real source looks whether its container has ended."""
Stream = Literal["stdout", "stderr"]


class Word(NamedTuple):
    """A line that a replica writes, after a pause."""

    text: str
    stream: Stream = "stdout"
    after: float = 0.0


class Stage(Protocol):
    """A source, and replicas that write."""

    source: LogSource

    async def start(self, *words: Word, ends: bool = True) -> ReplicaId:
        """Have a replica that writes these and then ends, or stays."""
        ...

    async def until_ended(self, replica: ReplicaId) -> None:
        """Wait until it has."""
        ...

    async def remove(self, replica: ReplicaId) -> None:
        """Remove its container."""
        ...


class FakeStage:
    """Fulfils `Stage` without an engine."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._output = Output()
        self.source: LogSource = self._output
        self._group = group
        self._writing: dict[ReplicaId, asyncio.Task[None]] = {}

    async def start(self, *words: Word, ends: bool = True) -> ReplicaId:
        replica = ReplicaId(token("r"))
        self._output.make(replica)
        self._writing[replica] = self._group.create_task(self._write(replica, words, ends=ends))
        return replica

    async def _write(self, replica: ReplicaId, words: tuple[Word, ...], *, ends: bool) -> None:
        for word in words:
            if word.after:
                await asyncio.sleep(word.after)
            self._output.write(replica, word.text, stream=word.stream)
        if ends:
            self._output.end(replica)

    async def until_ended(self, replica: ReplicaId) -> None:
        await self._writing[replica]

    async def remove(self, replica: ReplicaId) -> None:
        self._output.take_away(replica)


class DockerStage:
    """Fulfils `Stage` on a real engine."""

    def __init__(self, docker: Corner, changes: FileChanges | None) -> None:
        self.source: LogSource = DockerLogs(docker.engine, changes=changes, silence_seconds=SILENCE_SECONDS)
        self._docker = docker
        self._scheduler = DockerScheduler(docker.engine, bridges=docker.bridges)

    async def start(self, *words: Word, ends: bool = True) -> ReplicaId:
        steps = [_step(word, is_last=ends and word is words[-1]) for word in words]
        wish = self._docker.wish("sh", "-c", "\n".join([*steps, "" if ends else "exec sleep 1000"]))
        await self._scheduler.converge(self._docker.app, [wish], lambda _: None)
        return wish.replica

    async def until_ended(self, replica: ReplicaId) -> None:
        async def has_ended() -> bool:
            status = await self._scheduler.look(replica)
            return status is not None and status.phase == "exited"

        await until(has_ended)

    async def remove(self, replica: ReplicaId) -> None:
        await self._scheduler.remove(replica)


def _step(word: Word, *, is_last: bool) -> str:
    """Return the line of a script that writes `word`; of the last one no end of line comes."""
    pause = f"sleep {word.after}; " if word.after else ""
    form = "%s" if is_last else r"%s\\n"
    return f"{pause}printf {form} {shlex.quote(word.text)}{' >&2' if word.stream == 'stderr' else ''}"


@pytest.fixture(
    params=["fake", pytest.param("files", marks=pytest.mark.real), pytest.param("stream", marks=pytest.mark.real)]
)
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        if request.param == "fake":
            yield FakeStage(await stack.enter_async_context(asyncio.TaskGroup()))
            return
        changes = FileChanges() if request.param == "files" else None
        yield DockerStage(await stack.enter_async_context(corner()), changes)
        if changes is not None:
            assert not changes._waiting
            changes.close()


async def lines_of(stage: Stage, replica: ReplicaId, *, since: int = 0) -> list[RawLine]:
    """Return what the replica has written, to its end."""
    lines: list[RawLine] = []
    async with asyncio.timeout(60):
        async for batch in stage.source.follow(replica, since=since):
            assert batch
            lines += batch
    return lines


async def test_a_replica_is_followed_from_its_first_line_to_its_last(stage: Stage) -> None:
    replica = await stage.start(Word("first"), Word("oops", "stderr", after=0.3), Word("last", after=0.3))
    lines = await lines_of(stage, replica)
    assert [(line.stream, line.data) for line in lines] == [
        ("stdout", b"first"),
        ("stderr", b"oops"),
        ("stdout", b"last"),
    ]
    assert lines[0].at < lines[1].at < lines[2].at


async def test_one_that_has_ended_long_ago_is_read_whole_and_from_any_stamp_on(stage: Stage) -> None:
    replica = await stage.start(*(Word(str(number)) for number in range(500)))
    await stage.until_ended(replica)
    lines = await lines_of(stage, replica)
    assert [line.data for line in lines] == [b"%d" % number for number in range(500)]
    middle = lines[250]
    again = await lines_of(stage, replica, since=middle.at)
    assert again == [line for line in lines if line.at >= middle.at]


async def test_silence_is_not_taken_for_the_end(stage: Stage) -> None:
    replica = await stage.start(Word("one"), Word("two", after=8 * SILENCE_SECONDS))
    assert [line.data for line in await lines_of(stage, replica)] == [b"one", b"two"]


async def test_two_who_follow_one_replica_get_the_same(stage: Stage) -> None:
    replica = await stage.start(Word("one"), Word("two", after=0.2), Word("three"))
    once, again = await asyncio.gather(*(lines_of(stage, replica) for _ in range(2)))
    assert once == again and len(once) == 3


async def test_a_replica_that_is_removed_ends_its_follow(stage: Stage) -> None:
    replica = await stage.start(Word("one"), ends=False)
    follow = stage.source.follow(replica, since=0)
    first = await anext(aiter(follow))
    await stage.remove(replica)
    async with asyncio.timeout(20):
        rest = [line for batch in [batch async for batch in follow] for line in batch]
    assert [line.data for line in [*first, *rest]] == [b"one"]
