"""What the programs of git that a push runs say and do, asked of the fake and of real git alike.

The same words and packs go in by the same command lines. What each says in a report for people is its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from agent.git.command_list import NOTHING
from agent.git.environment import command, environment, receive_pack
from agent.git.repos import GitRepos
from proto.names import AppId
from tests.fakes.git import FakeGit, Pipes, packed, packet
from tests.fakes.source import FakeRepos
from tests.support.git_client import Client

APP = AppId("acontracttest")
ASKED = "report-status side-band-64k delete-refs"
REPORT = b"\1"
"""The band that a report comes by; others are for people."""


class Said(NamedTuple):
    """How a program ended."""

    status: int
    out: bytes


class Made(NamedTuple):
    """A commit that a client has, and the pack that takes it somewhere."""

    id: str
    pack: bytes


class Stage(Protocol):
    """An app's repository with git's programs, and a client who has commits."""

    folder: Path

    async def run(self, words: Sequence[str], data: bytes) -> Said:
        """Run a program to its end on this input."""
        ...

    def commit(self, text: str) -> Made:
        """Return a new commit without a parent."""
        ...


class FakeStage:
    """Fulfils `Stage` without git."""

    def __init__(self) -> None:
        self.folder = Path("/repos") / APP
        self._git = FakeGit(FakeRepos())
        self._count = 0

    async def run(self, words: Sequence[str], data: bytes) -> Said:
        stdin, out = asyncio.StreamReader(), bytearray()
        stdin.feed_data(data)
        stdin.feed_eof()
        status = await self._git.run(words, Pipes(stdin, out.extend))
        return Said(status, bytes(out))

    def commit(self, text: str) -> Made:
        self._count += 1
        return Made(f"{self._count:040x}", packed({"a": text}))


class GitStage:
    """Fulfils `Stage` with real git."""

    def __init__(self, folder: Path) -> None:
        self.repos = GitRepos(folder / "repos")
        self.folder = self.repos.path(APP)
        self._client = Client(folder / "client.git")

    async def run(self, words: Sequence[str], data: bytes) -> Said:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe, stderr=pipe, env=environment())
        out, _ = await process.communicate(data)
        assert process.returncode is not None
        return Said(process.returncode, out)

    def commit(self, text: str) -> Made:
        commit = self._client.commit({"a": text})
        return Made(commit, self._client.git("pack-objects", "-q", "--revs", "--stdout", data=f"{commit}\n".encode()))


@pytest.fixture(params=["fake", "git"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Stage:
    if request.param == "fake":
        return FakeStage()
    stage = GitStage(tmp_path)
    await stage.repos.create(APP)
    return stage


class Answer(NamedTuple):
    """What came of a push."""

    status: int
    is_unpacked: bool
    taken: dict[str, bool]
    """Of each ref, whether it was moved, by the report."""
    advertised: dict[str, str]
    refs: dict[str, str]
    """As they are afterwards."""


async def push(stage: Stage, *updates: tuple[str, str, str], pack: bytes = b"") -> Answer:
    """Ask for these updates (old, new, ref)."""
    lines = [f"{old} {new} {ref}" for old, new, ref in updates]
    words = b"".join(packet(f"{line}\0{ASKED}\n".encode()) for line in lines[:1])
    words += b"".join(packet(f"{line}\n".encode()) for line in lines[1:])
    said = await stage.run(receive_pack(stage.folder), words + b"0000" + pack)
    packets = list(packets_in(said.out))
    end = packets.index(b"")
    told = packets_in(b"".join(data[1:] for data in packets[end + 1 :] if data[:1] == REPORT))
    report = [line.decode().split() for line in told if line]
    greeted = (line.partition(b"\0")[0].decode().split() for line in packets[:end])
    return Answer(
        said.status,
        ["unpack", "ok"] in report,
        {words[1]: words[0] == "ok" for words in report if words[0] != "unpack"},
        {ref: oid for oid, ref in greeted},
        await refs(stage),
    )


def packets_in(data: bytes) -> Iterator[bytes]:
    """Yield the packets of git's protocol, the empty one where it flushes (gitprotocol-common(5))."""
    while data:
        size = max(int(data[:4], 16), 4)
        yield data[4:size]
        data = data[size:]


async def refs(stage: Stage) -> dict[str, str]:
    """Return where each ref is, by ``for-each-ref``."""
    said = await stage.run(command(stage.folder, "for-each-ref", "--format=%(objectname) %(refname)"), b"")
    assert said.status == 0
    return {ref: oid for oid, ref in (line.split(" ") for line in said.out.decode().splitlines())}


