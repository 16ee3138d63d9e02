"""What the package holds: both programs, and every file that they read beside their code."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PACKAGES = ("agent", "cli", "proto")


def test_the_wheel_has_both_programs_and_all_that_they_read(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tree)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--no-index", "--wheel-dir", str(tmp_path), str(tree)], check=True)
    [wheel] = tmp_path.glob("pushboat-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [points] = [name for name in names if name.endswith("/entry_points.txt")]
        programs = archive.read(points).decode()
    assert "pushboat = cli.__main__:main" in programs
    assert "pushboat-agent = agent.__main__:main" in programs
    tracked = subprocess.run(["git", "ls-files", *PACKAGES], cwd=tree, capture_output=True, text=True, check=True)
    assert set(tracked.stdout.split()) == {name for name in names if name.partition("/")[0] in PACKAGES}
