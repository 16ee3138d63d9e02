"""Groups of builds in both versions of control groups, on folders that look like the kernel's."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.docker.build_cgroups import Bounds, Build, Trees, write
from agent.docker.build_limits import BuildLimits, Held
from proto.names import AppId
from tests.support.scripted_engine import always, http, scripted

MARK = "0123456789abcdef01234567.build.invalid"
FILES_1 = {
    "memory": ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control"),
    "cpu": ("cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.shares"),
    "pids": ("pids.max",),
}
CONTROLLERS = "cpuset cpu io memory pids"
FILES_2 = ("memory.max", "memory.swap.max", "cpu.max", "cpu.weight", "pids.max", "cgroup.controllers")


class Kernel:
    """A folder in place of /sys/fs/cgroup, and one of BuildKit's in place of its executor's."""

    def __init__(self, folder: Path, *, version: int) -> None:
        self.version = version
        self.root, self.executor = folder / "cgroup", folder / "executor"
        self.root.mkdir()
        self.executor.mkdir()
        if version == 2:
            (self.root / "cgroup.controllers").write_text(CONTROLLERS)
        else:
            for name in FILES_1:
                (self.root / name).mkdir()

    @property
    def trees(self) -> list[Path]:
        return [self.root] if self.version == 2 else [self.root / name for name in FILES_1]

    def step(self, name: str, *, env: str, path: str = "", pids: str = "11\n12\n") -> None:
        """Have a step that BuildKit has just begun."""
        place = path or f"/docker/buildkit/{name}"
        bundle = {"process": {"env": ["PATH=/bin", env]}, "linux": {"cgroupsPath": place, "resources": {}}}
        (self.executor / name).mkdir()
        (self.executor / name / "config.json").write_text(json.dumps(bundle))
        for tree in self.trees:
            group = tree / place.lstrip("/") if place.startswith("/") else tree / "system.slice" / place
            group.mkdir(parents=True)
            (group / "cgroup.procs").write_text(pids)

    def build(self, **bounds: float) -> Build:
        trees = Trees(self.root)
        # The kernel makes the files of a group with it.
        for tree in self.trees:
            for group in (tree / "pushboat-builds-i", tree / "pushboat-builds-i" / "ablog"):
                group.mkdir(exist_ok=True)
                for file in FILES_2 if self.version == 2 else FILES_1[tree.name]:
                    (group / file).write_text(CONTROLLERS if file == "cgroup.controllers" else "")
        everything = Bounds(memory_bytes=1 << 30)
        return Build(
            trees,
            above="pushboat-builds-i",
            all_builds=everything,
            app="ablog",
            bounds=Bounds(**bounds),  # type: ignore[arg-type]
            mark=MARK,
            executor=self.executor,
        )

    def read(self, file: str, *, tree: str = "", app: str = "ablog") -> str:
        return (self.root / tree / "pushboat-builds-i" / app / file).read_text()


def test_version_2_gives_a_build_its_limits_and_moves_its_steps(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, version=2)
    kernel.step("one", env=f"NO_PROXY={MARK}")
    kernel.step("two", env=f"no_proxy=a.example,{MARK}", path="system.slice:docker:two", pids="21\n")
    kernel.step("strange", env="NO_PROXY=another.build.invalid")
    build = kernel.build(memory_bytes=64 << 20, cpus=0.5)
    assert kernel.read("memory.max") == str(64 << 20) and kernel.read("cpu.max") == "50000 100000"
    assert kernel.read("pids.max") == "4096"
    assert kernel.read("memory.max", app="") == str(1 << 30) and kernel.read("cpu.max", app="") == "max 100000"
    assert build.take() == 3
    # The kernel takes a number at a time; a plain file has the last.
    assert kernel.read("cgroup.procs") in ("12", "21")
    assert not build.is_over()
    (kernel.root / "pushboat-builds-i" / "ablog" / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    assert build.is_over()


def test_controllers_are_passed_on_to_the_groups_of_builds(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, version=2)
    kernel.build()
    assert (kernel.root / "cgroup.subtree_control").read_text() == "+memory +cpu +pids"
    (kernel.root / "cgroup.subtree_control").unlink()
    (kernel.root / "cgroup.controllers").write_text("cpuset pids")
    kernel.build()
    assert (kernel.root / "cgroup.subtree_control").read_text() == "+pids"


@contextmanager
def real_version_2(folder: Path) -> Iterator[Path]:
    """The kernel's own tree, which a mount shows wherever it is asked for."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "cgroup2", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.real
