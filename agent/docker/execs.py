"""Commands inside running containers (``docker exec``), typed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

import msgspec

from agent.docker.engine import Engine, Refused
from agent.docker.raw import RawStream, open_raw
from agent.errors import UserError

NOT_FOUND_STATUS: Final = 127
"""What a shell returns for a program that is not there; so do we when the engine does not tell."""


class _Created(msgspec.Struct, frozen=True, rename="pascal"):
    id: str


class _Exec(msgspec.Struct, frozen=True, rename="pascal"):
    running: bool = False
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
        """Tell the command's tty the size of the window. A command that has ended does not mind."""
        try:
            await self._engine.json("POST", f"exec/{command}/resize", params={"w": columns, "h": rows})
        except Refused:
            return
