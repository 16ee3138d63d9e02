"""Figures that tests note on the way, told at the end of a run: they depend on the machine, so nothing is held to them.

A test says ``record_property(FIGURE, "an app after …: 0.8 s")``; it is told wherever it ran.
"""

from __future__ import annotations

import pytest

FIGURE = "figure"


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
