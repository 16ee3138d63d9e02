"""What a running agent does by itself: its parts are joined as they should be, and none is left out."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from agent.bootstrap.running import running
from agent.handlers import disk
from agent.settings import Settings
from tests.support.scripted_engine import http, scripted

pytestmark = pytest.mark.real  # for HAProxy alone

MB = 1_000_000
USE = {"BuildCache": [{"Type": "regular", "Size": 700 * MB}, {"Type": "exec.cachemount", "Size": 300 * MB}]}


async def pruned(folder: Path, *, max_bytes: int, may_prune: bool) -> list[dict[str, list[str]]]:
    """Run an agent whose disk is over its budget for a few looks; return what it asked to be pruned."""
    looks, asked = asyncio.Queue[str](), list[dict[str, list[str]]]()

    async def answer(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        url = urlsplit(request.split()[1])
        if url.path.endswith("/events"):
            await reader.read()
        elif url.path.endswith("/system/df"):
            looks.put_nowait(request)
            writer.write(http(200, json.dumps(USE).encode()))
        elif url.path.endswith("/build/prune"):
            asked.append(parse_qs(url.query))
            writer.write(http(200, b'{"SpaceReclaimed": 0}'))
        else:
            writer.write(http(200, b"{}" if url.path.endswith("/info") else b"[]"))

    async with scripted(folder, answer):
        tables = {
            "data": {"folder": str(folder / "data")},
            "engine": {"socket": f"unix://{folder}/engine.sock"},
            "ssh": {"host": "127.0.0.1", "port": 0},
            "http": {"binds": ["127.0.0.1:8080"]},
            "disk": {"free_percent": 0, "max_bytes": max_bytes, "prunes_build_cache": may_prune},
        }
        async with running(msgspec.convert(tables, Settings)):
            async with asyncio.timeout(60.0):
                for _ in range(6):
                    await looks.get()
    return asked


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look all the time."""
    monkeypatch.setattr(disk, "ADD_UP_SECONDS", 0.01)


async def test_it_keeps_the_disk_within_its_budget_without_being_asked(short_folder: Path) -> None:
    asked = await pruned(short_folder, max_bytes=600 * MB, may_prune=True)
    assert asked, "nothing was"
    # As much is kept as the budget leaves beside the database.
    assert 590 * MB < int(asked[0]["keep-storage"][0]) < 600 * MB


async def test_and_leaves_the_cache_of_an_engine_that_others_build_on(short_folder: Path) -> None:
    assert await pruned(short_folder, max_bytes=1, may_prune=False) == []
