"""One Pushboat for the tests of a module: each test uses apps of its own."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.rig import Rig, rig


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def boat() -> AsyncIterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="pb-") as name:
        async with rig(Path(name)) as r:
            yield r


@pytest.fixture
async def lone_boat(short_folder: Path) -> AsyncIterator[Rig]:
    """A Pushboat for one test that kills it."""
    async with rig(short_folder) as r:
        yield r


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a short name: HAProxy's sockets are in it, and their paths have a limit."""
    with tempfile.TemporaryDirectory(prefix="pb-") as name:
        yield Path(name)
