"""Counts at how many points was died in a run of the tests, over all its processes, and fails a whole run of too few.

A test says how many it lived by ``record_property(DEATHS, n)``. It may be that each is fast and says little, so what
counts is the sum; it is asked for where all of them ran, which no part of a run can be blamed for.
"""

from __future__ import annotations

import pytest

DEATHS = "deaths"
LEAST = 10_000
"""Points, in a run of all tests that count."""
ALL_TESTS = 27
"""How many tests count; ``tests/simulation/test_harness.py`` holds it against them."""


class DeathCount:
    """A plugin of pytest."""

    def __init__(self) -> None:
        self._counts: list[int] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what a test has said, wherever it ran."""
        if report.when == "call" and report.passed:
            self._counts += [int(str(value)) for name, value in report.user_properties if name == DEATHS]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run that was whole and lived too little."""
        if self._is_short:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say how many they were."""
        if self._counts:
            told = f"simulation: died at {sum(self._counts):,} points in {len(self._counts)} tests"
            terminalreporter.write_line(f"{told}; too few" if self._is_short else told, red=self._is_short)

    @property
    def _is_short(self) -> bool:
        return len(self._counts) >= ALL_TESTS and sum(self._counts) < LEAST
