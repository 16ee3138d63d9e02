"""What every test may ask for: time and identifiers that are its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.vault import Vault
from tests.fakes.world import FakeClock, SeededIds
from tests.support.deaths import DeathCount
from tests.support.figures import Figures
from tests.support.places import in_memory


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(DeathCount())
    config.pluginmanager.register(Figures())


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory, gone after the test; of a test that is `real` on the disk, and kept for a look."""
    if request.node.get_closest_marker("real"):
        yield tmp_path_factory.mktemp(request.node.name[:30], numbered=True)
        return
    with in_memory() as folder:
        yield folder


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def ids() -> SeededIds:
    return SeededIds()


@pytest.fixture
def vault() -> Vault:
    return Vault(bytes(range(32)), token=SeededIds().token)
