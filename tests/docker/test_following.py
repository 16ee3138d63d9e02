"""Real containers' output followed to their end: through the engine's own files, and through its stream.

What is promised of any source is in ``tests/contracts/test_log_source.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Protocol

import pytest

from agent.docker.file_changes import FileChanges
from agent.docker.logs import SILENCE_SECONDS, DockerLogs
from agent.ports.logs import RawLine
from agent.ports.scheduler import ReplicaWish
from agent.schedulers.docker import DockerScheduler
from proto.names import ReplicaId
from tests.support.docker import Corner, token, until

pytestmark = pytest.mark.real


class Logs(Protocol):
    """Makes the source of lines that is tried."""

    def __call__(self, *, silence_seconds: float = SILENCE_SECONDS) -> DockerLogs: ...


@pytest.fixture(params=["files", "stream"])
async def logs(request: pytest.FixtureRequest, docker: Corner) -> AsyncIterator[Logs]:
    changes = FileChanges() if request.param == "files" else None
    made: list[DockerLogs] = []

    def make(*, silence_seconds: float = SILENCE_SECONDS) -> DockerLogs:
        made.append(DockerLogs(docker.engine, changes=changes, silence_seconds=silence_seconds))
        return made[-1]

    yield make
    if changes is not None:
        assert not changes._waiting
        changes.close()


@pytest.fixture
def scheduler(docker: Corner) -> DockerScheduler:
    return DockerScheduler(docker.engine, bridges=docker.bridges)


async def texts(logs: DockerLogs, replica: ReplicaId, *, since: int = 0, count: int = 0) -> list[str]:
    """Return what the replica has written: to its end, or the first `count` lines."""
    return [line.data.decode() for line in await lines_of(logs, replica, since=since, count=count)]


async def lines_of(logs: DockerLogs, replica: ReplicaId, *, since: int = 0, count: int = 0) -> list[RawLine]:
    lines: list[RawLine] = []
    async with asyncio.timeout(60), aclosing(logs.follow(replica, since=since)) as batches:
        async for batch in batches:
            assert batch
            lines += batch
            if count and len(lines) >= count:
                break
    return lines


async def start(docker: Corner, scheduler: DockerScheduler, *command: str) -> ReplicaWish:
    wish = docker.wish(*command)
    await scheduler.converge(docker.app, [wish], lambda _: None)
    return wish


async def test_one_that_has_ended_long_ago_is_read_whole(
    docker: Corner, scheduler: DockerScheduler, logs: Logs
) -> None:
    wish = await start(docker, scheduler, "seq", "1", "20000")

    async def has_ended() -> bool:
        status = await scheduler.look(wish.replica)
        return status is not None and status.phase == "exited"

    await until(has_ended)
    assert await texts(logs(), wish.replica) == [str(number) for number in range(1, 20_001)]


async def test_following_again_from_a_stamp_gives_that_line_and_all_after(
    docker: Corner, scheduler: DockerScheduler, logs: Logs
) -> None:
    wish = await start(docker, scheduler, "seq", "1", "2000")
    source = logs()
    lines = await lines_of(source, wish.replica)
    middle = lines[1_000]
    again = await lines_of(source, wish.replica, since=middle.at)
    assert again == [line for line in lines if line.at >= middle.at]
    assert 1_000 <= len(again) <= 1_010


async def test_restarts_by_the_engine_do_not_end_a_follow(
    docker: Corner, scheduler: DockerScheduler, logs: Logs
) -> None:
    script = (
        "echo up; test -e /tmp/b && exit 0; test -e /tmp/a && touch /tmp/b; touch /tmp/a; sleep 1; echo down; exit 3"
    )
    wish = await start(docker, scheduler, "sh", "-c", script)
    await scheduler.entrust(wish.replica)
    assert await texts(logs(), wish.replica) == ["up", "down", "up", "down", "up"]


async def test_nothing_is_lost_where_the_engine_rotates_its_files(
    docker: Corner, scheduler: DockerScheduler, logs: Logs
) -> None:
    # 20 MB as the engine keeps them, in files of 10 MB: the follow goes through a rotation, where engines may stall.
    wish = await start(docker, scheduler, "seq", "1000000", "1260000")
    lines = await texts(logs(silence_seconds=0.5), wish.replica)
    assert len(lines) == 260_001
    assert lines == [str(number) for number in range(1_000_000, 1_260_001)]


async def test_of_a_flood_no_line_comes_twice_and_what_is_missing_is_marked(
    docker: Corner, scheduler: DockerScheduler, logs: Logs
) -> None:
    # 31 MB as the engine keeps them, written faster than it lets them be followed: it skips and repeats files.
    wish = await start(docker, scheduler, "seq", "1000000", "1400000")
    lines = await lines_of(logs(silence_seconds=0.5), wish.replica)
    newest = 999_999
    is_marked = False
    for line in lines:
        if line.stream == "agent":
            is_marked = True
            continue
        number = int(line.data)
        assert number > newest if is_marked else number == newest + 1
        newest, is_marked = number, False
    assert newest == 1_400_000


async def test_nobody_is_followed_for_ever_who_is_not_there(logs: Logs) -> None:
    assert await texts(logs(), ReplicaId(token("r"))) == []
