"""Lines to store, and what was stored, in few words."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from agent.logs.store import DiskLogStore
from agent.ports.logs import LogLine, LogQuery, Missed, Stream
from proto.names import AppId, ProcessType, ReplicaId

APP = AppId("aaaaaaaaaaaa")
OTHER = AppId("abbbbbbbbbbb")
REPLICA = ReplicaId("raaaaaaaaaaa")
SECOND = ReplicaId("rbbbbbbbbbbb")


def line(
    text: str, *, at: int = 1, process: str = "web", number: int = 1, release: int = 1, stream: Stream = "stdout"
) -> LogLine:
    return LogLine(at=at, process=ProcessType(process), number=number, release=release, stream=stream, text=text)


def numbered(first: int, last: int, *, width: int = 0, process: str = "web") -> list[LogLine]:
    """Return lines ``first`` … ``last``, whose text and stamp is their number."""
    return [line(f"{number:0{width}}", at=number, process=process) for number in range(first, last + 1)]


async def stored(store: DiskLogStore, app: AppId = APP, **query: object) -> list[str]:
    """Return the texts that a read yields, all of them unless ``last`` is given."""
    return [found.text for found in await stored_lines(store, app, **query)]


async def stored_lines(store: DiskLogStore, app: AppId = APP, **query: object) -> list[LogLine]:
    asked = LogQuery(**{"last": None, **query})  # type: ignore[arg-type]
    async with aclosing(store.read(app, asked)) as pages:
        return [found async for page in pages for found in page]


async def take(following: AsyncGenerator[Sequence[LogLine] | Missed, None], count: int) -> tuple[list[str], list[int]]:
    """Return the texts of the next `count` lines, missed ones counted, and each number missed."""
    texts: list[str] = []
    missed: list[int] = []
    while len(texts) + sum(missed) < count:
        batch = await anext(following)
        if isinstance(batch, Missed):
            missed.append(batch.count)
        else:
            texts += [found.text for found in batch]
    return texts, missed
