"""Control groups for builds: one for each app's build, and one above them for all builds of this agent.

BuildKit inside the engine takes no limits: it ignores those of ``POST /build``, and its ``cgroupparent`` too. So each
step is found when it begins, by a mark in its environment, and its processes are moved into the build's own group; what
they start then is born there. BuildKit writes what a step will be (``config.json``, an OCI bundle) before it starts it:
there the mark stands, whatever the step does to its environment later, and the group that it begins in.

Plain files of the kernel's, version 1 (a tree for each controller) and version 2 (one for all); see
Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst. Needs root.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import structlog

log = structlog.get_logger(__name__)

ROOT: Final = Path("/sys/fs/cgroup")
PIDS: Final = 4_096
"""Processes and threads of one build: room for any compiler, none for a fork bomb."""
SHARES: Final = 512
"""Of the CPU when it is scarce, in version 1; a container has 1024. Apps go first."""
WEIGHT: Final = 50
"""The same in version 2, where a container has 100."""
PERIOD: Final = 100_000
"""Microseconds in which a build may use its share of CPU time; the kernel's own default."""

_LOCK: Final = threading.Lock()
"""Held while a group appears or goes with the one above it."""

_GONE: Final = (errno.ENOENT, errno.ESRCH, errno.ENODEV)
"""A process or a group ended meanwhile."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What a build, or all of them, may use."""

    memory_bytes: int = 0
    """0: no limit of its own."""
    cpus: float = 0.0
    """0: no limit of its own."""


class _Process(msgspec.Struct, frozen=True):
    env: list[str] = []


class _Linux(msgspec.Struct, frozen=True, rename={"cgroups_path": "cgroupsPath"}):
    cgroups_path: str = ""


class _Bundle(msgspec.Struct, frozen=True):
    process: _Process = _Process()
    linux: _Linux = _Linux()


class Trees:
    """Where the controllers are on this machine."""

    def __init__(self, root: Path = ROOT, *, inner: str = "") -> None:
        """`inner`: the group of version 2 below which we may make our own; of version 1 it is the root."""
        self.is_unified = (root / "cgroup.controllers").exists()
        if self.is_unified:
            self.roots: Sequence[Path] = (root,)
            self._above = [root / inner] if inner else [root]
        else:
            self.roots = [path for path in (root / name for name in ("memory", "cpu", "pids")) if path.is_dir()]
            self._above = list(self.roots)

    def make(self, *names: str) -> list[Path]:
        """Return the group of that path in each tree, made if it is not there."""
        made = []
        for above in self._above:
            folder = above
            for name in names:
                if self.is_unified:
                    _pass_on(folder)
                folder /= name
                folder.mkdir(exist_ok=True)
                if not self.is_unified and above.name == "memory":
                    with suppress(OSError):  # fixed once there are groups below, and as it should be then
                        write(folder / "memory.use_hierarchy", "1")
            made.append(folder)
        return made

    def bound(self, groups: Sequence[Path], bounds: Bounds) -> None:
        """Set the limits of a group; those that are not wanted are taken back."""
        quota = round(bounds.cpus * PERIOD)
        if self.is_unified:
            (group,) = groups
            (write if bounds.memory_bytes else _write_if_there)(group / "memory.max", str(bounds.memory_bytes or "max"))
            _write_if_there(group / "memory.swap.max", "0" if bounds.memory_bytes else "max")
            (write if quota else _write_if_there)(group / "cpu.max", f"{quota or 'max'} {PERIOD}")
            _write_if_there(group / "pids.max", str(PIDS))
            _write_if_there(group / "cpu.weight", str(WEIGHT))
            return
        for group in groups:
            if (group / "memory.limit_in_bytes").exists():
                _bound_memory(group, bounds.memory_bytes or -1)
            _write_if_there(group / "cpu.cfs_period_us", str(PERIOD))
            _write_if_there(group / "cpu.cfs_quota_us", str(quota or -1))
            _write_if_there(group / "cpu.shares", str(SHARES))
            _write_if_there(group / "pids.max", str(PIDS))

    def of_step(self, path: str) -> Iterator[Path]:
        """Yield the folders, one for each tree, that runc makes of a bundle's ``cgroupsPath``."""
        for root in self.roots:
            # What is no path, such as system.slice:docker:ID, is taken from where the engine runs or from the root.
            places = [path.lstrip("/")] if path.startswith("/") else [path, f"system.slice/{path}"]
            yield from (root / place for place in places if ".." not in place.split("/") and (root / place).is_dir())