async def put_back(stage: Stage, *updates: tuple[str, str, str]) -> int:
    """Have ``update-ref`` move refs (ref, new, old); return its status."""
    data = "".join(f"update {ref}\0{new}\0{old}\0" for ref, new, old in updates).encode()
    return (await stage.run(command(stage.folder, "update-ref", "-z", "--stdin"), data)).status


MAIN, DEV = "refs/heads/main", "refs/heads/dev"


async def test_a_new_branch_is_taken_and_told_to_the_next_who_comes(stage: Stage) -> None:
    one = stage.commit("1")
    answer = await push(stage, (NOTHING, one.id, MAIN), pack=one.pack)
    assert answer == Answer(0, True, {MAIN: True}, {"capabilities^{}": NOTHING}, {MAIN: one.id})
    assert await push(stage) == Answer(0, False, {}, {MAIN: one.id}, {MAIN: one.id}), "who wants nothing after all"


async def test_a_branch_moves_from_where_it_is(stage: Stage) -> None:
    one, two = stage.commit("1"), stage.commit("2")
    await push(stage, (NOTHING, one.id, MAIN), pack=one.pack)
    answer = await push(stage, (one.id, two.id, MAIN), pack=two.pack)
    assert answer == Answer(0, True, {MAIN: True}, {MAIN: one.id}, {MAIN: two.id})


async def test_a_branch_that_is_elsewhere_is_refused_and_others_of_the_push_are_taken(stage: Stage) -> None:
    one, two = stage.commit("1"), stage.commit("2")
    await push(stage, (NOTHING, one.id, MAIN), pack=one.pack)
    for old in (NOTHING, two.id):
        answer = await push(stage, (old, two.id, MAIN), pack=two.pack)
        assert (answer.is_unpacked, answer.taken, answer.refs) == (True, {MAIN: False}, {MAIN: one.id})
        assert answer.status == 0
    answer = await push(stage, (NOTHING, two.id, MAIN), (NOTHING, two.id, DEV), pack=two.pack)
    assert (answer.taken, answer.refs) == ({MAIN: False, DEV: True}, {MAIN: one.id, DEV: two.id})


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.95])
async def test_a_pack_that_breaks_off_moves_nothing(stage: Stage, share: float) -> None:
    one = stage.commit("1")
    answer = await push(stage, (NOTHING, one.id, MAIN), pack=one.pack[: int(len(one.pack) * share)])
    assert (answer.is_unpacked, answer.taken, answer.refs) == (False, {MAIN: False}, {})
    assert answer.status == 0


async def test_a_branch_is_deleted_without_a_pack_if_it_is_where_it_should_be(stage: Stage) -> None:
    one, two = stage.commit("1"), stage.commit("2")
    await push(stage, (NOTHING, two.id, MAIN), pack=two.pack)
    await push(stage, (two.id, one.id, MAIN), (NOTHING, one.id, DEV), pack=one.pack)
    # Of a commit that it has: where it knows nothing of the old one, git takes the branch for damaged and deletes it.
    answer = await push(stage, (two.id, NOTHING, DEV))
    assert (answer.status, answer.taken, answer.refs) == (0, {DEV: False}, {MAIN: one.id, DEV: one.id})
    answer = await push(stage, (one.id, NOTHING, DEV))
    assert (answer.status, answer.is_unpacked, answer.taken) == (0, True, {DEV: True})
    assert answer.refs == {MAIN: one.id}


async def test_the_deploy_branch_is_not_deleted(stage: Stage) -> None:
    one = stage.commit("1")
    await push(stage, (NOTHING, one.id, MAIN), pack=one.pack)
    answer = await push(stage, (one.id, NOTHING, MAIN))
    assert (answer.taken, answer.refs) == ({MAIN: False}, {MAIN: one.id})


async def test_who_leaves_before_saying_what_for_ends_the_program_and_changes_nothing(stage: Stage) -> None:
    said = await stage.run(receive_pack(stage.folder), b"")
    assert said.out.endswith(b"0000")
    assert await refs(stage) == {}


async def test_refs_are_put_back_from_where_they_are_and_all_or_none(stage: Stage) -> None:
    one, two = stage.commit("1"), stage.commit("2")
    await push(stage, (NOTHING, one.id, MAIN), (NOTHING, one.id, DEV), pack=one.pack)
    await push(stage, (one.id, two.id, MAIN), pack=two.pack)
    assert await put_back(stage, (DEV, NOTHING, one.id), (MAIN, one.id, one.id)) != 0
    assert await refs(stage) == {MAIN: two.id, DEV: one.id}
    assert await put_back(stage, (DEV, NOTHING, one.id), (MAIN, one.id, two.id)) == 0
    assert await refs(stage) == {MAIN: one.id}
