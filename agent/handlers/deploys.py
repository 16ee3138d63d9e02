"""Moves deploys along where no long work is needed: built -> released, and the end of those that cannot go on."""

from __future__ import annotations

from agent.bus.subscriptions import on
from agent.errors import Retry
from agent.lifecycle import app_env, deploys, tasks
from agent.ports.logs import Transcripts
from agent.ports.world import Ids
from agent.state.database import Database
from proto.events import HandlerGaveUp, ImageBuilt

SWITCH_WAIT_SECONDS = 0.2
"""A newer deploy waits so long before it looks again whether an older one has switched, which takes milliseconds."""


class Releaser:
    """Makes a release of each deploy that has its image."""

    def __init__(self, database: Database, *, transcripts: Transcripts, ids: Ids) -> None:
        self._database = database
        self._transcripts = transcripts
        self._ids = ids

    @on(ImageBuilt, name="deploys.release", limit=50, tries=5)
    async def release(self, event: ImageBuilt) -> None:
        """Fix image, config and process table as one release, unless another deploy is just being switched to."""
        async with self._database.transaction() as tx:
            switching = await tx.deploys.switching(event.app)
            keys = [] if switching else await app_env.take(tx, deploy=event.deploy, token=self._ids.token)
            release = None if switching else await deploys.create_release(tx, deploy=event.deploy, new_id=self._ids.new)
        if switching:
            raise Retry("an older deploy is being switched to", after=SWITCH_WAIT_SECONDS)
        if release and keys:
            self._transcripts.say(event.app, event.deploy, f"-----> Config from app.json: {' '.join(keys)}")
        if release:
            self._transcripts.say(event.app, event.deploy, f"-----> Releasing v{release.version}...")


class Undertaker:
    """Ends deploys that one of our own mistakes would leave without an outcome."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @on(HandlerGaveUp, name="deploys.bury", limit=50, tries=5)
    async def bury(self, event: HandlerGaveUp) -> None:
        """Fail the deploy that a given-up delivery was about."""
        if event.deploy is None:
            return
        async with self._database.transaction() as tx:
            if deploy := await tx.deploys.get(event.deploy):
                reason = f"Pushboat itself failed ({event.handler}, event {event.event_id}). See the agent's log."
                await tasks.abandon(tx, deploy=deploy)
                await deploys.fail(tx, deploy=deploy, stage="agent", reason=reason)
