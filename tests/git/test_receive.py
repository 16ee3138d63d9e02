"""git's services at the port: what a client can do to them while they run. With both event loops: pipes differ."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from agent.errors import UserError
from agent.git import receive as receiving
from agent.git.command_list import CommandList
from agent.git.receive import Received, receive
from agent.git.repos import GitRepos
from proto.names import AppId

APP = AppId("aaaaaaaaaaaa")
NOTHING, SOMETHING = "0" * 40, "1" * 40
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


def packet(line: str) -> bytes:
    return f"{len(line) + 4:04x}{line}".encode()


PUSH = packet(f"{NOTHING} {SOMETHING} refs/heads/main\0 report-status side-band-64k\n") + b"0000"


class FakeTerminal:
    """A client that sends the given pieces, and then stays or leaves."""

    is_tty = False
    term = ""

    def __init__(self, *pieces: bytes, stays: bool = False, repeats: bool = False) -> None:
        self.out = bytearray()
        self.err = bytearray()
        self.is_deaf = False
        self._pieces = list(pieces)
        self._stays = stays
        self._repeats = repeats

    def size(self) -> tuple[int, int]:
        return 80, 24

    async def resized(self) -> tuple[int, int]:
        return await asyncio.get_running_loop().create_future()

    async def read(self, size: int = 65_536) -> bytes:
        await asyncio.sleep(0)
        if self._repeats and len(self._pieces) == 1:
            return self._pieces[0]
        if not self._pieces and self._stays:
            await asyncio.get_running_loop().create_future()
        return self._pieces.pop(0) if self._pieces else b""

    async def write(self, data: bytes) -> None:
        if self.is_deaf:
            raise ConnectionResetError
        self.out += data

    async def write_error(self, data: bytes) -> None:
        if self.is_deaf:
            raise ConnectionResetError
        self.err += data

    async def gone(self) -> None:
        await asyncio.get_running_loop().create_future()


def push(
    factory: Callable[[], asyncio.AbstractEventLoop],
    folder: Path,
    terminal: FakeTerminal,
    *,
    judge: Callable[[CommandList], None] = lambda commands: None,
    max_bytes: int = 1 << 30,
) -> Received:
    """Serve one push on a loop of that kind; no quarantine and no process may be left."""

    async def serve() -> Received:
        repos = GitRepos(folder)
        await repos.create(APP)
        async with asyncio.timeout(20):
            return await receive(repos.path(APP), terminal, protocol="", judge=judge, max_bytes=max_bytes)

    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(serve())
    finally:
        assert list((folder / APP / "objects").glob("tmp_objdir-*")) == []


@pytest.mark.parametrize("factory", LOOPS)
def test_a_git_that_ends_early_ends_the_push_though_the_client_goes_on_sending(
    factory: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    terminal = FakeTerminal(PUSH, b"no pack at all" * 5_000, repeats=True)
    received = push(factory, tmp_path, terminal)
    assert received.commands is not None
    assert b"ng refs/heads/main" in terminal.out


@pytest.mark.parametrize("factory", LOOPS)
def test_a_pack_that_breaks_off_is_refused_by_git(
    factory: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    terminal = FakeTerminal(PUSH, b"PACK\0\0\0\2\0\0\0\5abc")
    push(factory, tmp_path, terminal)
    assert b"ng refs/heads/main" in terminal.out


@pytest.mark.parametrize("factory", LOOPS)
def test_a_client_who_reads_nothing_any_more_does_not_stop_git(
    factory: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    terminal = FakeTerminal(PUSH, b"PACK\0\0\0\2\0\0\0\5abc")
    terminal.is_deaf = True
    assert push(factory, tmp_path, terminal).commands is not None


@pytest.mark.parametrize("factory", LOOPS)
def test_a_client_who_leaves_without_a_word_wants_nothing(
    factory: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    assert push(factory, tmp_path, FakeTerminal()).commands is None


@pytest.mark.parametrize("factory", LOOPS)
def test_what_is_judged_never_reaches_git(factory: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path) -> None:
    def judge(commands: CommandList) -> None:
        raise UserError("no.way", "No.")

    terminal = FakeTerminal(PUSH, b"PACK")
    with pytest.raises(UserError, match=r"No\."):
        push(factory, tmp_path, terminal, judge=judge)
    assert b"ng refs/heads/main refused: no.way" in terminal.out


@pytest.mark.parametrize("factory", LOOPS)
def test_the_limit_counts_what_is_forwarded(factory: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path) -> None:
    terminal = FakeTerminal(PUSH, b"PACK\0\0\0\2\0\0\0\5" + b"x" * 100_000, b"", stays=False)
    with pytest.raises(UserError, match="larger than"):
        push(factory, tmp_path, terminal, max_bytes=50_000)
    assert b"refused: push.too-large" in terminal.out


def test_a_client_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "STALL_SECONDS", 0.05)
    with pytest.raises(UserError, match="Nothing was sent"):
        push(asyncio.new_event_loop, tmp_path, FakeTerminal(PUSH, stays=True))


def test_a_push_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    async def serve() -> None:
        repos = GitRepos(tmp_path)
        await repos.create(APP)
        terminal = FakeTerminal(PUSH, b"PACK\0\0\0\2\0\0\0\5", stays=True)
        task = asyncio.create_task(receive(repos.path(APP), terminal, protocol="", judge=lambda commands: None))
        while not list((tmp_path / APP / "objects").glob("tmp_objdir-*")):
            assert not task.done()
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()

    asyncio.run(serve())
    assert list((tmp_path / APP / "objects").glob("tmp_objdir-*")) == []


@pytest.mark.parametrize("factory", LOOPS)
def test_input_for_a_git_that_has_ended_is_dropped(
    factory: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    async def serve() -> list[bool]:
        serving = receiving._serving(["true"], FakeTerminal(), protocol="", outlives_client=True)
        async with asyncio.timeout(20), serving as git:
            await git._process.wait()
            return [await git.feed(b"x" * 1_000_000) for _ in range(5)]

    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(serve())[-1] is False
