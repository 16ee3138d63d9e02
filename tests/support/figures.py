"""Figures that tests note on the way, told at the end of a run: they depend on the machine, so nothing is held to them.

A test says ``with timed(record_property, "until …")``, or notes a `FIGURE` itself; it is told wherever it ran.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

FIGURE = "figure"

Record = Callable[[str, object], None]
"""The fixture ``record_property``."""


@contextmanager
def timed(record: Record, what: str) -> Iterator[None]:
    """Note how long the block took."""
    began = time.monotonic()
    yield
    record(FIGURE, f"{what}: {time.monotonic() - began:.2f} s")


class Figures:
    """A plugin of pytest."""

    def __init__(self) -> None:
        self._noted: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what a test has said, wherever it ran."""
        if report.when == "call":
            self._noted += [str(value) for name, value in report.user_properties if name == FIGURE]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Tell all of them."""
        for line in sorted(self._noted):
            terminalreporter.write_line(f"figure: {line}")
