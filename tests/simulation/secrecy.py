"""Where secrets of a simulation must not be, and whether they are there."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tests.fakes.core import Core
from tests.simulation.ledger import CANARY


async def where_told(core: Core, folder: Path, *, logged: list[str]) -> list[str]:
    """Return the places in which a secret is to be read that has no business there. `logged`: the agent's own log.

    Files are read byte by byte: what is stored of config is sealed, and deleted rows are overwritten. Of containers
    only the environment may have it.
    """
    return [place for place, text in [*_texts(core, logged), *await _events(core), *_files(folder)] if _MARK in text]


_MARK = CANARY.encode()


def _texts(core: Core, logged: list[str]) -> Iterator[tuple[str, bytes]]:
    yield "the agent's log", "\n".join(logged).encode()
    yield "a transcript", "\n".join(core.world.transcripts.said).encode()
    scheduler = core.world.scheduler
    for wish in (*scheduler.wishes.values(), *scheduler.task_wishes.values()):
        yield f"a container of {wish.app_name}, beside its environment", _beside_environment(wish)
    for status in scheduler.containers.values():
        yield f"the labels of {status.name}", msgspec.json.encode(status)


def _beside_environment(wish: msgspec.Struct) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(wish, env={}))


async def _events(core: Core) -> list[tuple[str, bytes]]:
    return [(f"event {event.id}", event.body) for event in await core.database.read.outbox.events(limit=1_000_000)]


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        yield str(path.relative_to(folder)), gzip.decompress(data) if path.suffix == ".gz" else data
