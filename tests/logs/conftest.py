from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.logs.store import DiskLogStore
from tests.fakes.world import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(now=0.0)


@pytest.fixture
async def store(tmp_path: Path, clock: FakeClock) -> AsyncIterator[DiskLogStore]:
    async with DiskLogStore(tmp_path / "logs", clock=clock) as opened:
        yield opened
