"""Pushes the images of releases to their registry.

Nothing is noted between the start of a push and its end: one that died is begun again, and the registry has its layers
by then.
"""

from __future__ import annotations

import structlog

from agent.bus.subscriptions import on
from agent.errors import Retry, Stopped, Unavailable, UserError
from agent.handlers.patience import Patience
from agent.lifecycle import deploys, registries
from agent.ports.logs import Transcripts
from agent.ports.registries import Registries, login_for, registry_of
from agent.ports.world import Clock, Stop
from agent.state.database import Database
from agent.state.pushes import Push
from proto.events import AppDestroyed, DeployCancelled, DeploySuperseded, ReleaseCreated

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 120.0
"""How long a push waits for an engine that does not answer."""

RETRY_SECONDS = 2.0


class ImagePusher:
    """Pushes each release that is to be in a registry."""

    def __init__(self, database: Database, *, registries: Registries, transcripts: Transcripts, clock: Clock) -> None:
        self._database = database
        self._registries = registries
        self._transcripts = transcripts
        self._patience = Patience(clock, seconds=PATIENCE_SECONDS)
        """Pushes that wait for the engine, and since when (monotonic seconds). A restart begins to wait anew."""

    @on(
        ReleaseCreated,
        name="registry.push",
        limit=4,
        tries=10,
        stop_on=(DeployCancelled, DeploySuperseded, AppDestroyed),
    )
    async def push(self, event: ReleaseCreated, stop: Stop) -> None:
        """Push the release's image, or note why it cannot be pushed."""
        push = await self._database.read.pushes.get(event.deploy)
        if push is None:
            return
        if push.status == "dropped":
            # An agent that died in the middle of it has left its names here.
            await self._registries.forget(push.names)
            return
        if push.status != "due":
            return
        try:
            await stop.race(self._push(push))
        except Stopped:
            return
        except Unavailable as error:
            await self._wait_or_fail(push, error)
        except UserError as error:
            await self._end(push, reason=" ".join(filter(None, (error.message, error.hint))))
        else:
            await self._end(push, reason=None)

    async def _push(self, push: Push) -> None:
        if not push.names:
            raise UserError(
                "registry.none",
                "The release is to be pushed, and nobody said to which registry.",
                "Say it with registry:set --global server <server>, or: registry:set --global push-on-release false",
            )
        first = push.names[0]
        self._say(push, f"-----> Pushing the image to {registry_of(first)} as {first}")
        login = login_for(first, await registries.logins(self._database.read, push.app))
        await self._registries.push(push.image, push.names, login=login, say=lambda line: self._say(push, line))

    async def _end(self, push: Push, *, reason: str | None) -> None:
        self._patience.end(push.app)
        log.info("image.pushed" if reason is None else "image.push-failed", deploy=push.deploy, release=push.release)
        if reason is None:
            self._say(push, f"       Pushed {', '.join(push.names)}")
        elif not push.is_awaited:
            self._say(push, f" !     {reason}")
            self._say(push, "       The deploy goes on without: its image is one that served before.")
        async with self._database.transaction() as tx:
            await deploys.push_ended(tx, push=push, reason=reason)

    async def _wait_or_fail(self, push: Push, error: Unavailable) -> None:
        if self._patience.begin(push.app, push.deploy):
            self._say(push, f" !     {error.message} Trying again.")
        if not self._patience.is_over(push.app, push.deploy):
            raise Retry(error.message, after=RETRY_SECONDS)
        await self._end(push, reason=error.message)

    def _say(self, push: Push, line: str) -> None:
        self._transcripts.say(push.app, push.deploy, line)
