"""Watching a deploy: what it says, line by line, and how it ended.

A watcher only reads. It may come at any time, leave at any time, and be slow: the deploy belongs to the bus and
never notices. The outcome is told from the deploy's row, so it cannot differ from what is stored, and every watcher
tells the same.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence

from agent.commands.command import ServerFacts
from agent.commands.replies import HEADING, INDENT, WARNING
from agent.commands.screen import Screen
from agent.commands.urls import in_urls
from agent.commands.waiting import unless_gone
from agent.lifecycle import domains
from agent.ports.logs import Transcripts
from agent.ports.session import Terminal
from agent.state.apps import App
from agent.state.database import Database
from agent.state.deploys import Deploy
from proto.events import AppRemoved, Event
from proto.names import AppId, DeployId

QUEUE_LINES = 1_000
"""Held for a slow reader; past that the transcript on disk is the queue."""


class DeployWatcher:
    """Shows deploys to people."""

    def __init__(self, database: Database, *, transcripts: Transcripts, server: ServerFacts) -> None:
        self._database = database
        self._transcripts = transcripts
        self._server = server

    async def watch(self, deploy: DeployId, terminal: Terminal, *, to_stderr: bool = False, quiet: bool = False) -> int:
        """Write what the deploy says until it has its outcome, and then that; return 0 if it went live, else 1.

        Ends with 1 when the other end has left; the deploy goes on. `quiet`: nothing but a bad outcome.
        """
        row = await self._database.read.deploys.get(deploy)
        if row is None:
            return 1
        return await unless_gone(terminal, self._show(row, Screen(terminal), to_stderr=to_stderr, quiet=quiet))

    async def lines(self, deploy: Deploy) -> AsyncGenerator[list[str], None]:
        """Yield what the deploy says, several lines at once where they came together, until it has its outcome."""
        async with contextlib.aclosing(_batches(self._lines(deploy))) as batches:
            async for batch in batches:
                yield batch

    async def wait(self, deploy: DeployId, terminal: Terminal) -> Deploy | None:
        """Return the deploy once it has its outcome; `None` if it was removed, or the other end has left."""
        row = await self._database.read.deploys.get(deploy)
        if row is None or await unless_gone(terminal, self._read_through(row)):
            return None
        return await self._database.read.deploys.get(deploy)

    async def outcome(self, deploy: Deploy) -> list[str]:
        """Return how the deploy ended, for people; nothing if it has not."""
        app = await self._database.read.apps.get(deploy.app)
        names = await domains.of_app(self._database.read, app) if app else []
        return outcome_lines(deploy, app=app, urls=in_urls(names, server=self._server))

    async def _show(self, row: Deploy, screen: Screen, *, to_stderr: bool, quiet: bool) -> int:
        async with contextlib.aclosing(self.lines(row)) as batches:
            async for batch in batches:
                if not quiet:
                    await screen.lines(batch, to_stderr=to_stderr)
        ended = await self._database.read.deploys.get(row.id)
        is_live = ended is not None and ended.status == "live"
        if ended and not (quiet and is_live):
            await screen.lines(await self.outcome(ended), to_stderr=to_stderr)
        return 0 if is_live else 1

    async def _read_through(self, row: Deploy) -> int:
        async with contextlib.aclosing(self._lines(row)) as lines:
            async for _ in lines:
                pass
        return 0

    async def _lines(self, row: Deploy) -> AsyncGenerator[str, None]:
        async def is_over() -> bool:
            now = await self._database.read.deploys.get(row.id)
            if now is None or now.status != "live":
                return now is None or now.is_over
            # It serves, and may have something to do still.
            return all(task.ended_at for task in await self._database.read.tasks.of_deploy(row.id))

        follow = self._transcripts.follow(row.app, row.id, is_over=is_over)
        with self._nudging(row.app, row.id):
            async with contextlib.aclosing(follow) as lines:
                async for line in lines:
                    yield line

    @contextlib.contextmanager
    def _nudging(self, app: AppId, deploy: DeployId) -> Iterator[None]:
        """Have the transcript's follower look again at each commit that may end the deploy."""

        def notice(events: Sequence[tuple[int, Event]]) -> None:
            if any(_is_about(event, app=app, deploy=deploy) for _, event in events):
                self._transcripts.nudge(app, deploy)

        self._database.listeners.append(notice)
        try:
            yield
        finally:
            self._database.listeners.remove(notice)


def outcome_lines(deploy: Deploy, *, app: App | None, urls: Sequence[str]) -> list[str]:
    """Return how a deploy ended, and what that means for who uses the app; nothing if it has not ended."""
    match deploy.status:
        case "live":
            return [f"{HEADING}Application deployed:", *(f"{INDENT}{url}" for url in urls)]
        case "failed":
            first, *more = (deploy.reason or "for a reason nobody noted").split("\n")
            told = [f"{WARNING}The deploy failed ({deploy.stage}): {first}", *(f"{WARNING}{line}" for line in more)]
        case "cancelled":
            told = [f"{WARNING}The deploy was cancelled."]
        case "superseded":
            told = [f"{WARNING}A newer deploy took the place of this one."]
        case _:
            return []
    if app and app.live_release and not app.is_stopped:
        told.append(f"{INDENT}v{app.live_release} goes on serving.")
    return told


def _is_about(event: Event, *, app: AppId, deploy: DeployId) -> bool:
    return getattr(event, "deploy", None) == deploy or (isinstance(event, AppRemoved) and event.app == app)


async def _batches(lines: AsyncGenerator[str, None]) -> AsyncGenerator[list[str], None]:
    """Yield lines as they come, together with those that came while the reader was busy with the last ones."""
    queue: asyncio.Queue[str | None] = asyncio.Queue(QUEUE_LINES)

    async def pump() -> None:
        async with contextlib.aclosing(lines):
            async for line in lines:
                await queue.put(line)
        await queue.put(None)

    task = asyncio.ensure_future(pump())
    try:
        is_over = False
        while not is_over:
            batch = [await _next(queue, task)]
            while not queue.empty():
                batch.append(queue.get_nowait())
            is_over = batch[-1] is None
            if ready := [line for line in batch if line is not None]:
                yield ready
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def _next(queue: asyncio.Queue[str | None], pump: asyncio.Task[None]) -> str | None:
    """Return the next item; raise what ended the pump instead, if it failed."""
    getter = asyncio.ensure_future(queue.get())
    try:
        await asyncio.wait((getter, pump), return_when=asyncio.FIRST_COMPLETED)
        if not getter.done() and queue.empty():
            await pump
        return await getter
    finally:
        getter.cancel()
