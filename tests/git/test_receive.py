"""git's services at the port: what a client can do to them while they run. With both event loops: pipes differ."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import Unavailable, UserError
from agent.git import receive as receiving
from agent.git.answer import HeldAnswer
from agent.git.command_list import CommandList
from agent.git.receive import Judge, PushLimits, Received, Settle, receive
from agent.git.repos import GitRepos
from proto.names import AppId
from tests.support.git_client import Client

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


async def nothing_to_settle(commands: CommandList) -> None:
    """Let every push stand."""


def push(
    factory: Callable[[], asyncio.AbstractEventLoop],
    folder: Path,
    terminal: FakeTerminal,
    *,
    judge: Judge = nothing_to_settle,
    settle: Settle = nothing_to_settle,
    max_bytes: int = 1 << 30,
) -> Received:
    """Serve one push on a loop of that kind; no quarantine and no process may be left."""

    async def serve() -> Received:
        repos = GitRepos(folder)
        await repos.create(APP)
        async with asyncio.timeout(20):
            limits = PushLimits(max_bytes=max_bytes)
            return await receive(repos.path(APP), terminal, protocol="", judge=judge, settle=settle, limits=limits)

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
    async def judge(commands: CommandList) -> None:
        raise UserError("no.way", "No.")

    terminal = FakeTerminal(PUSH, b"PACK")
    with pytest.raises(UserError, match=r"No\."):
        push(factory, tmp_path, terminal, judge=judge)
    assert b"ng refs/heads/main refused: no.way" in terminal.out


@pytest.mark.slow
@pytest.mark.parametrize("factory", LOOPS)
@pytest.mark.parametrize("is_banded", [True, False], ids=["side-band", "plain"])
def test_what_is_refused_after_git_took_it_is_put_back_and_told_as_refused(
    factory: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path, is_banded: bool
) -> None:
    client = Client(tmp_path / "client.git")
    old, new = client.commit({"a": "1"}), client.commit({"a": "2"})
    repos = GitRepos(tmp_path / "repos")
    asyncio.run(repos.create(APP))
    client.git("push", "-q", str(repos.path(APP)), f"{old}:refs/heads/main", f"{old}:refs/heads/gone")
    names = [f"refs/heads/{'x' * 100}{number}" for number in range(900)]
    updates = [(old, new, "refs/heads/main"), (old, NOTHING, "refs/heads/gone")]
    updates += [(NOTHING, new, name) for name in (*names, "refs/heads/gone/deeper", "refs/tags/v1")]
    capabilities = "report-status side-band-64k" if is_banded else "report-status"
    first, *others = [" ".join(update) for update in updates]
    pack = client.git("pack-objects", "--stdout", "--revs", "-q", data=f"{new}\n".encode())
    sent = packet(f"{first}\0 {capabilities}\n") + b"".join(packet(f"{line}\n") for line in others) + b"0000" + pack
    moved: list[str | None] = []

    async def settle(commands: CommandList) -> None:
        moved.append(await repos.tip(APP, "main"))
        raise UserError("no.way", "No.")

    terminal = FakeTerminal(sent)
    with pytest.raises(UserError, match=r"No\."):
        push(factory, tmp_path / "repos", terminal, settle=settle)
    assert moved == [new]
    assert terminal.out.count(b"refused: no.way") == len(updates)
    assert b"ok refs" not in terminal.out
    assert asyncio.run(repos.branches(APP)) == ["gone", "main"]
    assert asyncio.run(repos.tip(APP, "main")) == old


def test_what_a_git_moved_that_was_killed_before_it_had_ended_is_put_back_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(tmp_path / "client.git")
    commit = client.commit({"a": "1"})
    pack = client.git("pack-objects", "--stdout", "--revs", "-q", data=f"{commit}\n".encode())
    terminal = FakeTerminal(packet(f"{NOTHING} {commit} refs/heads/main\0 report-status\n") + b"0000" + pack)
    real = receiving.receive_pack

    def mortal(git_dir: Path, *, max_bytes: int) -> list[str]:
        # With the locks that it had, which keep whoever comes next from the refs, us too.
        script = f'"$@"; touch {git_dir}/refs/heads/main.lock {git_dir}/HEAD.lock; kill -KILL $$'
        return ["bash", "-c", script, "bash", *real(git_dir, max_bytes=max_bytes)]

    monkeypatch.setattr(receiving, "receive_pack", mortal)
    with pytest.raises(Unavailable, match="Git was killed"):
        push(asyncio.new_event_loop, tmp_path / "repos", terminal)
    assert list((tmp_path / "repos").rglob("*.lock")) == []
    assert b"ng refs/heads/main refused: git.ended" in terminal.out
    assert b"ok refs" not in terminal.out
    assert asyncio.run(GitRepos(tmp_path / "repos").branches(APP)) == []


def test_a_repository_that_goes_while_a_push_is_settled_is_no_bug(tmp_path: Path) -> None:
    client = Client(tmp_path / "client.git")
    commit = client.commit({"a": "1"})
    pack = client.git("pack-objects", "--stdout", "--revs", "-q", data=f"{commit}\n".encode())
    terminal = FakeTerminal(packet(f"{NOTHING} {commit} refs/heads/main\0 report-status\n") + b"0000" + pack)

    async def settle(commands: CommandList) -> None:
        await GitRepos(tmp_path / "repos").remove(APP)
        raise UserError("app.destroyed", "It was destroyed while you pushed.")

    with pytest.raises(UserError, match="destroyed"):
        push(asyncio.new_event_loop, tmp_path / "repos", terminal, settle=settle)
    assert b"refused: app.destroyed" in terminal.out


def test_a_push_that_cannot_be_put_back_is_refused_for_its_own_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Client(tmp_path / "client.git")
    commit = client.commit({"a": "1"})
    pack = client.git("pack-objects", "--stdout", "--revs", "-q", data=f"{commit}\n".encode())
    terminal = FakeTerminal(packet(f"{NOTHING} {commit} refs/heads/main\0 report-status\n") + b"0000" + pack)

    async def settle(commands: CommandList) -> None:
        (tmp_path / "repos" / APP / "refs" / "heads" / "main.lock").touch()
        raise UserError("disk.full", "The disk is full.")

    with pytest.raises(UserError, match="The disk is full"):
        push(asyncio.new_event_loop, tmp_path / "repos", terminal, settle=settle)
    assert b"refused: disk.full" in terminal.out and b"ok refs" not in terminal.out
    assert "push.not-put-back" in capsys.readouterr().out


@pytest.mark.parametrize("factory", LOOPS)
def test_the_client_is_told_only_after_the_push_was_settled(
    factory: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    client = Client(tmp_path / "client.git")
    commit = client.commit({"a": "1"})
    pack = client.git("pack-objects", "--stdout", "--revs", "-q", data=f"{commit}\n".encode())
    line = f"{NOTHING} {commit} refs/heads/main\0 report-status side-band-64k\n"
    terminal = FakeTerminal(packet(line) + b"0000" + pack)
    before: list[bytes] = []

    async def settle(commands: CommandList) -> None:
        before.append(bytes(terminal.out))

    push(factory, tmp_path / "repos", terminal, settle=settle)
    assert b"ok refs/heads/main" not in before[0] and b"unpack ok" not in before[0]
    assert b"unpack ok" in terminal.out and b"ok refs/heads/main" in terminal.out


@given(st.lists(st.integers(1, 40), max_size=40))
def test_however_the_answer_is_cut_the_greeting_and_progress_pass_and_the_verdict_is_held(cuts: list[int]) -> None:
    greeting = packet("version 1\n") + packet(f"{SOMETHING} refs/heads/main\0 report-status\n") + b"0000"
    progress = [packet("\2Unpacking"), packet("\2."), packet("\3bad")]
    verdict = [packet("\1unpack ok\n"), packet("\1ok refs/heads/main\n"), b"0000"]
    said = greeting + progress[0] + verdict[0] + progress[1] + verdict[1] + progress[2] + verdict[2]
    answer, passed, position = HeldAnswer(), b"", 0
    for size in [*cuts, len(said)]:
        passed += answer.feed(said[position : position + size])
        position += size
    assert passed == greeting + b"".join(progress)
    assert answer.release() == b"".join(verdict)
    assert answer.release() == b""


@pytest.mark.parametrize("factory", LOOPS)
def test_the_limit_counts_what_is_forwarded(factory: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path) -> None:
    terminal = FakeTerminal(PUSH, b"PACK\0\0\0\2\0\0\0\5" + b"x" * 100_000, b"", stays=False)
    with pytest.raises(UserError, match="larger than"):
        push(factory, tmp_path, terminal, max_bytes=50_000)
    assert b"refused: push.too-large" in terminal.out


def test_a_client_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "STALL_SECONDS", 0.05)
    monkeypatch.setattr(receiving, "DRAIN_SECONDS", 0.05)
    with pytest.raises(UserError, match="Nothing was sent"):
        push(asyncio.new_event_loop, tmp_path, FakeTerminal(PUSH, stays=True))


def test_a_git_that_does_not_finish_is_given_up_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "FINISH_SECONDS", 0.0)
    with pytest.raises(Unavailable, match="Git did not finish within"):
        push(asyncio.new_event_loop, tmp_path, FakeTerminal(PUSH, b"PACK\0\0\0\2\0\0\0\5", b"", stays=False))
    assert list((tmp_path / APP / "objects").glob("tmp_objdir-*")) == []


def test_a_push_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    async def serve() -> None:
        repos = GitRepos(tmp_path)
        await repos.create(APP)
        terminal = FakeTerminal(PUSH, b"PACK\0\0\0\2\0\0\0\5", stays=True)
        serving = receive(
            repos.path(APP),
            terminal,
            protocol="",
            judge=nothing_to_settle,
            settle=nothing_to_settle,
            limits=PushLimits(),
        )
        task = asyncio.create_task(serving)
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
        serving = receiving._serving(["true"], FakeTerminal(), protocol="", outlives_client=True, is_held=False)
        async with asyncio.timeout(20), serving as git:
            await git._process.wait()
            return [await git.feed(b"x" * 1_000_000) for _ in range(5)]

    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(serve())[-1] is False
