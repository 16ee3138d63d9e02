"""Makes the proxy serve what it should: each app's domains lead to the ready web replicas of the release that serves.

While a deploy rolls, replicas of two releases are in the route: new ones that took an old one's place, and the rest.

While a deploy switches, its release is the one that serves: the route is moved first, and the row follows once the
proxy says that it serves it. If the agent dies in between, the row still says "switching" and the same is done again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import structlog

from agent.bus.subscriptions import reconciles, surveys
from agent.errors import Retry, Unavailable
from agent.handlers.patience import Patience
from agent.lifecycle import deploys, domains, replicas
from agent.ports.logs import Transcripts
from agent.ports.proxy import Balance, Proxy, Route, RouteRefused, Table, Upstream
from agent.ports.world import Clock
from agent.state.apps import App
from agent.state.database import Database, Tables
from agent.state.deploys import Deploy
from agent.state.replicas import Replica
from proto.events import (
    AppCreated,
    AppDestroyed,
    AppRenamed,
    AppStarted,
    AppStopped,
    DeployFailed,
    DeployLive,
    DomainsChanged,
    GlobalDomainsChanged,
    PropertyChanged,
    ReplicaLost,
    ReplicaReady,
    ReplicasDraining,
    ReplicasReady,
    ScaleChanged,
)
from proto.names import SERVER, AppId, DeployId

log = structlog.get_logger(__name__)

SWITCH_PATIENCE_SECONDS = 30.0
"""How long a deploy waits for a proxy that does not answer before it fails, unswitched."""
SILENCE_SECONDS = 3.0
"""How long the proxy may take over a switch before the deploy's watchers are told what they wait for. A reload with a
thousand apps takes less than a second."""
AGAIN_SECONDS = 1.0
"""Before a proxy that did not answer is asked again for the sake of a deploy."""


class ProxyReconciler:
    """Keeps the proxy's table."""

    def __init__(
        self,
        database: Database,
        *,
        proxy: Proxy,
        transcripts: Transcripts,
        clock: Clock,
        drain_seconds: float,
        turn: asyncio.Lock,
    ) -> None:
        """`turn`: held while a table is made, from what it is read from to the call that hands it to the proxy."""
        self._database = database
        self._proxy = proxy
        self._transcripts = transcripts
        self._patience = Patience(clock, seconds=SWITCH_PATIENCE_SECONDS)
        self._drain_seconds = drain_seconds
        self._table: dict[AppId, Route] = {}
        self._turn = turn
        self._is_loaded = False
        self._told: dict[AppId, DeployId] = {}
        """Deploys whose watchers know that the proxy is waited for."""

    @reconciles(
        AppCreated,
        AppRenamed,
        AppDestroyed,
        AppStarted,
        AppStopped,
        DeployFailed,
        DeployLive,
        DomainsChanged,
        GlobalDomainsChanged,
        PropertyChanged,
        ReplicaLost,
        ReplicaReady,
        ReplicasDraining,
        ReplicasReady,
        ScaleChanged,
        name="proxy.route",
        limit=64,
    )
    async def route(self, app: AppId) -> float | None:
        """Serve the app's route as it should be now, and make the deploy live that switches to it.

        Raises:
            Unavailable: the proxy does not answer.
            Retry: the same, while a deploy waits for it; or its route was changed meanwhile.
        """
        switching = await self._update(app)
        if switching is not None:
            self._patience.begin(app, switching.id)
        silence = f"The proxy has not answered for {SILENCE_SECONDS:.0f} s."
        telling = asyncio.get_running_loop().call_later(SILENCE_SECONDS, self._tell, switching, silence)
        # No await between the copy and the call: tables reach the proxy in the order in which they were made.
        table = dict(self._table)
        try:
            await self._proxy.apply(table)
        except RouteRefused as error:
            # The others were applied, and calls are coalesced: the refusal may be about somebody else.
            if reason := error.refusals.get(app):
                log.warning("proxy.refused", reason=reason)
                await self._fail(switching, f"The proxy refuses the route: {reason}")
            else:
                await self._make_live(switching, table)
        except Unavailable as error:
            if switching is None:
                raise
            self._tell(switching, error.message)
            if self._patience.is_over(app, switching.id):
                await self._fail(switching, error.message)
            raise Retry(error.message, after=AGAIN_SECONDS) from error
        else:
            self._patience.end(app)
            await self._make_live(switching, table)
        finally:
            telling.cancel()
        return None

    @surveys
    async def survey(self) -> Iterable[AppId]:
        """Return the apps whose route is not served as it should be, by one look at the proxy."""
        if not self._is_loaded:
            under_way = await self._database.read.deploys.under_way()
            return {SERVER} | {deploy.app for deploy in under_way if deploy.status == "switching"}
        return await self._proxy.survey()

    async def _update(self, app: AppId) -> Deploy | None:
        """Bring the table up to date with what is committed now; return the app's deploy that switches.

        What fails changes nothing: the next table, of whichever app, would take half of it to the proxy.
        """
        async with self._turn:
            async with self._database.snapshot() as tables:
                switching = await _to_switch(tables, app)
                is_whole = app == SERVER or not self._is_loaded
                made = await _all_routes(tables) if is_whole else {app: await _route(tables, app)}
            if is_whole:
                self._table.clear()
                self._is_loaded = True
            for name, route in made.items():
                if route is not None:
                    self._table[name] = route
                else:
                    self._table.pop(name, None)
            return switching

    def _tell(self, switching: Deploy | None, reason: str) -> None:
        """Say once what a deploy waits for and what comes of it."""
        if switching is None or self._told.get(switching.app) == switching.id:
            return
        self._told[switching.app] = switching.id
        self._transcripts.say(switching.app, switching.id, f" !     {reason}")
        self._transcripts.say(
            switching.app,
            switching.id,
            f"       Waiting up to {SWITCH_PATIENCE_SECONDS:.0f} s for it. Should that not do, the deploy fails, and"
            " what serves now goes on serving.",
        )

    async def _make_live(self, switching: Deploy | None, table: Table) -> None:
        """Make the deploy live that `table` switched to, if that still holds.

        Raises:
            Retry: its route was changed meanwhile.
        """
        if switching is None:
            return
        text = await self._database.read.properties.effective(switching.app, "checks.wait-to-retire")
        async with self._database.transaction() as tx:
            if await _to_switch(tx, switching.app) is None:
                # It lost a replica meanwhile, so that others may have been given the former route back already.
                # That replica's return or failure leads here again.
                return
            if self._table.get(switching.app) != table.get(switching.app):
                raise Retry("The route was changed while it was switched.", after=AGAIN_SECONDS)
            await deploys.live(tx, deploy=switching, drain_seconds=float(text) if text else self._drain_seconds)

    async def _fail(self, switching: Deploy | None, reason: str) -> None:
        if switching is None:
            return
        async with self._database.transaction() as tx:
            await deploys.fail(tx, deploy=switching, stage="switch", reason=reason)


