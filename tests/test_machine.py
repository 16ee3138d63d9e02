from __future__ import annotations

import asyncio
import os
import resource
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.machine import LEAST_FREE_BYTES, LEAST_OPEN_FILES, Machine, answers
from agent.proxies.haproxy.binds import parse_binds

GIB = 1 << 30


@dataclass
class Given:
    """What the system says of a machine."""

    total: int = 100 * GIB
    free: int = 50 * GIB
    inodes: int = 1_000
    free_inodes: int = 500
    open_files: int = LEAST_OPEN_FILES
    user: int = os.geteuid()


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    """A machine that has plenty of all, whatever this one has; a test takes some of it away."""
    given, statvfs = Given(), os.statvfs

    def free_inodes(path: Path) -> os.statvfs_result:
        fields = list(statvfs(path))
        fields[5:8] = given.inodes, given.free_inodes, given.free_inodes
        return os.statvfs_result(fields)

    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(given.total, given.total - given.free, given.free)
    )
    monkeypatch.setattr(os, "statvfs", free_inodes)
    monkeypatch.setattr(os, "geteuid", lambda: given.user)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (given.open_files, 1 << 20))
    return given


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


async def test_a_sound_machine_has_no_problems(given: Given, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert await Machine(folder, listens=[server.getsockname()]).problems() == []


@pytest.mark.parametrize(
    ("total", "enough"), [(10 * GIB, LEAST_FREE_BYTES), (100 * GIB, 5 * GIB)], ids=["a small disk", "a large one"]
)
async def test_a_disk_that_has_too_little_left_is_told(given: Given, folder: Path, total: int, enough: int) -> None:
    given.total, given.free = total, enough
    assert await Machine(folder, listens=[]).problems() == []
    given.free = enough - 1
    [(problem, hint)] = await Machine(folder, listens=[]).problems()
    assert problem == f"The disk of {folder} has only {(enough - 1) >> 20:,} MiB free."
    assert "docker system df" in hint


async def test_a_disk_without_inodes_is_told_and_one_that_counts_none_is_not(given: Given, folder: Path) -> None:
    given.free_inodes = 50
    assert await Machine(folder, listens=[]).problems() == []
    given.free_inodes = 49
    [(problem, hint)] = await Machine(folder, listens=[]).problems()
    assert problem == f"The file system of {folder} is nearly out of inodes." and hint
    given.inodes = given.free_inodes = 0  # As btrfs says.
    assert await Machine(folder, listens=[]).problems() == []


async def test_files_of_another_user_are_told(given: Given, folder: Path) -> None:
    (folder / "key").touch(mode=0o600)
    mine = given.user
    given.user = mine + 1
    assert await Machine(folder, listens=[]).problems() == [
        (f"{path} belongs to another user.", f"Give it back: chown {mine + 1} {path}")
        for path in (folder, folder / "key")
    ]


async def test_too_few_open_files_are_told(given: Given, folder: Path) -> None:
    given.open_files = LEAST_OPEN_FILES - 1
    [(problem, hint)] = await Machine(folder, listens=[]).problems()
    assert problem == f"The agent may open only {LEAST_OPEN_FILES - 1} files."
    assert f"LimitNOFILE) to {LEAST_OPEN_FILES}" in hint


async def test_an_exposed_secret_a_clock_that_went_back_and_a_silent_port_are_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "key").write_bytes(b"secret")
    (tmp_path / "key").chmod(0o644)
    (tmp_path / "pushboat.db").touch(mode=0o600)
    tomorrow = (tmp_path / "key").stat().st_mtime + 86_400
    os.utime(tmp_path / "pushboat.db", (tomorrow, tomorrow))
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = server.getsockname()
    found = await Machine(tmp_path, listens=[silent]).problems()
    told = " ".join(problem for problem, _ in found)
    assert f"Others may read {tmp_path / 'key'}" in told
    assert "clock has gone back" in told
    assert f"Nothing answers at 127.0.0.1:{silent[1]}" in told
    assert all(hint for _, hint in found)


@pytest.mark.parametrize(
    ("bind", "knock"), [("[::]", "::1"), ("[::1]", "::1"), ("*", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")]
)
async def test_whoever_listens_at_an_address_of_any_spelling_is_found(bind: str, knock: str) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), knock, 0)
    async with server:
        (found,) = parse_binds([f"{bind}:{server.sockets[0].getsockname()[1]}"])
        assert await answers(found.host, found.port)
    assert not await answers(found.host, found.port)
