"""A fault or an attack that is known, with the tests that show what becomes of it, or with why no test can.

``faults``, ``loads`` and ``attacks`` list them; ``test_faults_listed.py`` checks that each of the tests is there. Who
finds another one adds a line, and then a test.
"""

from __future__ import annotations

import msgspec


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One fault or attack."""

    what: str
    then: str
    """What is to happen."""
    tests: tuple[str, ...] = ()
    """Below ``tests/``."""
    beside: str = ""
    """What no test can show, and what stands for it; or where else it is looked at."""


IN_BENCH = "How fast is measured in bench/, not asserted: figures depend on the machine."
NOTED = "How fast is told at the end of each run of the tests, not asserted: figures depend on the machine."
