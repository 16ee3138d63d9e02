"""Programs that a process starts on the virtual loop: coroutines behind the pipes of ``asyncio``'s subprocesses.

So what talks to git runs as it is. A program of these cannot be killed: its id is one that no process can have. It ends
when its input does, as git does; and with the loop it was started on, as it would with the agent's control group.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from tests.fakes.git import Pipes

Program = Callable[[Sequence[str], Pipes], Awaitable[int]]
"""Runs a command with these pipes, and returns its exit status."""

_FIRST_PID = 1 << 30
"""Above all that Linux gives out (proc(5), ``pid_max``)."""
_pids = itertools.count(_FIRST_PID)


async def start(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    is_fed: bool,
    tells_errors: bool = True,
    is_leader: bool = False,
    limit: int,
) -> asyncio.subprocess.Process:
    """Start one on the running loop, in the place of ``agent.programs.start``, which needs what a kernel has."""
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    return await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdin=pipe if is_fed else nothing,
        stdout=pipe,
        stderr=pipe if tells_errors else nothing,
        start_new_session=is_leader,
        limit=limit,
    )


class Started(asyncio.SubprocessTransport):
    """A program under way."""

    def __init__(self, protocol: Any, command: Sequence[str], program: Program, *, is_fed: bool) -> None:
        super().__init__()
        self._protocol = protocol
        self._pid = next(_pids)
        self._returncode: int | None = None
        self._ended = asyncio.Event()
        self._stdin = asyncio.StreamReader()
        self._pipes = {0: _Input(self._stdin) if is_fed else None, 1: _Output(), 2: _Output()}
        if not is_fed:
            self._stdin.feed_eof()
        protocol.connection_made(self)
        self._running = asyncio.ensure_future(self._run(command, program))

    async def _run(self, command: Sequence[str], program: Program) -> None:
        await asyncio.sleep(0)
        status = await program(command, Pipes(self._stdin, self._write))
        for pipe in (1, 2):
            self._protocol.pipe_connection_lost(pipe, None)
        self._returncode = status
        self._ended.set()
        self._protocol.process_exited()

    def _write(self, data: bytes) -> None:
        if data:
            self._protocol.pipe_data_received(1, data)

    def get_pid(self) -> int:
        return self._pid

    def get_returncode(self) -> int | None:
        return self._returncode

    def get_pipe_transport(self, fd: int) -> Any:
        return self._pipes[fd]

    async def _wait(self) -> int:
        await self._ended.wait()
        assert self._returncode is not None
        return self._returncode

    def close(self) -> None:
        """Called when all is over."""


class _Input(asyncio.WriteTransport):
    """Where a program's input is written to."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__()
        self._reader = reader
        self._is_closing = False

    def write(self, data: Any) -> None:
        if not self._is_closing and data:
            self._reader.feed_data(bytes(data))

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._reader.feed_eof()


class _Output(asyncio.ReadTransport):
    """Where its output comes from. Nobody has to slow it down."""

    def pause_reading(self) -> None:
        return None

    def resume_reading(self) -> None:
        return None
