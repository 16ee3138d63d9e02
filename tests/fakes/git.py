"""The programs of git that a push runs, over repositories of dictionaries: ``receive-pack`` and what puts refs back.

They speak as git does (gitprotocol-pack(5)), so that what stands between a client and git can be run without either.
A pack holds one object, whose text says which commit has which files.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from agent.git.command_list import NOTHING, CommandListReader, RefUpdate
from agent.git.refs import HEADS
from proto.names import AppId
from tests.fakes.session import FakeSession
from tests.fakes.source import FakeRepos

BRANCH = "main"
REF = HEADS + BRANCH
GREETING = "report-status side-band-64k delete-refs"
KILLED = -9
REFUSED = 128
Moment = Literal["begin", "taken", "moved"]
"""Where git may end before its time: with nothing, with the objects, with refs that it moved and told nobody of."""

_BLOB = 3
_TRAILER = 20
_ADVERTISED = re.compile(rb"([0-9a-f]{40}) " + REF.encode())


class Pipes(NamedTuple):
    """What a program has of whoever started it."""

    stdin: asyncio.StreamReader
    write: Callable[[bytes], None]


class FakeGit:
    """Runs them."""

    def __init__(self, repos: FakeRepos) -> None:
        self.dies: Callable[[Moment], bool] = never
        """Asked at each moment of a push whether git ends there."""
        self.moves = 0
        """How often a ref was moved."""
        self._repos = repos

    async def run(self, command: Sequence[str], pipes: Pipes) -> int:
        """Run one program to its end, and return its exit status."""
        if "receive-pack" in command:
            return await self._receive(AppId(command[-1].rpartition("/")[2]), pipes)
        folder = next(word for word in command if word.startswith("--git-dir="))
        app = AppId(folder.rpartition("/")[2])
        if "for-each-ref" in command:
            lines = [f"{tip} {HEADS}{branch}\n" for (owner, branch), tip in self._repos.tips.items() if owner == app]
            pipes.write("".join(lines).encode())
            return 0
        assert "update-ref" in command, command
        words = (await pipes.stdin.read()).decode().split("\0")[:-1]
        updates = [
            RefUpdate(now, then, update.removeprefix("update "))
            for update, then, now in zip(words[::3], words[1::3], words[2::3], strict=True)
        ]
        if any(self._tip(app, update) != update.old for update in updates):
            return REFUSED
        for update in updates:
            self._move(app, update)
        return 0

    async def _receive(self, app: AppId, pipes: Pipes) -> int:
        refs = [(tip, HEADS + branch) for (owner, branch), tip in self._repos.tips.items() if owner == app]
        first, *others = refs or [(NOTHING, "capabilities^{}")]
        greeting = packet(f"{first[0]} {first[1]}\0{GREETING}\n".encode())
        pipes.write(greeting + b"".join(packet(f"{tip} {ref}\n".encode()) for tip, ref in others) + b"0000")
        reader, commands = CommandListReader(), None
        while commands is None:
            data = await pipes.stdin.read(65_536)
            if not data:
                return 0
            commands = reader.feed(data)
        pack = commands.raw[commands.size :] + await pipes.stdin.read()
        if not commands.updates:
            return 0
        if self.dies("begin"):
            return KILLED
        # Nothing comes where there is nothing to take.
        files = _unpacked(pack) if any(update.new != NOTHING for update in commands.updates) else {}
        await asyncio.sleep(0)
        if files is None:
            refused = [f"ng {update.ref} unpacker error\n" for update in commands.updates]
            pipes.write(_report(["unpack broke off\n", *refused]))
            return 0
        if self.dies("taken"):
            return KILLED
        lines = ["unpack ok\n"]
        for update in commands.updates:
            is_kept = update.new == NOTHING and update.ref == HEADS + self._repos.heads.get(app, BRANCH)
            is_moved = not is_kept and self._move(app, update, files)
            lines.append(f"ok {update.ref}\n" if is_moved else f"ng {update.ref} fetch first\n")
        await asyncio.sleep(0)
        if self.dies("moved"):
            return KILLED
        pipes.write(_report(lines))
        return 0

    def _move(self, app: AppId, update: RefUpdate, files: Mapping[str, str] | None = None) -> bool:
        """Let a ref point elsewhere, if it still points where it should."""
        key = app, update.ref.removeprefix(HEADS)
        self.moves += 1
        if self._tip(app, update) != update.old:
            return False
        if update.new == NOTHING:
            del self._repos.tips[key]
        elif files is None:
            self._repos.tips[key] = update.new
        else:
            self._repos.put(app, update.new, files, branch=key[1])
        return True

    def _tip(self, app: AppId, update: RefUpdate) -> str:
        return self._repos.tips.get((app, update.ref.removeprefix(HEADS)), NOTHING)


class GitClient(FakeSession):
    """Somebody's ``git push`` of one commit to `BRANCH`: greeted, it says what it wants, and sends its pack."""

    def __init__(self, commit: str, files: Mapping[str, str], *, breaks_off_at: float | None = None) -> None:
        """`breaks_off_at`: the share of what it has to send after which it is gone; `None`: it sends it all."""
        super().__init__()
        self._commit = commit
        self._files = files
        self._breaks_off_at = breaks_off_at
        self._unsent: list[bytes] | None = None

    @property
    def is_acknowledged(self) -> bool:
        """Whether it was told that its commit is stored."""
        return f"ok {REF}\n".encode() in self.written

    @property
    def is_up_to_date(self) -> bool:
        """Whether it was told that the branch is at its commit already."""
        advertised = _ADVERTISED.search(self.written)
        return advertised is not None and advertised[1].decode() == self._commit

    async def read(self, size: int = 65_536) -> bytes:
        await asyncio.sleep(0)
        while b"0000" not in self.written:
            self._news.clear()
            await self._news.wait()
        if self._unsent is None:
            self._unsent = self._pieces()
        return self._unsent.pop(0) if self._unsent else b""

    def _pieces(self) -> list[bytes]:
        advertised = _ADVERTISED.search(self.written)
        old = advertised[1].decode() if advertised else NOTHING
        if old == self._commit:
            return [b"0000"]
        command = packet(f"{old} {self._commit} {REF}\0 report-status side-band-64k\n".encode()) + b"0000"
        pack = packed(self._files)
        sent = command + pack
        if self._breaks_off_at is None:
            return [command, pack[: len(pack) // 2], pack[len(pack) // 2 :]]
        self.left.set()
        return [sent[: int(len(sent) * self._breaks_off_at)]]


def never(moment: Moment) -> bool:
    """Let git live."""
    return False


def packet(data: bytes) -> bytes:
    return b"%04x" % (len(data) + 4) + data


def _report(lines: Sequence[str]) -> bytes:
    report = b"".join(packet(line.encode()) for line in lines) + b"0000"
    return packet(b"\1" + report) + b"0000"


def packed(files: Mapping[str, str]) -> bytes:
    data = json.dumps(dict(files)).encode()
    size, head = len(data), bytearray()
    byte, size = _BLOB << 4 | size & 15, size >> 4
    while size:
        head.append(byte | 0x80)
        byte, size = size & 0x7F, size >> 7
    head.append(byte)
    body = struct.pack(">4sII", b"PACK", 2, 1) + bytes(head) + zlib.compress(data)
    return body + hashlib.sha1(body).digest()


def _unpacked(pack: bytes) -> Mapping[str, str] | None:
    """Return the files in a pack, or `None` if it is not whole."""
    body, trailer = pack[:-_TRAILER], pack[-_TRAILER:]
    if len(pack) < _TRAILER or hashlib.sha1(body).digest() != trailer:
        return None
    start = struct.calcsize(">4sII")
    while body[start] & 0x80:
        start += 1
    files: Mapping[str, str] = json.loads(zlib.decompress(body[start + 1 :]))
    return files
