"""What containers write, as lines with the engine's time stamps, from any moment on.

The engine's follow has three ways of ending or going silent while there is more to read: it ends at every restart of
the container, it ends when the engine does, and it is known to stall when a log file is rotated (moby#37646, #39235,
#45728). So a follow here is a sequence of the engine's follows, each from the last stamp seen, with the lines that come
again taken out; and a long silence is checked by asking for the last line alone.

What comes again or is left out in one follow is the business of `log_resume`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Final

import structlog

from agent.docker.containers import ContainerDetail, Containers
from agent.docker.engine import Engine, Refused
from agent.docker.file_changes import FileChanges
from agent.docker.log_files import LogFiles, Unreadable
from agent.docker.log_growth import MAX_PAUSE_SECONDS, PACE_SECONDS, PAUSE_SECONDS, follow_files
from agent.docker.log_lines import LineReader
from agent.docker.log_resume import Resume
from agent.docker.raw import RawStream, open_raw
from agent.docker.stamps import query_time
from agent.errors import Unavailable
from agent.ports.logs import RawLines
from proto.names import ReplicaId

log = structlog.get_logger(__name__)

SILENCE_SECONDS: Final = 30.0
"""After so long without a line we ask whether there is one; each fruitless question doubles it."""
MAX_SILENCE_SECONDS: Final = 600.0
BRISK_SILENCE_SECONDS: Final = 2.0
"""The same where lines came fast just before: there files are rotated, and that is where follows stall."""
BUSY_BYTES: Final = 16_384
BUSY_LINES: Final = 200
"""A read of so much, or of so many lines, may have been all that a socket holds, and the engine waits for us: go on at
once. It writes each line singly, and of the shortest 277 fill a socket, which are 11 kB."""


class DockerLogs:
    """Fulfils ``agent.ports.logs.LogSource``."""

    def __init__(
        self, engine: Engine, *, changes: FileChanges | None = None, silence_seconds: float = SILENCE_SECONDS
    ) -> None:
        """`changes`: for following the engine's own files; `None`: never. `silence_seconds`: see `SILENCE_SECONDS`."""
        self._engine = engine
        self._containers = Containers(engine)
        self._changes = changes
        self._silence = silence_seconds

    async def follow(self, replica: ReplicaId, *, since: int) -> AsyncIterator[RawLines]:
        """See ``LogSource``."""
        detail = await self._containers.of_replica(replica)
        if detail is None:
            return
        found = self._by_files(detail, since) or self._by_stream(detail, since)
        async with aclosing(found) as batches:
            async for batch in batches:
                yield batch

    def _by_files(self, detail: ContainerDetail, since: int) -> AsyncGenerator[RawLines, None] | None:
        """Return the lines out of the engine's files, `None` where they cannot be read."""
        if self._changes is None or not detail.log_path:
            return None
        try:
            files = LogFiles(Path(detail.log_path), since=since)
        except (OSError, Unreadable) as error:
            log.debug("logs.files-not-readable", container=detail.id[:12], reason=str(error))
            return None
        return self._grown(self._changes, files, detail)

    async def _grown(
        self, changes: FileChanges, files: LogFiles, detail: ContainerDetail
    ) -> AsyncGenerator[RawLines, None]:
        try:
            async with aclosing(follow_files(self._containers, changes, files, detail)) as batches:
                async for batch in batches:
                    yield batch
        except (OSError, Unreadable) as error:
            # Begun anew they are read as far as can be, or the engine is asked for them.
            raise Unavailable("docker.unavailable", f"A log file of Docker's cannot be read: {error}") from error
        finally:
            files.close()

    async def _by_stream(self, seen: ContainerDetail, since: int) -> AsyncGenerator[RawLines, None]:
        detail: ContainerDetail | None = seen
        resume, pause = Resume(since), PAUSE_SECONDS
        while detail is not None:
            container = detail.id
            is_over = detail.state.status not in ("created", "running", "restarting", "paused")
            async for batch in self._once(container, resume, is_followed=detail.is_running):
                pause = PAUSE_SECONDS
                yield batch
            # An answer that was cut looks like one that ended, hence the second look.
            if is_over and await self._newest(container) <= resume.since:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, MAX_PAUSE_SECONDS)
            # Looked at before the read and not after: what was written before the end is then surely in it.
            detail = await self._containers.inspect(container)

    async def _once(self, container: str, resume: Resume, *, is_followed: bool) -> AsyncIterator[RawLines]:
        """Yield what one answer of the engine holds. Returns when it ends, or stalls."""
        params: dict[str, str | int] = {"stdout": 1, "stderr": 1, "timestamps": 1, "follow": int(is_followed)}
        if resume.start:
            params["since"] = query_time(resume.start)
        resume.begin()
        lines = LineReader()
        try:
            async with open_raw(self._engine, "GET", f"containers/{container}/logs", params=params) as stream:
                pace = _Pace()
                while data := await self._read(stream, container, resume):
                    came = lines.feed(data)
                    if batch := resume.unseen(came, waited=pace.waited()):
                        yield batch
                    if resume.has_hole:
                        log.warning("logs.hole", container=container[:12], after=resume.since)
                        return
                    if len(data) < BUSY_BYTES and len(came) < BUSY_LINES and pace.is_brisk():
                        await stream.gather(PACE_SECONDS)
        except Refused as refusal:
            # 404 and 409: it is gone or going, which the next look at it will tell.
            if refusal.status not in (404, 409):
                raise Unavailable("docker.unavailable", f"Docker refused: {refusal.message}") from refusal
        except ValueError as error:
            raise Unavailable("docker.unavailable", "Docker sent a log that makes no sense.") from error
        if batch := resume.unseen(lines.end()):
            yield batch

    async def _read(self, stream: RawStream, container: str, resume: Resume) -> bytes:
        """Return what comes next, or nothing if the stream ended or stalled."""
        silence = min(self._silence, BRISK_SILENCE_SECONDS) if resume.is_flowing else self._silence
        while True:
            try:
                async with asyncio.timeout(silence):
                    return await stream.read()
            except TimeoutError:
                if await self._newest(container) > resume.since:
                    return b""
                silence = min(silence * 2, MAX_SILENCE_SECONDS)

    async def _newest(self, container: str) -> int:
        """Return the stamp of the container's last line (cheap: the engine reads its file from the end)."""
        params = {"stdout": 1, "stderr": 1, "timestamps": 1, "tail": 1}
        lines, newest = LineReader(), 0
        try:
            async with open_raw(self._engine, "GET", f"containers/{container}/logs", params=params) as stream:
                while data := await stream.read():
                    newest = max([newest, *lines.feed(data).at])
        except Refused:
            return 0
        return max([newest, *lines.end().at])


class _Pace:
    """Tells whether lines come so fast that they had better gather between two reads.

    What comes seldom is read at once, as is the beginning of a burst: a brief life is not made longer.
    """

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._read_at = self._clock() - 2 * PACE_SECONDS
        self._waited = 0.0

    def waited(self) -> float:
        """Take note of a read; return the seconds since the one before."""
        before, self._read_at = self._read_at, self._clock()
        self._waited = self._read_at - before
        return self._waited

    def is_brisk(self) -> bool:
        """Tell whether the next read should wait."""
        return self._waited < 2 * PACE_SECONDS
