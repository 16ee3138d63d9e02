"""When a replica that was taken out of the table may be stopped.

After a reload the old worker goes on with its connections *and its old servers*: it refuses to change them. What is in
flight there ends where it began; what comes later it hands over to the current worker (see `config`). So it takes three
things: no session on any worker, the current one gives the replica nothing new, and every old worker that knows it was
replaced longer ago than an idle client may wait. The last one is for workers of an older Pushboat, which did not hand
over yet; it costs nothing but time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from agent.proxies.haproxy.control import Process, Processes
from agent.proxies.haproxy.held import Key, Server


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """All workers at one moment."""

    servers: Mapping[Key, Server]
    """Of the current worker."""
    sessions: Mapping[Key, int]
    """Of the current worker: connections in use."""
    old: Sequence[OldWorker]


class OldWorker(msgspec.Struct, frozen=True, kw_only=True):
    """A replaced worker."""

    replaced_ago: int
    """Seconds, rounded down."""
    sessions: Mapping[Key, int] | None
    """`None`: it did not answer (it is just ending)."""


def replaced_ago(worker: Process, processes: Processes) -> int:
    """Return how many seconds ago, at least, `worker` was replaced: the age of the oldest living worker after it."""
    later = [other.uptime for other in (processes.current, *processes.old) if other.reloads < worker.reloads]
    return max(later, default=0)


def is_drained(look: Look, name: str, *, idle_seconds: float) -> bool:
    """Tell whether the server of that name may be stopped. `idle_seconds`: how long an idle client may wait."""
    for key, server in look.servers.items():
        if key[1] == name and (not server.is_withdrawn or look.sessions.get(key, 0)):
            return False
    return all(_is_done(worker, name, idle_seconds) for worker in look.old)


def _is_done(worker: OldWorker, name: str, idle_seconds: float) -> bool:
    if worker.sessions is None:
        return False
    here = [count for key, count in worker.sessions.items() if key[1] == name]
    # Ages are whole seconds, rounded down: one more makes sure.
    return not here or (not any(here) and worker.replaced_ago > idle_seconds + 1)
