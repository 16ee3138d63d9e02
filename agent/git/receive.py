"""Serves git's two services: a real ``git receive-pack`` or ``git upload-pack`` between a client's two streams.

A push is held up after git's greeting until the client's list of refs is whole and somebody has judged it. What comes
after goes to git as it is, counted. When the client leaves, git's input is closed and git itself decides: a whole pack
is taken, half of one is thrown away. What git answers is held back until somebody has settled what the push leads to;
if that fails, the refs are put back, and the client is told so in git's place. Whatever happens, no git process and no
quarantine folder is left behind.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import structlog

from agent import programs
from agent.archives.caps import in_units
from agent.errors import Unavailable, UserError
from agent.git.answer import HeldAnswer
from agent.git.command_list import MAX_LIST_BYTES, MAX_REFS, CommandList, CommandListReader
from agent.git.environment import MAX_PUSH_BYTES, environment, receive_pack, upload_pack
from agent.git.locks import remove_locks
from agent.git.pack import PackLimits, PackReader
from agent.git.process import fed_some
from agent.git.putting_back import put_back
from agent.ports.session import Terminal

log = structlog.get_logger(__name__)

STALL_SECONDS = 600.0
"""A client that sends nothing for so long has hung. Compressing a large repository takes minutes of silence."""

FINISH_SECONDS = 900.0
"""For git to check and store a pack after its last byte."""

DRAIN_SECONDS = 1.0
DRAIN_BYTES = 256 << 20
"""How much of a refused push is read and thrown away, so that the client gets to read why."""

_CHUNK = 256 * 1024
_LOOKED_AT_ONCE = 16 * 1024
"""Bytes of a pack that are looked through in passing; more of them in a thread, so that nobody waits for it."""

_QUARANTINE = "tmp_objdir-incoming-*"

Judge = Callable[[CommandList], Awaitable[None]]
"""Raises `UserError` if the push must not go on. Called before git sees a byte of it."""

Settle = Callable[[CommandList], Awaitable[None]]
"""Does what the push leads to, or raises `UserError`. Called when git has stored it and before the client knows."""


class PushLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How large one push may be."""

    max_bytes: int = MAX_PUSH_BYTES
    """Of its pack, as sent."""
    max_refs: int = MAX_REFS
    max_list_bytes: int = MAX_LIST_BYTES
    """Of the list of its refs."""
    pack: PackLimits = PackLimits()
    """What its objects may unfold to."""


class Received(msgspec.Struct, frozen=True):
    """How one push went."""

    commands: CommandList | None
    """`None` if the client left before it had said what it wants."""
    status: int
    """Git's own exit status. 0 also if single refs were refused: the client was told."""
    is_refused: bool = False
    """Whether git refused refs, some or all."""


async def receive(
    git_dir: Path, terminal: Terminal, *, protocol: str, judge: Judge, settle: Settle, limits: PushLimits
) -> Received:
    """Serve one ``git push`` into `git_dir`; return once git has ended and the client has all that git said.

    `protocol`: the client's ``GIT_PROTOCOL``. At most one push to a repository at a time: leftovers are removed.

    Raises:
        UserError: what `judge` or `settle` raised (the client was told ref by ref), ``push.too-large``,
            ``push.stalled``, ``push.list-too-long`` or ``push.garbled``. Every ref is what it was before.
        Unavailable: ``git.missing``; ``git.ended``, it was killed. Every ref is what it was before.
    """
    try:
        command = receive_pack(git_dir, max_bytes=limits.max_bytes)
        async with _serving(command, terminal, protocol=protocol, outlives_client=True, is_held=True) as git:
            commands = await _read_commands(terminal, limits)
            if commands is not None:
                await _check(commands, judge, terminal)
                await git.feed(commands.raw[: commands.size])
                if commands.has_pack:
                    await _forward(git, commands, terminal, limits)
            status = await git.finish(seconds=FINISH_SECONDS)
            if commands is not None and status == 0:
                await _settle(git_dir, commands, settle, terminal)
            elif commands is not None:
                if status < 0:
                    await asyncio.to_thread(remove_locks, git_dir, of=[update.ref for update in commands.updates])
                await _undo(git, git_dir, commands, terminal)
            is_refused = await git.answer()
            if status < 0:
                raise Unavailable("git.ended", "Git was killed before it had stored the push.", "Push again.")
            return Received(commands, status, is_refused=is_refused)
    finally:
        await asyncio.shield(asyncio.to_thread(_remove_quarantine, git_dir))


