"""One git process at a time: started, read within bounds, and never left behind.

Each runs in a session of its own, so that ending it ends its children too, and so that a Ctrl-C in the agent's
terminal does not reach it. Whatever happens to the caller, the process is dead and reaped when the block is left.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from itertools import pairwise

from agent import programs
from agent.errors import Unavailable
from agent.git.environment import environment

READ_SECONDS = 60.0
"""For anything that answers a question about a repository; milliseconds are usual."""

CHUNK = 256 * 1024
"""Bytes read from a pipe at once."""

_MAX_ERROR = 8_192
"""Bytes of standard error kept (the last ones): a message, not a log."""

Hear = Callable[[bytes], Awaitable[None]]
"""Is given what git writes to standard error, as it comes. What it raises ends the run."""


class GitFailed(Exception):
    """Git ended with an error. The text is git's own; it may quote hostile names."""

    def __init__(self, command: Sequence[str], *, status: int, error: str) -> None:
        super().__init__(f"{_verb(command)} ended with {status}: {error}")
        self.status = status
        self.error = error


class GitProcess:
    """A running git whose output is being read."""

    def __init__(self, process: programs.Program, command: Sequence[str], *, hear: Hear | None = None) -> None:
        self._process = process
        self._command = command
        self._hear = hear
        self._error = bytearray()
        self._errors = asyncio.create_task(self._keep_errors())

    async def read(self, size: int = CHUNK) -> bytes:
        """Return up to `size` bytes of standard output; empty at its end."""
        return await _pipe(self._process.stdout).read(size)

    async def feed(self, data: bytes) -> bool:
        """Give it some input, as fast as it takes it. Return false if it wants no more."""
        stdin = self._process.stdin
        assert stdin is not None  # a pipe was asked for
        return await fed_some(stdin, data)

    async def finish(self) -> None:
        """Close its input and wait for the end.

        Raises:
            GitFailed: the exit status is not 0.
        """
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._errors
        status = await self._process.wait()
        if status != 0:
            raise GitFailed(self._command, status=status, error=self._error.decode("utf-8", "replace").strip())

    async def end(self) -> None:
        """Kill it and its children if it still runs, and wait until nothing is left. Repeating is harmless."""
        self._kill()
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._hear is not None:  # it may wait for somebody who never comes
            self._errors.cancel()
        await asyncio.wait((self._errors,))
        # A pipe is closed at its end, so they are read out.
        for output in (_pipe(self._process.stdout), _pipe(self._process.stderr)):
            while await output.read(CHUNK):
                pass
        await self._process.wait()

    async def _keep_errors(self) -> None:
        while data := await _pipe(self._process.stderr).read(CHUNK):
            self._error += data
            del self._error[:-_MAX_ERROR]
            if self._hear is not None:
                await self._heard(data, self._hear)

    async def _heard(self, data: bytes, hear: Hear) -> None:
        try:
            await hear(data)
        except Exception:
            # Nobody reads on, and git would wait for that until its time is up.
            self._kill()
            raise

    def _kill(self) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


@asynccontextmanager
async def started(
    command: Sequence[str],
    *,
    stdin: bytes | None = None,
    is_fed: bool = False,
    extra: Mapping[str, str] | None = None,
    hear: Hear | None = None,
) -> AsyncIterator[GitProcess]:
    """Run `command` (see ``environment``) for the length of a block; killed at its end if it still runs.

    `stdin` must fit into a pipe (64 KiB); with `is_fed` the input comes by ``GitProcess.feed``. `extra`: variables
    that it gets besides.

    Raises:
        Unavailable: ``git.missing``, there is no git to run.
    """
    try:
        process = await programs.start(
            command,
            environment={**environment(), **(extra or {})},
            is_fed=is_fed or stdin is not None,
            is_leader=True,
            limit=CHUNK,
        )
    except FileNotFoundError as error:
        raise Unavailable("git.missing", "There is no git on this machine.", "Install it: apt install git") from error
    git = GitProcess(process, command, hear=hear)
    try:
        if process.stdin is not None and not is_fed:
            process.stdin.write(stdin or b"")
            process.stdin.close()
        yield git
    finally:
        await git.end()


async def output(
    command: Sequence[str],
    *,
    limit: int,
    seconds: float = READ_SECONDS,
    stdin: bytes | None = None,
    extra: Mapping[str, str] | None = None,
    hear: Hear | None = None,
) -> bytes:
    """Return what `command` writes to standard output, at most `limit` bytes. The rest: see `started`.

    Raises:
        GitFailed: the exit status is not 0, or there was more than `limit`.
        Unavailable: no answer within `seconds`.
    """
    collected = bytearray()
    try:
        async with asyncio.timeout(seconds), started(command, stdin=stdin, extra=extra, hear=hear) as git:
            while data := await git.read():
                collected += data
                if len(collected) > limit:
                    raise GitFailed(command, status=-1, error=f"more than {limit} bytes of output")
            await git.finish()
    except TimeoutError as error:
        raise Unavailable("git.slow", f"Git did not answer within {seconds:.0f} s ({_verb(command)}).") from error
    return bytes(collected)


async def fed(command: Sequence[str], chunks: AsyncGenerator[bytes, None], *, seconds: float) -> None:
    """Run `command` on `chunks`, which come as fast as it takes them.

    Raises:
        GitFailed: the exit status is not 0.
        Unavailable: it did not end within `seconds`. What `chunks` raises goes through, and git is killed.
    """
    try:
        async with aclosing(chunks), asyncio.timeout(seconds), started(command, is_fed=True) as git:
            async for chunk in chunks:
                if not await git.feed(chunk):
                    break
            await git.finish()
    except TimeoutError as error:
        raise Unavailable("git.slow", f"Git did not end within {seconds:.0f} s ({_verb(command)}).") from error


async def fed_some(stdin: asyncio.StreamWriter, data: bytes) -> bool:
    """Give a process some input, as fast as it takes it. Return false if it wants no more."""
    if stdin.is_closing():  # uvloop would call writing now a mistake of ours
        return False
    try:
        stdin.write(data)
        await stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def _pipe(reader: asyncio.StreamReader | None) -> asyncio.StreamReader:
    assert reader is not None  # both pipes were asked for
    return reader


def _verb(command: Sequence[str]) -> str:
    own = command[list(command).index("git") :] if "git" in command else command
    plain = [part for before, part in pairwise(own) if before != "-c"]
    return "git " + next((part for part in plain if not part.startswith("-")), "")
