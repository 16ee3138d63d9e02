"""Commands inside running containers (``docker exec``), typed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import msgspec
import structlog

from agent.docker.engine import Engine, Faulted, Refused
from agent.docker.raw import RawStream, open_raw
from agent.errors import UserError

log = structlog.get_logger()

HANG_UP_SECONDS: Final = 5.0
"""For the whole attempt to end a command whose person has left."""
PAUSE_SECONDS: Final = 0.05
"""Between two looks at a command that is about to run."""
NOT_FOUND_STATUS: Final = 127
"""What a shell returns for a program that is not there; so do we when the engine does not tell."""


class _Created(msgspec.Struct, frozen=True, rename="pascal"):
    id: str


class _Exec(msgspec.Struct, frozen=True, rename="pascal"):
    running: bool = False
    pid: int = 0
    """As this machine sees it."""
    exit_code: int | None = None


class Execs:
    """Commands in the containers of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def create(
        self, container: str, command: Sequence[str], *, is_tty: bool = False, term: str = "", has_input: bool = False
    ) -> str:
        """Prepare a command and return its id; `open` runs it.

        Raises:
            UserError: ``replica.not-running``.
        """
        body = {
            "Cmd": list(command),
            "Tty": is_tty,
            "Env": [f"TERM={term}"] if is_tty and term else [],
            "AttachStdin": has_input,
            "AttachStdout": True,
            "AttachStderr": True,
        }
        try:
            answer = await self._engine.json("POST", f"containers/{container}/exec", data=body)
        except Refused as refusal:
            raise UserError(
                "replica.not-running", "The replica does not run.", "See what there is with: ps:report"
            ) from refusal
        return msgspec.convert(answer, _Created).id

    def open(self, command: str, *, is_tty: bool = False) -> AbstractAsyncContextManager[RawStream]:
        """Run a prepared command and give its stream: raw with a tty, else frames of stdout and stderr."""
        return open_raw(self._engine, "POST", f"exec/{command}/start", data={"Detach": False, "Tty": is_tty})

    async def exit_code(self, command: str) -> int | None:
        """Return the exit status of a command whose stream has ended; `None` while it runs."""
        found = await self._engine.get(f"exec/{command}/json", into=_Exec)
        if found is None:
            return NOT_FOUND_STATUS
        return None if found.running else (NOT_FOUND_STATUS if found.exit_code is None else found.exit_code)

    async def resize(self, command: str, *, columns: int, rows: int) -> None:
        """Tell the command's tty the size of the window. A command that has ended does not mind.

        If it ends meanwhile, the engine calls that a fault of its own (500, "cannot resize a stopped container").
        """
        try:
            await self._engine.json("POST", f"exec/{command}/resize", params={"w": columns, "h": rows})
        except (Refused, Faulted) as error:
            log.debug("exec.not-resized", reason=str(error))

    async def hang_up(self, container: str, command: str) -> None:
        """Tell a command that its terminal has gone (SIGHUP), as far as that is possible; never raises.

        The engine leaves a command running whose connection was closed and has no call to signal it, and the agent may
        not signal processes of others. So the signal is sent from inside, by the image's own shell.
        """
        try:
            async with asyncio.timeout(HANG_UP_SECONDS):
                outside = await self._pid(command)
                if outside is None:
                    return
                pid = await asyncio.to_thread(_pid_inside, outside)
                signal = await self.create(container, ("sh", "-c", 'kill -HUP "$0"', str(pid)))
                async with self.open(signal) as stream:
                    while await stream.read():
                        pass
        except (UserError, Refused, OSError, ValueError) as error:
            log.info("exec.left-running", container=container[:12], reason=str(error))

    async def _pid(self, command: str) -> int | None:
        """Return the number of a command's process on this machine, or `None` once it has ended."""
        while True:
            found = await self._engine.get(f"exec/{command}/json", into=_Exec)
            if found is None or not found.running:
                return None
            if found.pid:
                return found.pid
            # Its stream opens before its process runs, and the engine does not tell when that is.
            await asyncio.sleep(PAUSE_SECONDS)


def _pid_inside(pid: int) -> int:
    """Return the number that a process has in its own container (``NSpid`` of proc(5), the last one)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    raise ValueError("the kernel does not tell the process's number inside")
