"""A lifecycle's output as its watcher sees it, and what its exit statuses mean."""

from __future__ import annotations

import pytest

from agent.builders.phases import Phases
from agent.builders.progress import MAX_LINE


class Watch:
    """What tells the time."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def phases_to(said: list[str]) -> Phases:
    return Phases(said.append, monotonic=Watch())


def test_phases_are_headed_in_plain_words_and_lines_are_whole() -> None:
    said: list[str] = []
    phases = phases_to(said)
    phases.feed("stdout", b"===> DETEC")
    phases.feed("stderr", b"a warn")
    phases.feed("stdout", b"TING\nhouse/go 1.0\n\x1b[1mbold\x1b[0m\r\n===> SOMETHING\n")
    phases.feed("stderr", b"ing\n")
    phases.feed("stdout", b"the rest")
    phases.end()
    assert said == [
        "-----> Detecting which buildpacks fit",
        "       house/go 1.0",
        "       bold",
        "-----> Something",
        "       a warning",
        "       the rest",
    ]


def test_a_line_without_an_end_is_cut() -> None:
    said: list[str] = []
    phases_to(said).feed("stdout", b"x" * (2 * MAX_LINE + 5))
    assert [len(line.strip()) for line in said] == [MAX_LINE, MAX_LINE]


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (11, "does not speak the Platform API"),
        (12, "one of its buildpacks is for another version"),
        (20, "none of its groups of buildpacks fits the app. Is the app's manifest in the folder that is built?"),
        (21, "at least one buildpack failed while it looked"),
        (27, "buildpacks could not be detected"),
        (35, "the run image or the last build could not be looked at"),
        (44, "what the last build kept could not be restored"),
        (51, "a buildpack failed to build the app"),
        (58, "the app could not be built"),
        (62, "the image could not be written"),
        (127, "it has no lifecycle (/cnb/lifecycle/creator)"),
        (137, "it was killed, mostly for lack of memory"),
        (1, "its lifecycle failed"),
    ],
)
def test_every_exit_status_has_a_meaning(status: int, meaning: str) -> None:
    told = str(phases_to([]).failure(status, builder="house/builder:1"))
    assert told.startswith("The build with house/builder:1 failed: ")
    assert meaning in told and f"(status {status}" in told


def test_a_failure_comes_with_its_phase_and_the_last_lines_of_it() -> None:
    phases = phases_to([])
    phases.feed("stdout", b"===> DETECTING\nfits\n===> BUILDING\ncompiling\nno such module\n")
    assert str(phases.failure(51, builder="b")) == (
        "The build with b failed: a buildpack failed to build the app (status 51 while building with buildpacks). "
        "Its last lines:\n  compiling\n  no such module"
    )


def test_a_phase_that_says_nothing_for_a_minute_is_said_to_go_on() -> None:
    said: list[str] = []
    watch = Watch()
    phases = Phases(said.append, monotonic=watch)
    phases.feed("stdout", b"===> BUILDING\n")
    watch.now += 30
    phases.tick()
    watch.now += 31
    phases.tick()
    phases.tick()
    assert said[1:] == ["       still running, for 1 min 1 s now"]
