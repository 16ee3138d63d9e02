"""``scripts/torture``: its parts are told, can be run, and stand in the documentation."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bench import switch

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "scripts" / "torture"
PARTS = re.findall(r"^parts=\((.*)\)$", SCRIPT.read_text(), re.MULTILINE)[0].split()
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


STAND_IN = """#!/bin/bash
echo "$0 $* rounds of seed ${PUSHBOAT_TEST_SEED:-none}"
# This one begins the report of its part itself.
[[ $2 != tests.attacks.torture ]] || echo "first seed: 7" >torture-commands.txt
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with this script and stand-ins for all that it runs."""
    for name in ("torture", "machine.sh"):
        (tmp_path / "scripts").mkdir(exist_ok=True)
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts" / name)
    programs = ("python", "curl", "haproxy", "busybox", "iptables", "strace", "debootstrap")
    for path in (*(f"bin/{name}" for name in programs), *(f"bench/{name}" for name in (*MEASUREMENTS, "switch"))):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(STAND_IN)
        (tmp_path / path).chmod(0o755)
    return tmp_path


def report_of(tree: Path, part: str, *options: str) -> str:
    """Run a part, and return its report, the only one that it leaves."""
    path = f"{tree}/bin:/usr/bin:/bin"
    environment = {"PATH": path, "HOME": str(tree), "VIRTUAL_ENV": str(tree), "XDG_CACHE_HOME": str(tree / "cache")}
    command = [tree / "scripts" / "torture", part, *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [report] = tree.glob("torture-*.txt")
    assert report.name == f"torture-{part}.txt"
    return report.read_text()


@pytest.mark.parametrize("part", [part for part in PARTS if part != "simulation"])
def test_each_part_leaves_one_report_of_all_that_it_ran(tree: Path, part: str) -> None:
    report = report_of(tree, part)
    ran = {"commands": ["seed: 7", "test_fields.py", "test_attacked.py"], "switch": ["test_many_switches", "--rate"]}
    assert [word for word in ran.get(part, [part]) if word not in report] == []


def test_what_draws_has_its_seed_in_the_report_and_takes_it_from_there(tree: Path) -> None:
    drawn = set()
    for part in ("commands", "kills", "switch"):
        report = report_of(tree, part)
        drawn |= set(re.findall(r"PUSHBOAT_TEST_SEED=(\d+)", report))
        assert f"rounds of seed {re.findall(r'PUSHBOAT_TEST_SEED=([0-9]+)', report)[0]}\n" in report, part
        (tree / f"torture-{part}.txt").unlink()
    assert len(drawn) == 3
    assert "rounds of seed 4711\n" in report_of(tree, "kills", "1", "4711")
    (tree / "torture-kills.txt").unlink()
    for options in (("--seed", "4711"), ("--seed=4711",)):
        report = report_of(tree, "switch", *options)
        assert "rounds of seed 4711\n" in report and "--seed 4711" in report
