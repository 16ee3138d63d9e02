"""Waiting until what should run does, and until what should not does not."""

from __future__ import annotations

from agent.commands.caveats import STORED, tell_if_docker_is_silent
from agent.commands.command import Context
from agent.commands.waiting import listening, wait_until
from agent.errors import UserError
from agent.lifecycle import replicas
from agent.ports.scheduler import CheckSpec
from agent.state.apps import App
from agent.state.releases import Release
from proto.events import ReplicaLost
from proto.names import ProcessType

START_SECONDS = 60.0
"""For containers to start, and for checks of images that the release does not spell out."""

STOP_SECONDS = 120.0
"""How long ``ps:stop`` waits. Stopping takes 30 s by default, and goes on without anybody who watches."""


async def await_replicas(ctx: Context, app: App, *, process: ProcessType | None = None) -> None:
    """Return once every wanted replica, or those of one process type, is ready.

    Those of the live release, or of the one that is taking its place.

    Raises:
        UserError: ``replica.not-ready`` after the time that the checks may take, with what was seen of the cause.
    """
    release = await ctx.database.read.releases.get(app.id, app.live_release or 0)
    if release is None:
        return
    await tell_if_docker_is_silent(ctx, STORED)

    async def are_ready() -> bool:
        async with ctx.database.snapshot() as tables:
            is_whole = await replicas.are_ready(tables, app=app.id, release=release.version, process=process)
            # While a deploy rolls, those that are lacking come of the new release.
            return is_whole and (process is not None or await replicas.are_enough(tables, release=release))

    with listening(ctx.database, app=app.id) as wakeups:
        if await wait_until(ctx, app=app.id, condition=are_ready, seconds=patience(release)):
            return
        reasons = [
            f"{event.process}.{event.number}: {event.reason}"
            for event in wakeups.events
            if isinstance(event, ReplicaLost) and process in (None, event.process)
        ]
    what = f"{process} processes" if process else "processes"
    raise UserError(
        "replica.not-ready",
        f"Not all {what} of {app.name} are ready." + (f"\n{reasons[-1]}" if reasons else ""),
        f"They go on being tried. See: ps:report {app.name}, logs {app.name}",
    )


async def await_stop(ctx: Context, app: App) -> bool:
    """Return true once nothing of the app runs, and false if something still does after `STOP_SECONDS`."""
    await tell_if_docker_is_silent(ctx, STORED)

    async def is_gone() -> bool:
        return not await ctx.database.read.replicas.of_app(app.id)

    return await wait_until(ctx, app=app.id, condition=is_gone, seconds=STOP_SECONDS)


def patience(release: Release) -> float:
    """Return the seconds within which every process of a release should be ready, if it ever is."""
    checks = [check for plan in release.plan.processes for check in plan.checks]
    return START_SECONDS + max((_longest(check) for check in checks), default=0.0)


def _longest(check: CheckSpec) -> float:
    return check.initial_delay + check.uptime + check.attempts * (check.timeout + check.wait)
