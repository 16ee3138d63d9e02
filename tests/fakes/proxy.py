"""A `Proxy` in memory: serves what it was told, and can be told to fail, to refuse, to drift and to be busy."""

from __future__ import annotations

from collections.abc import Sequence

from agent.errors import Unavailable
from agent.ports.proxy import Route, RouteRefused, Table, Upstream
from proto.names import AppId


class FakeProxy:
    """Keeps every table it was given. Kept honest by ``tests/contracts/test_proxy.py``."""

    def __init__(self) -> None:
        self.tables: list[dict[AppId, Route]] = []
        """Every table that `apply` was called with while available, oldest first."""
        self.served: dict[AppId, Route] = {}
        """What visitors get now."""
        self.is_available = True
        """False: every call but `problems` raises ``Unavailable`` and changes nothing."""
        self.refused: dict[AppId, str] = {}
        """Apps whose routes `apply` refuses, with the reason; their former route stays."""
        self.sessions: dict[str, int] = {}
        """Requests in flight by upstream name."""
        self._wanted: dict[AppId, Route] = {}
        self._coming: Table = {}
        """The newest table that `apply` was called with, whatever became of it."""

    def tamper(self, app: AppId) -> None:
        """Change what is served for `app` behind the agent's back, as a hand edit would."""
        self.served.pop(app, None)

    def upstreams(self, app: AppId) -> tuple[Upstream, ...]:
        """Return where requests for `app` go now."""
        route = self.served.get(app)
        return route.upstreams if route else ()

    def expect(self, table: Table) -> None:
        """Note that `table` is on its way, for a call of `apply` that does not get here yet."""
        self._coming = table

    async def apply(self, table: Table) -> None:
        """Serve `table`, but for the refused apps."""
        self._coming = table
        self._check()
        self.tables.append(dict(table))
        refused = {app: reason for app, reason in self.refused.items() if app in table}
        kept = {app: self.served[app] for app in refused if app in self.served}
        self.served = {app: route for app, route in table.items() if app not in refused} | kept
        self._wanted = dict(self.served)
        for app in refused:
            raise RouteRefused(app, refused[app], refusals=refused)

    async def survey(self) -> Sequence[AppId]:
        """Return the apps that were tampered with."""
        self._check()
        apps = self._wanted.keys() | self.served.keys()
        return sorted(app for app in apps if self._wanted.get(app) != self.served.get(app))

    async def is_drained(self, app: AppId, upstream: Upstream) -> bool:
        """Tell whether the upstream is out of the tables that are served and to be served, and has no sessions."""
        self._check()
        coming = self._coming.get(app)
        is_routed = upstream in self.upstreams(app) or (coming is not None and upstream in coming.upstreams)
        return not is_routed and not self.sessions.get(upstream.name)

    async def problems(self) -> Sequence[tuple[str, str]]:
        """Report being unavailable, if so."""
        return () if self.is_available else (("The proxy does not answer.", "Start it again."),)

    def _check(self) -> None:
        if not self.is_available:
            raise Unavailable("proxy.unavailable", "The proxy does not answer.", "Start it again.")
