"""What every test may ask for: time and identifiers that are its own."""

from __future__ import annotations

import pytest

from agent.vault import Vault
from tests.fakes.world import FakeClock, SeededIds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def ids() -> SeededIds:
    return SeededIds()


@pytest.fixture
def vault() -> Vault:
    return Vault(bytes(range(32)))
