"""Port: what routes domains to replicas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from proto.names import AppId

Balance = Literal["roundrobin", "leastconn"]


class Upstream(msgspec.Struct, frozen=True):
    """A ready web replica."""

    name: str
    """The replica's id."""
    host: str
    port: int


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """What should happen to requests for an app's domains."""

    app: AppId
    app_name: str
    domains: tuple[str, ...]
    """Lower-case A-label form; a leading ``*.`` matches any one or more labels. An exact name wins."""
    upstreams: tuple[Upstream, ...] = ()
    is_deployed: bool = True
    """False: no release yet; visitors get a page that says so. True without upstreams: "not ready" (503)."""
    balance: Balance = "roundrobin"


Table = Mapping[AppId, Route]
"""Every route. What is not in it gets the page for unknown hosts."""


class RouteRefused(Exception):
    """One app's settings make the proxy's configuration invalid; all others were applied."""

    def __init__(self, app: AppId, reason: str, *, refusals: Mapping[AppId, str]) -> None:
        super().__init__(reason)
        self.app = app
        self.refusals = refusals
        """Every app refused in that table, with its reason. Calls are coalesced, so look yours up here."""


class Proxy(Protocol):
    """The HTTP front of the machine. Runs as its own process and serves on when the agent is down."""

    async def apply(self, table: Table) -> None:
        """Make the proxy serve `table`; return when it does.

        Calls are coalesced: a call returns when a table at least as new as its own is served. One writer. Nothing
        in flight is dropped. What a crash of the proxy would forget is on disk before it is switched.

        Raises:
            Unavailable: the proxy does not answer; what it serves is unknown, and applying again is right.
            RouteRefused: that app's route could not be applied and its former one is served; the others were applied.
        """
        ...

    async def survey(self) -> Sequence[AppId]:
        """Return the apps whose served route differs from the last applied table, by asking the proxy."""
        ...

    async def is_drained(self, app: AppId, upstream: Upstream) -> bool:
        """Tell whether the upstream may be stopped: out of the table, no worker (old ones too) has a session on it, and
        every old worker's reload is longer ago than the keep-alive timeout."""
        ...

    async def problems(self) -> Sequence[tuple[str, str]]:
        """Return what is wrong, each with what to do, for ``doctor``. Empty: all is well. Never raises."""
        ...
