"""What the engine says has happened to containers of ours. Hints only: whoever gets one looks for himself.

The engine's stream ends silently when the engine does, and does not tell what it missed. So every (re)connect is itself
a notice, that anything may have changed.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
import structlog

from agent.docker import labels
from agent.docker.backoff import Backoff
from agent.docker.engine import Engine, Refused
from agent.errors import Unavailable
from agent.ports.scheduler import Notify
from proto.names import AppId

log = structlog.get_logger()

ACTIONS: Final = ("start", "die", "oom", "destroy", "pause", "unpause", "health_status")
"""Of replicas. ``exec_*`` and ``attach`` are left out at the engine: checks would cause a flood of them."""


ASK_SECONDS: Final = 1.0
"""Between questions to a silent engine whether it is back."""


class _Actor(msgspec.Struct, frozen=True, rename="pascal"):
    attributes: dict[str, str] = {}


class _Message(msgspec.Struct, frozen=True, rename="pascal"):
    actor: _Actor = _Actor()


class EngineEvents:
    """Watches one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def watch(self, notify: Notify) -> None:
        """See ``Scheduler.watch``."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(notify))
            group.create_task(self._await_returns(notify))

    async def _follow(self, notify: Notify) -> None:
        backoff = Backoff()
        while True:
            try:
                await self._listen(notify, backoff)
            except (Unavailable, Refused, msgspec.MsgspecError) as error:
                log.warning("docker.events-lost", reason=str(error), retry_seconds=backoff.seconds)
            await backoff.pause()

    async def _await_returns(self, notify: Notify) -> None:
        """Tell of an engine that answers again. One that only hung keeps the stream of events open all the time."""
        silent = self._engine.went_silent
        while True:
            await silent.wait()
            # Not at once: one that breaks off each call and yet answers this one would keep us busy.
            await asyncio.sleep(ASK_SECONDS)
            if await self._engine.answers():
                silent.clear()
                notify(None)

    async def _listen(self, notify: Notify, backoff: Backoff) -> None:
        wanted = {
            "type": ["container"],
            "event": list(ACTIONS),
            "label": [f"{labels.INSTANCE}={self._engine.instance}", f"{labels.KIND}={labels.REPLICA}"],
        }
        params = {"filters": msgspec.json.encode(wanted).decode()}
        async with self._engine.stream("GET", "events", params=params) as chunks:
            # The engine answers once it listens: what happens from here on is told, what happened before is surveyed.
            notify(None)
            backoff.reset()
            rest = b""
            async for chunk in chunks:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in filter(bytes.strip, lines):
                    message = msgspec.json.decode(line, type=_Message)
                    if app := message.actor.attributes.get(labels.APP_ID):
                        notify(AppId(app))
