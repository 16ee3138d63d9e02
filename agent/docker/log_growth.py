"""Following a container's log through the engine's own files: woken by the kernel, and ended by the container's end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from agent.docker.containers import ContainerDetail, Containers
from agent.docker.engine import Refused
from agent.docker.file_changes import FileChanges
from agent.docker.log_files import LogFiles
from agent.errors import Unavailable
from agent.ports.logs import RawLines

PAUSE_SECONDS: Final = 0.05
"""Before looking anew at a container that is about to start or restart; doubles up to `MAX_PAUSE_SECONDS`."""
MAX_PAUSE_SECONDS: Final = 1.0
PACE_SECONDS: Final = 0.05
"""Where lines come faster than this one after another, they gather for so long. 50 busy containers are read a thousand
times a second then and not a hundred thousand times, and a follower waits as long for its own batches anyway."""
HELD_BACK_SECONDS: Final = 0.5
"""Where the kernel has no watch left for us, we look so often."""


async def follow_files(
    containers: Containers, changes: FileChanges, files: LogFiles, detail: ContainerDetail
) -> AsyncGenerator[RawLines, None]:
    """Yield the lines of `files`, then new ones as they come, until the container has ended for good or has gone.

    Raises:
        Unavailable: the engine went away.
        OSError: the files cannot be read any more.
        Unreadable: nor so.
    """
    pause = PAUSE_SECONDS
    seen: ContainerDetail | None = detail
    while seen is not None:
        # Looked at before the read and not after: what was written before the end is then surely in it.
        is_over = seen.state.status not in ("created", "running", "restarting", "paused")
        ending = _Ending(containers, seen.id if seen.is_running else None)
        try:
            async for batch in _while_it_runs(changes, files, ending):
                pause = PAUSE_SECONDS
                yield batch
            ending.verify()
        finally:
            ending.let_go()
        if is_over:
            break
        await asyncio.sleep(pause)
        pause = min(pause * 2, MAX_PAUSE_SECONDS)
        seen = await containers.inspect(detail.id)
    else:
        # It was removed; what is open can still be read.
        async for batch in _all(files):
            yield batch
    if batch := files.last():
        yield batch


class _Ending:
    """The end of a container's run, which comes some time; of one that does not run it has come."""

    def __init__(self, containers: Containers, container: str | None) -> None:
        self.woken = asyncio.Event()
        """Set when it comes, and by whoever has other reasons to look."""
        self._waiting = None if container is None else asyncio.ensure_future(containers.wait(container))
        if self._waiting is not None:
            self._waiting.add_done_callback(lambda _: self.woken.set())

    @property
    def has_come(self) -> bool:
        return self._waiting is None or self._waiting.done()

    async def within(self, seconds: float) -> None:
        """Return once it has come, after `seconds` at the latest."""
        if self._waiting is not None:
            await asyncio.wait((self._waiting,), timeout=seconds)

    def verify(self) -> None:
        """Raise `Unavailable` if it is not known whether it came."""
        if self._waiting is None:
            return
        try:
            self._waiting.result()
        except Refused as refusal:
            raise Unavailable("docker.unavailable", f"Docker refused: {refusal.message}") from refusal

    def let_go(self) -> None:
        """Wait no more."""
        if self._waiting is not None and not self._waiting.cancel() and not self._waiting.cancelled():
            # Whoever leaves early does not ask; but that it was raised must have been seen.
            self._waiting.exception()


async def _while_it_runs(changes: FileChanges, files: LogFiles, ending: _Ending) -> AsyncIterator[RawLines]:
    """Yield what is there, and go on until `ending` has come and all that was written before has been read."""
    is_brisk = False
    while True:
        is_last = ending.has_come
        has_come = False
        async for batch in _all(files):
            has_come = True
            yield batch
        if is_last:
            return
        if has_come and is_brisk:
            await ending.within(PACE_SECONDS)
            continue
        is_brisk = has_come
        await _changed(changes, files, ending)


async def _changed(changes: FileChanges, files: LogFiles, ending: _Ending) -> None:
    """Return once there may be something to read, or `ending` has come."""
    ending.woken.clear()
    if ending.has_come:
        return
    try:
        with changes.watching(files.path, ending.woken):
            if not files.is_behind():
                await ending.woken.wait()
    except OSError:
        # Renamed, and the next one is not there yet; or the kernel has no watch left.
        await ending.within(HELD_BACK_SECONDS)


async def _all(files: LogFiles) -> AsyncIterator[RawLines]:
    """Yield the lines that are there now, a chunk at a time; others get their turn in between."""
    while (batch := await files.read()) is not None:
        if batch:
            yield batch
        await asyncio.sleep(0)
