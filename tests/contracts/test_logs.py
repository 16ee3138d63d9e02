"""What is promised of stored lines and of transcripts, asked of the real ones and of the fakes alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Protocol

import pytest

from agent.logs.store import DiskLogStore
from agent.logs.transcripts import DiskTranscripts
from agent.ports.logs import LogLine, LogQuery, LogReader, LogStore, Transcripts
from tests.fakes.logs import FakeLogs, FakeTranscripts
from tests.fakes.world import FakeClock
from tests.logs.lines import APP, OTHER, REPLICA, SECOND, line, numbered

DEPLOY = "daaaaaaaaaaa"


class StoreAndReader(LogStore, LogReader, Protocol):
    """Both sides of stored lines."""


@pytest.fixture(params=["disk", "fake"])
async def logs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreAndReader]:
    async with AsyncExitStack() as stack:
        if request.param == "disk":
            yield await stack.enter_async_context(DiskLogStore(tmp_path, clock=FakeClock()))
        else:
            yield FakeLogs()


@pytest.fixture(params=["disk", "fake"])
async def transcripts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Transcripts]:
    async with AsyncExitStack() as stack:
        if request.param == "disk":
            yield await stack.enter_async_context(DiskTranscripts(tmp_path))
        else:
            yield FakeTranscripts()


async def read(logs: LogReader, query: LogQuery) -> list[LogLine]:
    return [found async for page in logs.read(APP, query) for found in page]


async def said(transcripts: Transcripts) -> list[str]:
    async def is_over() -> bool:
        return True

    return [text async for text in transcripts.follow(APP, DEPLOY, is_over=is_over)]


async def test_appended_lines_are_read_in_order(logs: StoreAndReader) -> None:
    await logs.append(APP, REPLICA, numbered(1, 3))
    await logs.append(APP, SECOND, [line("4", at=4, process="worker", release=2)])
    assert [found.text for found in await read(logs, LogQuery())] == ["1", "2", "3", "4"]
    assert [found.text for found in await read(logs, LogQuery(last=2))] == ["3", "4"]
    assert [found.text for found in await read(logs, LogQuery(process=line("").process))] == ["1", "2", "3"]
    assert [found.text for found in await read(logs, LogQuery(release=2))] == ["4"]


async def test_following_begins_with_what_is_stored(logs: StoreAndReader) -> None:
    await logs.append(APP, REPLICA, numbered(1, 2))
    async with aclosing(logs.follow(APP, LogQuery())) as following:
        assert list(await anext(following)) == numbered(1, 2)  # type: ignore[arg-type]


async def test_a_removed_app_has_no_lines_and_others_keep_theirs(logs: StoreAndReader) -> None:
    await logs.append(APP, REPLICA, numbered(1, 2))
    await logs.append(OTHER, REPLICA, numbered(1, 2))
    for _ in range(2):
        await logs.remove(APP)
    assert await read(logs, LogQuery()) == []
    assert [page async for page in logs.read(OTHER, LogQuery())] != []


async def test_a_transcript_is_read_from_its_first_line(transcripts: Transcripts) -> None:
    transcripts.say(APP, DEPLOY, "one")
    transcripts.say(APP, DEPLOY, "two")
    assert await said(transcripts) == ["one", "two"]
    assert await said(transcripts) == ["one", "two"]


async def test_a_removed_transcript_is_empty(transcripts: Transcripts) -> None:
    transcripts.say(APP, DEPLOY, "one")
    assert await said(transcripts) == ["one"]
    for _ in range(2):
        await transcripts.remove(APP, [DEPLOY])
    assert await said(transcripts) == []
