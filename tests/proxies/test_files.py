"""Files, processes and shared runs: what lies under the proxy and needs no HAProxy."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from pathlib import Path

import pytest

from agent.proxies.haproxy import files as haproxy_files
from agent.proxies.haproxy.binds import Bind
from agent.proxies.haproxy.config import Layout
from agent.proxies.haproxy.files import Files, replace
from agent.proxies.haproxy.listeners import who_listens
from agent.proxies.haproxy.plan import Maps
from agent.proxies.haproxy.process import Identity, end, ended, identify, recall
from agent.proxies.haproxy.rounds import Rounds

MAPS = Maps({"a.test": "slot0001"}, ((".b.test", "slot0002"),))


def test_what_is_written_is_held_and_read_back(tmp_path: Path) -> None:
    files = Files(Layout(tmp_path))
    files.prepare()
    files.write("backend slot0001\n    # app blog\n    balance leastconn\n", MAPS, generation=1)

    assert files.holds("backend slot0001\n    # app blog\n    balance leastconn\n", MAPS)
    assert not files.holds("", MAPS)
    assert not files.holds("backend slot0001\n    # app blog\n    balance leastconn\n", Maps())
    plan = files.read()
    assert plan.maps == MAPS
    assert plan.routes["blog"].domains == ("a.test",)  # type: ignore[index]


def test_a_late_write_does_not_undo_a_newer_one(tmp_path: Path) -> None:
    files = Files(Layout(tmp_path))
    files.prepare()
    files.write("new\n", MAPS, generation=2)

    files.write("old\n", Maps(), generation=1)

    assert files.holds("new\n", MAPS)


def test_the_configuration_is_on_disk_before_the_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(Layout(tmp_path))
    files.prepare()
    written: list[str] = []

    def note(path: Path, data: bytes) -> None:
        written.append(path.name)
        replace(path, data)

    monkeypatch.setattr(haproxy_files, "replace", note)
    files.write("new\n", MAPS, generation=1)
    files.write("newer\n", MAPS, generation=2)

    assert written == ["haproxy.cfg", "hosts.map", "wildcard.map", "haproxy.cfg"]


def test_an_interrupted_replacement_leaves_the_former_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    replace(path, b"former")

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        replace(path, b"half")

    assert path.read_bytes() == b"former"


def test_preparing_twice_changes_nothing(tmp_path: Path) -> None:
    files = Files(Layout(tmp_path))
    files.prepare()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.http")}
    files.prepare()

    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.http")} == before
    assert len(before) == 5


def test_a_listener_is_told_by_name_and_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        assert who_listens(Bind("0.0.0.0", port)).endswith(f"(process {os.getpid()})")

    assert who_listens(Bind("0.0.0.0", port)) == ""


async def test_a_process_is_known_by_more_than_its_number_and_its_end_is_seen() -> None:
    child = subprocess.Popen(["sleep", "60"])  # noqa: ASYNC220 - must not be waited for by the loop
    identity = identify(child.pid)
    assert identity is not None
    waiting = asyncio.create_task(ended(identity))
    await asyncio.sleep(0)
    assert not waiting.done()

    await end(identity)

    await asyncio.wait_for(waiting, 10)
    # Nobody has waited for it yet: a zombie is as good as gone.
    assert identify(child.pid) is None
    await ended(identity)
    child.wait()


async def test_a_number_that_another_process_has_now_counts_as_ended() -> None:
    mine = identify(os.getpid())
    assert mine is not None

    other = Identity(mine.pid, mine.started - 1, mine.boot)

    await ended(other)
    await end(other)


@pytest.mark.parametrize("content", [b"", b"nonsense", b'{"pid":1,"started":0,"boot":"x"}'])
def test_a_note_that_is_damaged_or_outdated_names_nobody(tmp_path: Path, content: bytes) -> None:
    layout = Layout(tmp_path)
    assert recall(layout) is None
    layout.identity.write_bytes(content)

    assert recall(layout) is None


async def test_callers_during_a_run_share_the_next() -> None:
    runs = 0
    gate = asyncio.Event()

    async def work() -> int:
        nonlocal runs
        runs += 1
        mine = runs
        await gate.wait()
        return mine

    rounds = Rounds(work)
    first = asyncio.create_task(rounds.next())
    while not runs:
        await asyncio.sleep(0)
    later = [asyncio.create_task(rounds.next()) for _ in range(10)]
    gate.set()

    assert await first == 1
    assert await asyncio.gather(*later) == [2] * 10
    assert runs == 2


async def test_a_failure_goes_to_all_who_share_the_run_and_a_cancelled_run_is_done_by_the_next() -> None:
    runs = 0
    begun, gate = asyncio.Event(), asyncio.Event()

    async def work() -> int:
        nonlocal runs
        runs += 1
        begun.set()
        await gate.wait()
        raise ValueError(str(runs))

    rounds = Rounds(work)
    first = asyncio.create_task(rounds.next())
    await begun.wait()
    later = [asyncio.create_task(rounds.next()) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    gate.set()

    outcomes = await asyncio.gather(first, *later, return_exceptions=True)

    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert [str(outcome) for outcome in outcomes[1:]] == ["2", "2", "2"]