async def upload(git_dir: Path, terminal: Terminal, *, protocol: str) -> int:
    """Serve one ``git fetch`` or ``git clone`` from `git_dir`; return git's exit status.

    Raises:
        UserError: ``push.stalled``, the client said nothing for `STALL_SECONDS`.
        Unavailable: ``git.missing``.
    """
    command = upload_pack(git_dir)
    async with _serving(command, terminal, protocol=protocol, outlives_client=False, is_held=False) as git:
        await git.forward()
        return await git.finish(seconds=None)


def sweep_incoming(folder: Path, *, apps: Collection[str]) -> list[str]:
    """Remove what killed pushes left in the repositories of `folder`; return the names of what was removed.

    That is quarantined objects, locks of refs, and the repositories of apps that never came to be: each folder that is
    not among `apps`. Only while nothing is being pushed, so at the start. Blocks.
    """
    removed = []
    for git_dir in sorted(folder.iterdir()) if folder.is_dir() else []:
        if git_dir.name not in apps:
            shutil.rmtree(git_dir, ignore_errors=True)
            removed.append(git_dir.name)
        else:
            removed += _remove_quarantine(git_dir) + remove_locks(git_dir)
    return removed


class _Serving:
    """A running git between a client's streams."""

    def __init__(self, process: programs.Program, terminal: Terminal, *, outlives_client: bool, is_held: bool) -> None:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        self._process = process
        self._terminal = terminal
        self._outlives_client = outlives_client
        self._is_heard = True
        self._held = HeldAnswer() if is_held else None
        self._stdin = process.stdin
        self._outputs = (process.stdout, process.stderr)
        self._copying = (
            asyncio.create_task(self._copy(process.stdout, self._pass_on)),
            asyncio.create_task(self._copy(process.stderr, terminal.write_error)),
        )

    async def feed(self, data: bytes) -> bool:
        """Give git some input. Return false if it wants no more."""
        return await fed_some(self._stdin, data)

    async def forward(self, *, first: bytes = b"", look: Callable[[bytes], Awaitable[None]] | None = None) -> None:
        """Pass on `first` and what the client sends after it, until it ends, leaves, or git has ended.

        `look` sees each piece before git does, and raises what must end it.
        """
        feeding = asyncio.create_task(self._feed_all(first, look))
        ending = asyncio.create_task(self._process.wait())
        try:
            await asyncio.wait((feeding, ending), return_when=asyncio.FIRST_COMPLETED)
            if feeding.done():
                await feeding
        finally:
            feeding.cancel()
            ending.cancel()
            await asyncio.wait((feeding, ending))

    async def finish(self, *, seconds: float | None) -> int:
        """Close git's input, wait for its end, and return its exit status once the client has all that is not held.

        Raises:
            Unavailable: ``git.slow``, it took more than `seconds`.
        """
        self._stdin.close()
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*self._copying)
                return await self._process.wait()
        except TimeoutError as error:
            raise Unavailable("git.slow", f"Git did not finish within {seconds:.0f} s.", "Push again.") from error

    @property
    def is_refusal(self) -> bool:
        """Whether what is held back of git's answer refuses anything."""
        return self._held is not None and self._held.is_refusal

    def unsay(self) -> None:
        """Forget what was held back of git's answer."""
        if self._held is not None:
            self._held.release()

    async def answer(self) -> bool:
        """Give the client what was held back of git's answer; tell whether that refuses anything."""
        if self._held is None:
            return False
        is_refusal = self.is_refusal
        if data := self._held.release():
            await self._say(data, self._terminal.write)
        return is_refusal

    async def end(self) -> None:
        """Kill git and its children if they still run, and wait until nothing is left. Repeating is harmless."""
        self._kill()
        for copying in self._copying:
            copying.cancel()
        await asyncio.wait(self._copying)
        self._stdin.close()
        # A pipe is closed at its end.
        for output in self._outputs:
            while await output.read(_CHUNK):
                pass
        await self._process.wait()

    async def _feed_all(self, first: bytes, look: Callable[[bytes], Awaitable[None]] | None) -> None:
        data = first or await _read(self._terminal)
        while data:
            if look is not None:
                await look(data)
            if not await self.feed(data):
                return
            data = await _read(self._terminal)
        self._stdin.close()

    async def _copy(self, output: asyncio.StreamReader, write: Callable[[bytes], Awaitable[None]]) -> None:
        while data := await output.read(_CHUNK):
            await self._say(data, write)

    async def _pass_on(self, data: bytes) -> None:
        if passed := data if self._held is None else self._held.feed(data):
            await self._terminal.write(passed)

    async def _say(self, data: bytes, write: Callable[[bytes], Awaitable[None]]) -> None:
        try:
            if self._is_heard:
                await write(data)
        except ConnectionError:
            # A push goes on to its end with nobody listening; packing for nobody is a waste.
            self._is_heard = False
            if not self._outlives_client:
                self._kill()

    def _kill(self) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


