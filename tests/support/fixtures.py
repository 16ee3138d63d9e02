"""Fixtures of tests on the real Docker engine. A test package takes them in its conftest."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.docker import Corner, corner


@pytest.fixture
async def docker() -> AsyncIterator[Corner]:
    """A corner of the real engine, empty again afterwards."""
    async with corner() as made:
        yield made