class Build:
    """The group of one app's build. All calls are short and block."""

    def __init__(
        self, trees: Trees, *, above: str, all_builds: Bounds, app: str, bounds: Bounds, mark: str, executor: Path
    ) -> None:
        """`above`: the group of all builds. `executor`: BuildKit's folder of the steps that run, see `executor_of`."""
        self._trees = trees
        self._mark = mark
        self._executor = executor
        with _LOCK:
            trees.bound(trees.make(above), all_builds)
            self._groups = trees.make(above, app)
        trees.bound(self._groups, bounds)
        self._kills_before = self._kills()
        self._others: set[str] = set()
        """Steps of other builds."""

    def take(self) -> int:
        """Move the processes of this build's steps into its group; return how many. Call often."""
        moved = 0
        here = {path.name for path in self._executor.iterdir() if path.is_dir()}
        self._others &= here
        for name in here - self._others:
            bundle = _read(self._executor / name / "config.json")
            if bundle is None:
                continue
            if not any(self._mark in value for value in bundle.process.env):
                self._others.add(name)
                continue
            for source in self._trees.of_step(bundle.linux.cgroups_path):
                moved += self._move(source)
        return moved

    def is_over(self) -> bool:
        """Tell whether a process of it was killed for want of memory."""
        return self._kills() > self._kills_before

    def close(self) -> bool:
        """Remove the group, and the one above it after the last. Return false while something in it still ends."""
        for group in self._groups:
            with _LOCK:
                if _removed(group):
                    _removed(group.parent)  # Refused while there are others in it.
        return not any(group.exists() for group in self._groups)

    def _move(self, source: Path) -> int:
        target = next((group for group in self._groups if self._is_of_same_tree(group, source)), None)
        if target is None:
            return 0
        moved = 0
        for pid in _lines(source / "cgroup.procs"):
            try:
                write(target / "cgroup.procs", pid)
                moved += 1
            except OSError as error:
                if error.errno not in _GONE:
                    raise
        return moved

    def _is_of_same_tree(self, group: Path, source: Path) -> bool:
        return any(group.is_relative_to(root) and source.is_relative_to(root) for root in self._trees.roots)

    def _kills(self) -> int:
        found = 0
        for group in self._groups:
            for line in (*_lines(group / "memory.events"), *_lines(group / "memory.oom_control")):
                key, _, value = line.partition(" ")
                found += int(value) if key == "oom_kill" else 0
        return found


def executor_of(data_root: str) -> Path:
    """Return the folder in which BuildKit keeps the bundles of the steps that run, given the engine's own folder."""
    return Path(data_root) / "buildkit" / "executor"


def write(file: Path, text: str) -> None:
    """Write to a file of the kernel's: one call, and no other file is made."""
    with file.open("r+b" if file.exists() else "wb", buffering=0) as opened:
        opened.write(text.encode())


def _pass_on(group: Path) -> None:
    """Have the groups below one of version 2 take part in its controllers, those that it has.

    One that is bound to version 1, or kept from us by who runs the machine, is not among them: its name would have all
    refused. A limit that needs it fails then, and says so.
    """
    has = (group / "cgroup.controllers").read_text().split()
    if wanted := " ".join(f"+{name}" for name in ("memory", "cpu", "pids") if name in has):
        write(group / "cgroup.subtree_control", wanted)


def _write_if_there(file: Path, text: str) -> None:
    if file.exists():
        write(file, text)


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError as error:
        if error.errno not in (*_GONE, errno.EBUSY, errno.ENOTEMPTY):
            raise
        return error.errno in _GONE
    return True


def _bound_memory(group: Path, size: int) -> None:
    """Set both limits of version 1: memory, and memory with swap, of which the second is never the smaller one."""
    both = [group / "memory.limit_in_bytes", group / "memory.memsw.limit_in_bytes"]
    there = [file for file in both if file.exists()]
    for file in reversed(there):
        write(file, "-1")
    for file in there:
        write(file, str(size))


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise


def _read(file: Path) -> _Bundle | None:
    """Return what a step will be, or `None`: it is being written, or has ended."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Bundle)
    except (OSError, msgspec.MsgspecError):
        return None
