"""The process dies instead of each step of a push, a rollback, a scale, a config change, a stop and a destroy, one
after another; then it starts again. Whatever was acknowledged must be there, and everything must fit together.

A step is what lies between two awaits of one task, so this is every await and every commit of each story.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.simulation.dying import Settled, exhaust, live, settle_all
from tests.simulation.stories import STORIES
from tests.support.deaths import DEATHS
from tests.support.places import in_memory


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with in_memory() as found:
        yield found


@pytest.fixture(scope="module")
def beginnings(folder: Path) -> dict[str, Settled]:
    return settle_all(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", STORIES)
def test_every_story_comes_out_well_when_nobody_dies(folder: Path, beginnings: dict[str, Settled], name: str) -> None:
    assert live(folder, STORIES[name], beginnings[name], dies_at=None) > 100


@pytest.mark.slow
@pytest.mark.parametrize("name", STORIES)
def test_dying_at_any_step_loses_nothing(
    folder: Path, beginnings: dict[str, Settled], name: str, record_property: Callable[[str, object], None]
) -> None:
    tried = exhaust(folder, name, beginnings[name])
    assert tried.steps > 300
    assert tried.lives > 20
    record_property(DEATHS, tried.lives)
