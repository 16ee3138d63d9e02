"""Shares of the processor as ``scripts/install`` gives them, for a bench on a machine where nothing is installed.

What serves (replicas and the containers of the reference, both proxies) is in one group with the weights of
``pushboat.slice`` and ``pushboat-proxy.service``. The engine, what it starts and the agent are in another, as systemd
has all services in ``system.slice``: else each of their processes would weigh as much as that whole slice. Visitors,
who ask from other machines in real life and only here want a part of the same processor, are in one that comes before
everything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from bench.measured import say
from scripts.house import processes
from scripts.house.engine import Engine

ROOT: Final = Path("/sys/fs/cgroup")
SLICE: Final = "pushboat_bench.slice"
SERVES: Final = 1000
"""Of ``pushboat.slice``; 100 is what everything else has together."""
PROXY: Final = 1000
"""Of ``pushboat-proxy.service`` in it; each replica has 100."""
SERVICES: Final = 100
"""Of ``system.slice``."""
VISITORS: Final = 10_000
_SERVICES: Final = "pushboat_bench_services"
_VISITORS: Final = "pushboat_bench_visitors"
_SHARES: Final = 10.24
"""Version 1 of control groups counts from 1024 where version 2 counts from 100."""


class Shares:
    """The groups, where they could be made."""

    def __init__(self, cpu: Path | None) -> None:
        """`cpu`: the tree with the CPU controller; `None` for no groups at all."""
        self._cpu = cpu
        self.slice = SLICE if cpu else ""
        """The setting ``replicas.control_group``."""
        self.parent = f"/{SLICE}" if cpu else ""
        """The same as the engine names it, for the containers of the reference."""

    def serves(self, proxy: str, pids: Iterable[int]) -> None:
        """Put a proxy's processes where that of an installed Pushboat is; what they start is born there."""
        self._put(f"{SLICE}/{proxy}", PROXY, pids)

    def visits(self, pids: Iterable[int]) -> None:
        """Put processes before everything."""
        self._put(_VISITORS, VISITORS, pids)

    def rests(self, pids: Iterable[int]) -> None:
        """Put processes, and all that they start, where services are."""
        self._put(_SERVICES, SERVICES, pids)

    def open(self) -> None:
        """Make the group of what serves, and put the engine into its own."""
        if self._cpu:
            _weigh(self._cpu, self._cpu / SLICE, SERVES)
            found = processes.naming("", programs=("dockerd", "containerd"))
            self.rests(process.pid for process in found)

    def close(self) -> None:
        """Let the engine go back, and remove what is empty then; it made groups of that name for other controllers."""
        while self._cpu and (pids := (self._cpu / _SERVICES / "cgroup.procs").read_text().split()):
            for pid in pids:
                with suppress(ProcessLookupError):
                    (self._cpu / "cgroup.procs").write_text(pid)
        for folder in sorted((*ROOT.glob(f"*/{SLICE}*/**/"), *ROOT.glob("**/pushboat_bench_*/")), reverse=True):
            with suppress(OSError):
                folder.rmdir()

    def _put(self, name: str, weight: int, pids: Iterable[int]) -> None:
        if not self._cpu:
            return
        group = self._cpu / name
        _weigh(group.parent, group, weight)
        for pid in pids:
            with suppress(ProcessLookupError):
                (group / "cgroup.procs").write_text(str(pid))


@contextmanager
def shares(*, is_wanted: bool) -> Iterator[Shares]:
    """Make the groups; without, where they are not `is_wanted`, or systemd or somebody without root would have to."""
    driver = Engine().call("GET", "/info")["CgroupDriver"]
    cpu = ROOT if (ROOT / "cgroup.controllers").exists() else ROOT / "cpu"
    can = driver == "cgroupfs" and cpu.is_dir() and os.access(cpu, os.W_OK)
    made = Shares(cpu if is_wanted and can else None)
    say("The CPU is shared out as scripts/install does it." if made.slice else "The CPU is shared out to all alike.")
    made.open()
    try:
        yield made
    finally:
        made.close()


def _weigh(above: Path, group: Path, weight: int) -> None:
    group.mkdir(exist_ok=True)
    if (above / "cgroup.subtree_control").exists():
        (above / "cgroup.subtree_control").write_text("+cpu")
        (group / "cpu.weight").write_text(str(weight))
    else:
        (group / "cpu.shares").write_text(str(round(weight * _SHARES)))
