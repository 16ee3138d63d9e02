"""Every fault and attack that we know of ends in a test that is there, or with a reason."""

from __future__ import annotations

from tests.house.attacks import ATTACKS
from tests.house.faults import FAULTS
from tests.house.loads import LOADS
from tests.support.named_tests import every_test

LINES = (*FAULTS, *LOADS, *ATTACKS)


def test_every_fault_and_attack_has_tests_that_are_there() -> None:
    missing = {line.what: sorted(set(line.tests) - every_test()) for line in LINES}
    assert {what: tests for what, tests in missing.items() if tests} == {}


def test_what_has_no_test_has_a_reason() -> None:
    assert [line.what for line in LINES if not line.tests and len(line.beside) < 40] == []
    assert len({line.what for line in LINES}) == len(LINES) > 45
