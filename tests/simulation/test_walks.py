"""Random walks of the whole core: see ``walk``. Each is one seed, and a failure prints how to replay it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.simulation.virtual import without_pauses
from tests.simulation.walk import Figures, walk
from tests.support.deaths import DEATHS
from tests.support.places import in_memory

FIRST_SEED = 1
PARTS = 4
WALKS = 164
"""With the steps of the stories these are 10,000 points that are died at in each test run: ``support/deaths.py`` counts
them. ``scripts/torture`` walks further."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with in_memory() as found:
        yield found


def walks(folder: Path, first: int, count: int) -> list[Figures]:
    with without_pauses() as collect:
        found = []
        for seed in range(first, first + count):
            found.append(walk(seed, folder))
            collect()
        return found


@pytest.mark.slow
def test_the_same_seed_walks_the_same_way_twice(folder: Path) -> None:
    once, again = (walks(folder, FIRST_SEED, 2) for _ in range(2))
    assert [figures.digest for figures in once] == [figures.digest for figures in again]
    assert len({figures.digest for figures in once}) == 2


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_happens_every_promise_is_kept(
    folder: Path, part: int, record_property: Callable[[str, object], None]
) -> None:
    figures = walks(folder, FIRST_SEED + part * (WALKS // PARTS), WALKS // PARTS)
    deaths = sum(one.deaths for one in figures)
    assert deaths > 1_000
    record_property(DEATHS, deaths)
    told = sum((one.told for one in figures), Counter())
    assert all(told[kind] for kind in ("named", "went live", "cancelled", "went back", "replaced", "set")), told
    kinds = {kind for one in figures for kind in one.faults}
    assert {"disk full", "engine down", "scheduler hang", "scheduler belated", "proxy after", "set_clock"} <= kinds
