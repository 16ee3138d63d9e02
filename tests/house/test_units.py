"""The systemd units load, and give each process no more than it needs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

UNITS = Path(__file__).parent.parent.parent / "systemd"


@pytest.mark.parametrize(
    ("unit", "most"),
    [
        ("pushboat.service", 1.5),
        ("pushboat-proxy.service", 1.0),
        ("pushboat-firewall.service", 2.5),  # root, for iptables, and over in a second
        ("pushboat-builds.service", 2.5),  # root without a capability, for the kernel's groups of processes
    ],
)
def test_a_unit_is_exposed_no_more_than_its_work_demands(unit: str, most: float) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNITS / unit)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert level
    assert float(level[1]) <= most


@pytest.mark.parametrize(
    ("unit", "lines"),
    [
        ("pushboat.service", {"Restart=always", "RestartPreventExitStatus=78", "WatchdogSec=30s"}),
        ("pushboat-proxy.service", {"Restart=always", "RestartSec=100ms", "StartLimitIntervalSec=0"}),
        ("pushboat-builds.service", {"Restart=always"}),
    ],
)
def test_what_ends_is_brought_back(unit: str, lines: set[str]) -> None:
    assert lines <= set((UNITS / unit).read_text().splitlines())


def test_no_restart_of_the_firewall_takes_its_rules_away() -> None:
    lines = (UNITS / "pushboat-firewall.service").read_text().splitlines()
    assert [line for line in lines if line.startswith("ExecStop")] == []


def test_systemd_finds_nothing_to_complain_about(tmp_path: Path) -> None:
    for source in UNITS.glob("pushboat*.*"):
        if source.suffix != ".toml":
            text = source.read_text().replace("/opt/pushboat/current/bin/python", sys.executable)
            (tmp_path / source.name).write_text(text)
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True, check=False
    )
    # Units of the machine itself (docker.service …) may be told off as well; those are not ours to mend.
    ours = [line for line in done.stderr.splitlines() if "pushboat" in line]
    assert ours == []
