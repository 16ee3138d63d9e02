"""``scripts/torture``: its parts are told, can be run, and stand in the documentation."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bench import switch

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "scripts" / "torture"
MEASUREMENTS = ("ssh", "logs", "scale", "bus")


def torture(*words: str) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as cache:
        environment = {"PATH": "/usr/bin:/bin", "HOME": cache, "VIRTUAL_ENV": sys.prefix, "XDG_CACHE_HOME": cache}
        return subprocess.run([SCRIPT, *words], env=environment, capture_output=True, text=True, check=False)


def parts() -> dict[str, str]:
    listed = torture("list")
    assert listed.returncode == 0, listed.stderr
    return dict(line.split(": ", 1) for line in listed.stdout.splitlines())


def test_each_part_is_told_and_can_be_run() -> None:
    found = parts()
    assert all(found.values()) and set(MEASUREMENTS) < found.keys()
    runnable = re.findall(r"^    ([a-z]+)\) ", SCRIPT.read_text(), re.MULTILINE)
    assert sorted(runnable) == sorted(found)


def test_each_part_stands_in_the_documentation() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text()
    assert [part for part in parts() if f"`{part}`" not in text] == []


@pytest.mark.parametrize("part", MEASUREMENTS)
def test_a_measurement_is_one_that_there_is(part: str) -> None:
    assert (ROOT / "bench" / part).is_file() and f"bench/{part}" in parts()[part]


def test_a_part_that_is_none_is_refused_with_where_to_look() -> None:
    refused = torture("nonsense")
    assert refused.returncode != 0
    assert "nonsense is not a part" in refused.stdout + refused.stderr
    assert "scripts/torture list" in refused.stdout + refused.stderr


def test_the_switch_takes_a_seed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench/switch", "--help"])
    with pytest.raises(SystemExit):
        switch.main()
    assert "--seed" in capsys.readouterr().out
