"""A desk for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.commands.desk import Desk
from tests.fakes.core import core


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """Commands over a real database and fakes at the ports."""
    async with core(tmp_path) as made:
        yield Desk(made)
