"""What every test may ask for: time and identifiers that are its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

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


class Apart(LoadFileScheduling):  # type: ignore[misc]
    """Each file's tests on one worker, since real ones share what takes long to make; simulations go anywhere."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith("tests/simulation/") else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Apart | None:
    """Share tests out by file but for simulations, where ``--dist loadfile`` asks for the first."""
    return Apart(config, log) if config.getvalue("dist") == "loadfile" else None


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