@asynccontextmanager
async def _serving(
    command: Sequence[str], terminal: Terminal, *, protocol: str, outlives_client: bool, is_held: bool
) -> AsyncIterator[_Serving]:
    try:
        process = await programs.start(
            command, environment=environment(protocol=protocol), is_fed=True, is_leader=True, limit=_CHUNK
        )
    except FileNotFoundError as error:
        raise Unavailable("git.missing", "There is no git on this machine.", "Install it: apt install git") from error
    git = _Serving(process, terminal, outlives_client=outlives_client, is_held=is_held)
    try:
        yield git
    finally:
        await git.end()


async def _read_commands(terminal: Terminal, limits: PushLimits) -> CommandList | None:
    """Return what the client wants, or `None` if it left without a word."""
    reader = CommandListReader(max_refs=limits.max_refs, max_bytes=limits.max_list_bytes)
    while data := await _read(terminal):
        if (commands := reader.feed(data)) is not None:
            return commands
    if reader.is_empty:
        return None
    raise UserError("push.garbled", "The push broke off before it had begun.", "Push again.")


async def _check(commands: CommandList, judge: Judge, terminal: Terminal) -> None:
    """Let the push go on, or tell the client ref by ref that it does not, and raise why."""
    try:
        if commands.problem is not None:
            raise commands.problem
        await judge(commands)
    except UserError as error:
        await _refuse(commands, error, terminal)
        raise


async def _forward(git: _Serving, commands: CommandList, terminal: Terminal, limits: PushLimits) -> None:
    reader = PackReader(limits.pack)
    count = 0

    async def look(data: bytes) -> None:
        nonlocal count
        count += len(data)
        if count > limits.max_bytes:
            raise _too_large(limits.max_bytes)
        if len(data) < _LOOKED_AT_ONCE:
            reader.feed(data)
        else:
            await asyncio.to_thread(reader.feed, data)

    try:
        await git.forward(first=commands.raw[commands.size :], look=look)
    except UserError as error:
        # Git must have said its last word before we speak in its place.
        await git.end()
        await _refuse(commands, error, terminal)
        raise


async def _settle(git_dir: Path, commands: CommandList, settle: Settle, terminal: Terminal) -> None:
    """Do what the push leads to, or undo it and tell the client ref by ref."""
    try:
        await settle(commands)
    except Exception as error:
        await put_back(git_dir, commands.updates)
        refusal = error if isinstance(error, UserError) else UserError("agent.bug", "Pushboat made a mistake.")
        if answer := commands.refusal(f"refused: {refusal.code}"):
            await terminal.write(answer)
        raise


async def _undo(git: _Serving, git_dir: Path, commands: CommandList, terminal: Terminal) -> None:
    """Put back what a git that failed has moved, and tell the client so where git's own answer says otherwise."""
    await put_back(git_dir, commands.updates)
    if not git.is_refusal:
        git.unsay()
        if answer := commands.refusal("refused: git.ended"):
            await terminal.write(answer)


async def _refuse(commands: CommandList, error: UserError, terminal: Terminal) -> None:
    """Tell git at the other end why, in its own protocol; it would call an early end a broken connection."""
    if answer := commands.refusal(f"refused: {error.code}"):
        await terminal.write(answer)
        if commands.has_pack:
            await _drain(terminal)


async def _drain(terminal: Terminal) -> None:
    """Read and forget what the client still sends, within bounds. It reads its answer only after it has sent all."""
    count = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while count < DRAIN_BYTES and (data := await terminal.read()):
                count += len(data)


async def _read(terminal: Terminal) -> bytes:
    try:
        async with asyncio.timeout(STALL_SECONDS):
            return await terminal.read(_CHUNK)
    except TimeoutError as error:
        raise UserError(
            "push.stalled",
            f"Nothing was sent for {STALL_SECONDS / 60:.0f} minutes.",
            "Check the network and try again.",
        ) from error


def _remove_quarantine(git_dir: Path) -> list[str]:
    removed = []
    for quarantine in (git_dir / "objects").glob(_QUARANTINE):
        shutil.rmtree(quarantine, ignore_errors=True)
        removed.append(quarantine.name)
    return removed


def _too_large(limit: int) -> UserError:
    return UserError(
        "push.too-large",
        f"This push is larger than {in_units(limit)}.",
        "Take large files out of the history (git filter-repo), push one commit (git push from a clone of depth 1), "
        "or let the server take more: [git] max_push_bytes.",
    )
