"""Which tests there are, by the names under which pages and tables cite them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]
_TEST = re.compile(r"^(?:async )?def (test_\w+)\(", re.MULTILINE)


@cache
def every_test() -> frozenset[str]:
    """Return ``flow/test_push.py::test_…`` of each test, without its parameters."""
    return frozenset(
        f"{path.relative_to(TESTS)}::{name}"
        for path in TESTS.rglob("test_*.py")
        for name in _TEST.findall(path.read_text())
    )
