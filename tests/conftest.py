"""What every test may ask for: time and identifiers that are its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from agent.vault import Vault
from tests.fakes.world import FakeClock, SeededIds
from tests.support.deaths import DeathCount
from tests.support.figures import Figures
from tests.support.places import in_memory

# By default Hypothesis fails an example that takes 200 ms, as each does at times on a machine that does other work.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(DeathCount())
    config.pluginmanager.register(Figures())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the real tests of a file on one worker, since they share what takes long to make; the rest go anywhere."""
    for item in items:
        if item.get_closest_marker("real"):
            item.add_marker(pytest.mark.xdist_group(str(item.path)))


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
