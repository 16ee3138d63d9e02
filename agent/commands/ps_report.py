"""``ps:report``: what runs."""

from __future__ import annotations

import asyncio

from agent.commands.caveats import tell_if_docker_is_silent
from agent.commands.command import Command, Context
from agent.commands.replies import Reply
from agent.commands.reports import AppOrEvery, Row, Rows, flag, report
from agent.commands.settings import property_rows, rows_of
from agent.lifecycle import strategies
from agent.ports.scheduler import RESTARTS
from agent.state.apps import App
from agent.state.database import Tables
from agent.state.releases import Release
from agent.state.replicas import WANTED, Replica

RESTART_POLICY = f"on-failure:{RESTARTS}"
"""What the engine does with a replica that passed its check and fails, in its words. Nobody can set it."""

SHORT_ID = 11
"""Characters of a container's id, as Dokku prints it."""


class PsReport(Command, frozen=True, kw_only=True):
    """Report what runs of an app, or of all.

    Answers from what the agent knows, also while Docker does not answer; that is said then.
    """

    name = "ps:report"
    permission = "read"
    examples = ("ps:report blog", "ps:report blog --running")

    app: AppOrEvery = None
    row: Row = ""

    async def run(self, ctx: Context) -> Reply:
        """Answer from the database alone."""

        async def rows(app: App | None) -> Rows:
            if app is None:
                return {**await property_rows(ctx, app, noun="ps"), "ps-global-restart-policy": ""}
            return await _rows(ctx, app)

        reply, _ = await asyncio.gather(
            report(ctx, self, noun="ps", asked=self.row, rows=rows), tell_if_docker_is_silent(ctx)
        )
        return reply


async def strategy_rows(read: Tables, app: App, *, noun: str) -> Rows:
    """Return a row for each process type of the app: how the next deploy replaces it."""
    release, told = await asyncio.gather(_live(read, app), strategies.told(read, app.id))
    return _strategy_rows(release, told, noun=noun)


def _strategy_rows(release: Release | None, told: strategies.Strategies, *, noun: str) -> Rows:
    types = [plan.type for plan in release.plan.processes] if release else []
    return {f"{noun}-computed-strategy.{process}": told.of(process) for process in types}


async def _live(read: Tables, app: App) -> Release | None:
    return await read.releases.get(app.id, app.live_release) if app.live_release else None


async def _rows(ctx: Context, app: App) -> Rows:
    read = ctx.database.read
    every, release, layers = await asyncio.gather(
        read.replicas.of_app(app.id), _live(read, app), read.properties.layers(app.id)
    )
    replicas = [replica for replica in every if replica.release == app.live_release]
    can_scale = release is None or not release.plan.formation
    rows = {
        **rows_of(ctx, layers, noun="ps", is_of_app=True),
        "deployed": flag(app.live_release is not None),
        "processes": str(sum(replica.state in WANTED and not replica.is_replaced for replica in replicas)),
        "ps-can-scale": flag(can_scale),
        "ps-computed-restart-policy": RESTART_POLICY,
        "ps-global-restart-policy": "",
        "ps-restart-policy": "",
        "restore": flag(not app.is_stopped),
        "running": _running(replicas),
        **_strategy_rows(release, strategies.Strategies(layers), noun="ps"),
    }
    # A replica that is replaced or drains has the number of the one that is wanted, which comes last and counts.
    for replica in sorted(replicas, key=lambda replica: replica.state in WANTED and not replica.is_replaced):
        rows[f"status-{replica.label}"] = _status(replica)
    return rows


def _running(replicas: list[Replica]) -> str:
    running = [replica.state == "ready" for replica in replicas if replica.state in WANTED]
    return "mixed" if any(running) and not all(running) else flag(bool(running) and all(running))


def _status(replica: Replica) -> str:
    state = {"ready": "running", "started": "starting", "planned": "waiting" if replica.losses else "planned"}
    known = state.get(replica.state, replica.state)
    return f"{known} (CID: {replica.container[:SHORT_ID]})" if replica.container else known