async def _all_routes(tables: Tables) -> dict[AppId, Route]:
    """Return every route, by a few queries however many apps there are."""
    own = await tables.domains.all()
    global_ones = await tables.domains.global_ones()
    properties = await tables.properties.all()
    apps = {app.id: app for app in await tables.apps.all()}
    switching: dict[AppId, int | None] = {}
    for deploy in await tables.deploys.under_way():
        if deploy.status == "switching" and deploy.app in apps and await _to_switch(tables, deploy.app):
            switching[deploy.app] = deploy.release
    rows: dict[AppId, list[Replica]] = defaultdict(list)
    for row in await tables.replicas.all():
        rows[row.app].append(row)
    server = properties.get(SERVER, {})
    claimed = domains.claims(tuple(apps.values()), own, properties)
    return {
        app.id: await _route_of(
            tables,
            app,
            names=domains.names_of(app, own.get(app.id, []), global_ones, properties.get(app.id, {}), claimed),
            properties={**server, **properties.get(app.id, {})},
            switching=switching.get(app.id),
            rows=rows[app.id],
        )
        for app in apps.values()
    }


async def _route(tables: Tables, app_id: AppId) -> Route | None:
    app = await tables.apps.get(app_id)
    if app is None or app.destroyed_at is not None:
        return None
    switching = await _to_switch(tables, app.id)
    layers = await tables.properties.layers(app.id)
    return await _route_of(
        tables,
        app,
        names=await domains.of_app(tables, app),
        properties={**layers.server, **layers.own},
        switching=switching.release if switching else None,
        rows=await tables.replicas.of_app(app.id),
    )


async def _to_switch(tables: Tables, app: AppId) -> Deploy | None:
    """Return the deploy that the route is to be switched to now, if there is one.

    One of its replicas may have been lost since they all were ready. What served before goes on serving then, until
    that replica is ready again or has failed the deploy.
    """
    deploy = await tables.deploys.switching(app)
    if deploy is None or deploy.release is None:
        return None
    return deploy if await replicas.are_ready(tables, app=app, release=deploy.release) else None


async def _route_of(
    tables: Tables,
    app: App,
    *,
    names: Sequence[str],
    properties: Mapping[str, str],
    switching: int | None,
    rows: Sequence[Replica],
) -> Route:
    """Return an app's route. `switching`: the release that it is to be switched to now."""
    balance: Balance = "leastconn" if properties.get("proxy.balance") == "leastconn" else "roundrobin"
    if switching is None:
        serving = await replicas.routed(tables, app, rows)
    else:
        serving = [row for row in rows if row.release == switching and replicas.is_serving(row)]
    return Route(
        app=app.id,
        app_name=app.name,
        domains=tuple(names),
        upstreams=tuple(Upstream(row.id, row.address, row.port) for row in serving),
        is_deployed=(switching or app.live_release) is not None,
        balance=balance,
    )
