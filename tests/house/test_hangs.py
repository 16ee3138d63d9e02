"""A test that hangs tells where, and ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[2]
HANGING = """
import asyncio

async def test_that_hangs():
    await asyncio.get_running_loop().create_future()

def test_that_does_not():
    pass
"""


@pytest.mark.slow
def test_a_test_that_hangs_shows_its_stack_and_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(HANGING)
    shorter = ["-o", "faulthandler_timeout=0.5", "-o", "timeout=1.5"]
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), *shorter, "-p", "no:cacheprovider"]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1, done.stdout
    assert "1 failed, 1 passed" in done.stdout
    assert "Timeout (>1.5s)" in done.stdout and "run_forever" in done.stdout
    assert "Timeout (0:00:00.5" in done.stderr, "the stacks come first"


def test_no_hang_lasts_for_ever(pytestconfig: pytest.Config) -> None:
    assert 0 < float(pytestconfig.getini("faulthandler_timeout")) < float(pytestconfig.getini("timeout")) <= 600


def test_no_example_of_a_property_fails_for_being_slow() -> None:
    assert settings.default is not None and settings.default.deadline is None
