"""What a running HAProxy holds, by its own account, and the orders that bring it to what it should hold. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from agent.ports.proxy import Upstream
from agent.proxies.haproxy.config import CURRENT, HANDOVER, server_words
from agent.proxies.haproxy.control import lines_of
from agent.proxies.haproxy.plan import Maps
from agent.proxies.haproxy.slots import Slot

Key = tuple[str, str]
"""Backend and server."""

_MAINTENANCE = 0x01
_DRAIN = 0x08
_RUNNING = 2
"""``srv_admin_state`` and ``srv_op_state`` of ``show servers state`` (management guide)."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """One server of a worker."""

    host: str
    port: int
    is_serving: bool
    """Gets its full share of requests."""
    is_withdrawn: bool
    """Gets no new requests: drained, or in maintenance."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker holds. Slots without servers do not appear."""

    pid: int
    frame: str
    servers: Mapping[Key, Server]
    handover: Mapping[str, Server]
    """Servers to which this worker will hand its requests over once it is replaced; see `HANDED_OVER`."""
    exact: Mapping[str, Sequence[str]]
    """Every backend that is listed for the domain; one, unless somebody was here by hand."""
    wildcards: Sequence[tuple[str, str]]


HANDED_OVER: Mapping[str, Server] = {CURRENT: Server(host="-", port=0, is_serving=True, is_withdrawn=False)}
"""The handover as it should be: a socket, which HAProxy shows as no address."""


def parse_servers(answer: str) -> dict[Key, Server]:
    """Return what ``show servers state`` tells of replicas."""
    return {key: server for key, server in _parse_servers(answer).items() if key[0] != HANDOVER}


def parse_handover(answer: str) -> dict[str, Server]:
    """Return what ``show servers state`` tells of the handover, by server."""
    return {key[1]: server for key, server in _parse_servers(answer).items() if key[0] == HANDOVER}


def _parse_servers(answer: str) -> dict[Key, Server]:
    servers: dict[Key, Server] = {}
    for line in lines_of(answer):
        words = line.split()
        operation, admin, weight = int(words[5]), int(words[6]), int(words[7])
        servers[words[1], words[3]] = Server(
            host=words[4],
            port=int(words[18]),
            is_serving=operation == _RUNNING and admin == 0 and weight == 1,
            is_withdrawn=bool(admin & (_MAINTENANCE | _DRAIN)),
        )
    return servers


def parse_map(answer: str) -> list[tuple[str, str]]:
    """Return what ``show map <file>`` tells, in its order: an address in memory, the key and the value a line."""
    return [(words[1], words[2]) for line in lines_of(answer) if len(words := line.split()) == 3]


def parse_sessions(answer: str) -> dict[Key, int]:
    """Return how many connections to each server are in use, websockets included, from ``show servers conn``."""
    sessions: dict[Key, int] = {}
    for line in lines_of(answer):
        words = line.split()
        backend, _, name = words[0].partition("/")
        sessions[backend, name] = int(words[6])
    return sessions


def wanted_servers(slots: Iterable[Slot]) -> dict[Key, Upstream]:
    """Return the servers that should get requests."""
    return {(slot.name, upstream.name): upstream for slot in slots for upstream in slot.upstreams}


def orders_to_add(held: Held, wanted: Mapping[Key, Upstream]) -> list[str]:
    """Return the orders after which every wanted server gets requests."""
    orders: list[str] = []
    for (backend, name), upstream in wanted.items():
        target = f"{backend}/{name}"
        server = held.servers.get((backend, name))
        if server is None:
            orders += [f"add server {backend}/{server_words(upstream)}", f"enable server {target}"]
            continue
        if (server.host, server.port) != (upstream.host, upstream.port):
            orders.append(f"set server {target} addr {upstream.host} port {upstream.port}")
        if not server.is_serving:
            orders += [f"set server {target} state ready", f"set weight {target} 1"]
    return orders


def orders_to_hand_over(held: Held, words: str) -> list[str]:
    """Return the orders that mend the handover, whose server has `words`. A replaced worker would refuse them."""
    orders: list[str] = []
    strangers = [name for name, server in held.handover.items() if name != CURRENT or server.host != "-"]
    for name in strangers:
        orders += [f"set server {HANDOVER}/{name} state maint", f"del server {HANDOVER}/{name}"]
    if CURRENT in strangers or CURRENT not in held.handover:
        orders += [f"add server {HANDOVER}/{CURRENT} {words}", f"enable server {HANDOVER}/{CURRENT}"]
    elif not held.handover[CURRENT].is_serving:
        orders += [f"set server {HANDOVER}/{CURRENT} state ready", f"set weight {HANDOVER}/{CURRENT} 1"]
    return orders


def orders_to_map(held: Held, maps: Maps, file: str) -> list[str]:
    """Return the orders that bring the exact map, known to HAProxy as `file`, to what it should be."""
    orders: list[str] = []
    for host, backend in maps.exact.items():
        match held.exact.get(host, ()):
            case [only] if only == backend:
                continue
            case [_]:
                orders.append(f"set map {file} {host} {backend}")
            case []:
                orders.append(f"add map {file} {host} {backend}")
            case _:
                orders += [f"del map {file} {host}", f"add map {file} {host} {backend}"]
    return orders + [f"del map {file} {host}" for host in held.exact.keys() - maps.exact.keys()]


def orders_to_withdraw(held: Held, wanted: Mapping[Key, Upstream]) -> list[str]:
    """Return the orders after which no other server gets a new request. What they have in flight goes on."""
    return [
        f"set server {backend}/{name} state drain"
        for (backend, name), server in held.servers.items()
        if (backend, name) not in wanted and not server.is_withdrawn
    ]


def differing_backends(held: Held, slots: Iterable[Slot], maps: Maps) -> set[str]:
    """Return the backends whose servers or domains are not as they should be."""
    wanted = wanted_servers(slots)
    backends = {key[0] for key, upstream in wanted.items() if not _is_as_wanted(held.servers.get(key), upstream)}
    backends |= {key[0] for key, server in held.servers.items() if key not in wanted and not server.is_withdrawn}
    pairs = {(host, backend) for host, listed in held.exact.items() for backend in listed}
    backends |= {backend for _, backend in pairs ^ set(maps.exact.items())}
    backends |= {maps.exact[host] for host, listed in held.exact.items() if len(listed) > 1 and host in maps.exact}
    if tuple(held.wildcards) != maps.wildcards:
        different = set(held.wildcards) ^ set(maps.wildcards) or set(maps.wildcards)
        backends |= {backend for _, backend in different}
    return backends


def _is_as_wanted(server: Server | None, upstream: Upstream) -> bool:
    return server is not None and server.is_serving and (server.host, server.port) == (upstream.host, upstream.port)
