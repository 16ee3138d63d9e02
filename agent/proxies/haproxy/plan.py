"""From a table of routes to everything HAProxy should hold, without touching it.

Whatever comes from apps is checked again here, although others have checked it before: it is about to become words of
a configuration file and of a command line. A route that fails is refused alone; its app keeps the route it had.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping

import msgspec

from agent.ports.proxy import Route, Table, Upstream
from agent.proxies.haproxy.pages import NO_RELEASE
from agent.proxies.haproxy.slots import Slot, assign
from proto.names import AppId, domain_name

_APP = re.compile(r"[a-z0-9-]{1,64}")
_SERVER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Maps(msgspec.Struct, frozen=True):
    """Domain to backend. A host is looked up in ``exact``; if it is not there the first suffix it ends in decides."""

    exact: Mapping[str, str] = {}
    wildcards: tuple[tuple[str, str], ...] = ()
    """``(".example.com", backend)``, longest first, so that the most specific wildcard wins."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What HAProxy should hold."""

    routes: Mapping[AppId, Route] = {}
    """Those that are served: of a refused app the former one."""
    slots: tuple[Slot, ...] = ()
    maps: Maps = Maps()
    refusals: Mapping[AppId, str] = {}
    """Apps whose routes were refused, with the reason, for people."""


def make_plan(table: Table, former: Plan, *, spares: int) -> Plan:
    """Return what HAProxy should hold for `table`, given what it held.

    `spares`: how many empty backends to add when they run out.
    """
    # What is served already was found fit: with thousands of apps, looking at each again is what a change would cost.
    new = {app: route for app, route in table.items() if former.routes.get(app) != route}
    refusals = {app: reason for app, route in new.items() if (reason := _why_unfit(app, route))}
    refusals |= _conflicts({app: route for app, route in table.items() if app not in refusals}, former.routes)
    routes = {app: route for app, route in table.items() if app not in refusals}
    if kept := [former.routes[app] for app in refusals if app in former.routes]:
        routes |= {route.app: route for route in _without_conflicts(kept, tuple(routes.values()))}
    slots = assign(former.slots, routes, spares=spares)
    return Plan(routes=routes, slots=slots, maps=_maps(routes, slots), refusals=refusals)


def read_back(slots: tuple[Slot, ...], maps: Maps) -> Plan:
    """Return the plan that the files on disk came from, as far as they tell: apps without a release left no trace."""
    domains: dict[str, list[str]] = {}
    for host, backend in maps.exact.items():
        domains.setdefault(backend, []).append(host)
    for suffix, backend in maps.wildcards:
        domains.setdefault(backend, []).append(f"*{suffix}")
    routes = {
        slot.app: Route(
            app=slot.app,
            app_name=slot.app,
            domains=tuple(domains.get(slot.name, ())),
            upstreams=slot.upstreams,
            balance=slot.balance,
        )
        for slot in slots
        if slot.app
    }
    fit = {app: route for app, route in routes.items() if _why_unfit(app, route) is None}
    # Damage done by hand ends here: a slot that cannot be rendered again is emptied.
    kept = tuple(slot if slot.app in fit else Slot(name=slot.name, balance=slot.balance) for slot in slots)
    return Plan(routes=fit, slots=kept, maps=maps)


def _why_unfit(app: AppId, route: Route) -> str | None:
    if not _APP.fullmatch(app) or route.app != app:
        return "The app's id is malformed."
    for domain in route.domains:
        if not _is_domain(domain):
            return f"{domain!r} is not a domain name."
    for upstream in route.upstreams:
        if not _is_upstream(upstream):
            return f"{upstream.name!r} at {upstream.host!r}:{upstream.port} is not a replica that can be routed to."
    if len({upstream.name for upstream in route.upstreams}) != len(route.upstreams):
        return "Two replicas have the same id."
    if route.balance not in ("roundrobin", "leastconn"):
        return f"{route.balance!r} is not a way to balance requests."
    return None


def _is_domain(text: str) -> bool:
    try:
        return text.isascii() and domain_name(text) == text
    except ValueError:
        return False


def _is_upstream(upstream: Upstream) -> bool:
    try:
        # As HAProxy will show it, and without a scope: what follows ``%`` may be anything.
        is_plain = "%" not in upstream.host and str(ipaddress.ip_address(upstream.host)) == upstream.host
    except ValueError:
        return False
    return is_plain and _SERVER.fullmatch(upstream.name) is not None and 1 <= upstream.port <= 65535


def _conflicts(routes: Table, former: Mapping[AppId, Route]) -> dict[AppId, str]:
    """Refuse all apps but one where several claim a domain or a replica: who had it keeps it, else the first id."""
    if _are_apart(routes.values()):
        return {}
    claimants: dict[str, list[AppId]] = {}
    for app in sorted(routes):
        for claim in _claims(routes[app]):
            claimants.setdefault(claim, []).append(app)
    refusals: dict[AppId, str] = {}
    for claim, apps in claimants.items():
        winner = next((app for app in apps if app in former and claim in _claims(former[app])), apps[0])
        refusals |= {app: f"The {claim} belongs to another app." for app in apps if app != winner}
    return refusals


def _are_apart(routes: Collection[Route]) -> bool:
    """Tell, quickly, that no domain and no replica stands in two places. A no may be wrong: it may be one app."""
    domains = [domain for route in routes for domain in route.domains]
    names = [upstream.name for route in routes for upstream in route.upstreams]
    return len(set(domains)) == len(domains) and len(set(names)) == len(names)


def _without_conflicts(kept: Iterable[Route], accepted: tuple[Route, ...]) -> Iterable[Route]:
    """Yield the former routes of refused apps, less what another app's accepted route now has."""
    gone = {claim for route in accepted for claim in _claims(route)}
    for route in kept:
        yield msgspec.structs.replace(
            route,
            domains=tuple(domain for domain in route.domains if f"domain {domain}" not in gone),
            upstreams=tuple(upstream for upstream in route.upstreams if f"replica {upstream.name}" not in gone),
        )


def _claims(route: Route) -> frozenset[str]:
    domains = {f"domain {domain}" for domain in route.domains}
    return frozenset(domains | {f"replica {upstream.name}" for upstream in route.upstreams})


def _maps(routes: Mapping[AppId, Route], slots: tuple[Slot, ...]) -> Maps:
    backends = {slot.app: slot.name for slot in slots if slot.app}
    pairs = [(domain, backends.get(app, NO_RELEASE)) for app, route in routes.items() for domain in route.domains]
    exact = {domain: backend for domain, backend in pairs if not domain.startswith("*.")}
    wild = {domain[1:]: backend for domain, backend in pairs if domain.startswith("*.")}
    return Maps(dict(sorted(exact.items())), tuple(sorted(wild.items(), key=lambda pair: (-len(pair[0]), pair[0]))))
