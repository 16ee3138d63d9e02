"""What deploys said, one file per deploy: build output, steps, failures.

`say` puts the line, sanitised, into memory and returns; one task writes what has gathered and wakes the followers, who
read the file. So there is one path to every reader, whether he comes early, late or after a restart, and the disk is
written in batches that grow with the load. How one file is written, and what happens past its limit, is `transcript`'s.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from agent.logs.transcript import Transcript, read_lines
from agent.ports.logs import MAX_LINE, IsOver
from agent.sanitise import clean
from proto.names import AppId

MAX_BYTES = 20_000_000
"""Of one deploy's transcript. Long builds write a tenth of it."""

QUIET_SECONDS = 2.0
"""The last lines past the limit are written when nothing more was said for so long."""

ASK_SECONDS = 0.25
"""How often a waiting follower asks whether the deploy is over, should nobody nudge him."""

_ID = re.compile(r"[a-z0-9]{1,64}")

_log = structlog.get_logger()


class DiskTranscripts:
    """Keeps what deploys said. An async context manager: what was said is on disk when its block has ended."""

    def __init__(self, folder: Path, *, max_bytes_per_deploy: int = MAX_BYTES) -> None:
        """Keep transcripts in `folder`, one folder per app in it."""
        self._folder = folder
        self._max_bytes = max_bytes_per_deploy
        self._open: dict[Path, Transcript] = {}
        self._followers: dict[Path, set[asyncio.Event]] = {}
        self._work = asyncio.Event()
        self._is_closing = False
        self._is_failing = False
        self._writer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start the writer."""
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        self._writer = asyncio.create_task(self._write_on(), name="transcripts")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what was said, end the writer and the followers."""
        self._is_closing = True
        self._work.set()
        if self._writer is not None:
            await self._writer
        for path in list(self._followers):
            self._wake(path)

    def say(self, app: AppId, deploy: str, line: str) -> None:
        """Append a line and wake its readers. Never blocks, never raises; a full disk is told to the agent's log."""
        path = self._path(app, deploy)
        transcript = self._open.get(path)
        if transcript is None:
            transcript = self._open[path] = Transcript(path, limit=self._max_bytes)
        now = asyncio.get_running_loop().time()
        for text in line.split("\n"):
            for start in range(0, len(text) or 1, MAX_LINE):
                piece = clean(text[start : start + MAX_LINE])
                transcript.say(piece.encode("utf-8", "replace") + b"\n", now=now)
        self._work.set()

    def nudge(self, app: AppId, deploy: str) -> None:
        """Make the deploy's followers ask `is_over` now. Never blocks."""
        self._wake(self._path(app, deploy))

    async def follow(self, app: AppId, deploy: str, *, is_over: IsOver) -> AsyncGenerator[str, None]:
        """Yield every line from the first on, then new ones as they come, until the deploy is over and all was read."""
        path = self._path(app, deploy)
        wake = asyncio.Event()
        self._followers.setdefault(path, set()).add(wake)
        offset = 0
        try:
            while True:
                wake.clear()
                # Asked before the last look at the file: what was said before the end is then read.
                is_last = await is_over() or self._is_closing
                if is_last:
                    await self._write(path, is_final=True)
                while lines := await asyncio.to_thread(read_lines, path, offset):
                    for line in lines:
                        offset += len(line) + 1
                        yield line.decode("utf-8", "replace")
                if is_last:
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(ASK_SECONDS):
                        await wake.wait()
        finally:
            self._forget_follower(path, wake)

    async def remove(self, app: AppId, deploys: Sequence[str] | None = None) -> None:
        """Forget some deploys' lines, or all of the app's. Repeating is harmless."""
        if deploys is None:
            folder = self._path(app, "all").parent
            paths = [path for path in self._open if path.parent == folder]
        else:
            folder = None
            paths = [self._path(app, deploy) for deploy in deploys]
        for path in paths:
            self._open.pop(path, None)
        await asyncio.to_thread(_delete, paths, folder)

    # Private

    def _path(self, app: AppId, deploy: str) -> Path:
        if not _ID.fullmatch(app) or not _ID.fullmatch(deploy):
            raise ValueError(f"{app!r} and {deploy!r} are no ids")
        return self._folder / app / f"{deploy}.log"

    async def _write_on(self) -> None:
        """Write what was said until closed, and the ends of those past their limit once they are quiet."""
        loop = asyncio.get_running_loop()
        while not self._is_closing:
            holding = [transcript.said_at for transcript in self._open.values() if transcript.is_holding]
            due = min(holding) + QUIET_SECONDS if holding else None
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._work.wait()
            self._work.clear()
            for path, transcript in list(self._open.items()):
                is_quiet = transcript.said_at + QUIET_SECONDS <= loop.time()
                await self._write(path, is_final=is_quiet)
        for path in list(self._open):
            await self._write(path, is_final=True)

    async def _write(self, path: Path, *, is_final: bool) -> None:
        transcript = self._open.get(path)
        if transcript is None:
            return
        try:
            await asyncio.to_thread(transcript.write, is_final=is_final)
            self._is_failing = False
        except OSError:
            if not self._is_failing:
                _log.exception("transcripts.not-written", path=str(path))
            self._is_failing = True
        if not transcript.is_waiting:
            self._open.pop(path, None)
        self._wake(path)

    def _wake(self, path: Path) -> None:
        for follower in self._followers.get(path, ()):
            follower.set()

    def _forget_follower(self, path: Path, wake: asyncio.Event) -> None:
        followers = self._followers[path]
        followers.discard(wake)
        if not followers:
            del self._followers[path]


def _delete(paths: Sequence[Path], folder: Path | None) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
    if folder is not None and folder.exists():
        shutil.rmtree(folder)