def test_the_kernel_moves_a_step_into_the_group_of_its_build_and_lets_go_of_that(tmp_path: Path) -> None:
    """On a machine whose controllers are bound to version 1 the tree has no limits; all else is as anywhere."""
    above = f"pushboat-builds-{os.getpid()}"
    executor = tmp_path / "executor"
    (executor / "one").mkdir(parents=True)
    with real_version_2(tmp_path / "cgroup") as root, subprocess.Popen(["sleep", "1000"]) as step:
        place = root / f"{above}-step"
        place.mkdir()
        try:
            write(place / "cgroup.procs", str(step.pid))
            bundle = {"process": {"env": [f"NO_PROXY={MARK}"]}, "linux": {"cgroupsPath": f"/{place.name}"}}
            (executor / "one" / "config.json").write_text(json.dumps(bundle))
            has_memory = "memory" in (root / "cgroup.controllers").read_text().split()
            bounds = Bounds(memory_bytes=64 << 20 if has_memory else 0)
            build = Build(
                Trees(root), above=above, all_builds=Bounds(), app="ablog", bounds=bounds, mark=MARK, executor=executor
            )
            assert build.take() == 1
            assert f"0::/{above}/ablog\n" in Path(f"/proc/{step.pid}/cgroup").read_text()
            assert not build.is_over() and not build.close()
            if has_memory:
                assert (root / above / "ablog" / "memory.max").read_text() == f"{64 << 20}\n"
            else:
                with pytest.raises(OSError, match=r"memory\.max"):
                    Trees(root).bound([root / above], Bounds(memory_bytes=64 << 20))
        finally:
            step.kill()
            step.wait()
            place.rmdir()
        assert build.close()
        assert not (root / above).exists()


def test_version_1_has_a_group_in_each_tree(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, version=1)
    kernel.step("one", env=f"NO_PROXY={MARK}", pids="11\n")
    build = kernel.build(memory_bytes=64 << 20, cpus=1.5)
    assert kernel.read("memory.limit_in_bytes", tree="memory").endswith(str(64 << 20))
    assert kernel.read("memory.memsw.limit_in_bytes", tree="memory").endswith(str(64 << 20))
    assert kernel.read("cpu.cfs_quota_us", tree="cpu") == "150000" and kernel.read("pids.max", tree="pids") == "4096"
    assert build.take() == 3
    assert [kernel.read("cgroup.procs", tree=tree) for tree in FILES_1] == ["11", "11", "11"]
    (kernel.root / "memory/pushboat-builds-i/ablog/memory.oom_control").write_text("under_oom 0\noom_kill 2\n")
    assert build.is_over()


def test_a_kill_of_an_earlier_build_is_not_this_one_s(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, version=2)
    kernel.build()
    (kernel.root / "pushboat-builds-i" / "ablog" / "memory.events").write_text("oom_kill 3\n")
    assert not kernel.build().is_over()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"process": {"env": 1}}'])
def test_a_step_that_is_being_written_is_looked_at_again(tmp_path: Path, text: str) -> None:
    kernel = Kernel(tmp_path, version=2)
    build = kernel.build()
    kernel.step("one", env=f"NO_PROXY={MARK}", pids="11\n")
    config = kernel.executor / "one" / "config.json"
    whole = config.read_text()
    config.write_text(text)
    assert build.take() == 0
    config.write_text(whole)
    assert build.take() == 1


def test_a_step_that_names_a_group_outside_moves_nothing(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, version=2)
    build = kernel.build()
    kernel.step("one", env=f"NO_PROXY={MARK}")
    (kernel.executor / "one" / "config.json").write_text(
        json.dumps({"process": {"env": [MARK]}, "linux": {"cgroupsPath": "/../../etc"}})
    )
    assert build.take() == 0


def test_the_mark_keeps_what_the_app_says_of_its_proxies() -> None:
    held = Held(mark=MARK)
    assert held.marked({}, dockerfile=b"FROM x\n") == {"NO_PROXY": MARK}
    assert held.marked({"NO_PROXY": "a.example"}, dockerfile=b"") == {"NO_PROXY": f"a.example,{MARK}"}
    assert held.marked({}, dockerfile=b"FROM x\nENV no_proxy=a.example\n") == {"FTP_PROXY": MARK}
    assert Held(mark=MARK, problem="no rights").marked({"A": "1"}, dockerfile=b"") == {"A": "1"}


async def test_doctor_says_where_the_engine_runs_steps_that_cannot_be_held(tmp_path: Path) -> None:
    said = "with its containerd image store it does not"
    info = json.dumps({"DockerRootDir": str(tmp_path / "root"), "Driver": "overlayfs"}).encode()
    async with scripted(tmp_path, always(http(200, info))) as (engine, _):
        limits = BuildLimits(engine, memory_bytes=1 << 30, is_root=True)
        ((what, hint),) = await limits.problems()
        assert what.startswith("Builds are not held to limits: ") and said in what and "docs/builders.md" in hint
        async with limits.hold(AppId("ablog"), Bounds(memory_bytes=64 << 20)) as held:
            assert said in held.problem
        (tmp_path / "root" / "buildkit" / "executor").mkdir(parents=True)
        assert await limits.problems() == []
