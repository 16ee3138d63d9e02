"""How many visitors HAProxy has files for: each takes two, the client's connection and the one to the app.

With fewer files than its ``maxconn`` would need HAProxy starts all the same, and then fails requests, as it cannot
connect to apps any more. So it is told what it can have: past that, visitors wait for another to leave.
"""

from __future__ import annotations

import re
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agent.errors import UserError
from agent.proxies.haproxy.control import Master

SPARE_FILES: Final = 200
"""For all but visitors: HAProxy takes 40 with two cores, and some more with each."""
_CAPABILITIES = re.compile(r"^CapEff:\t([0-9a-f]+)$", re.MULTILINE)
_SYS_RESOURCE: Final = 1 << 24
"""The capability to raise one's own limits (capabilities(7))."""


def attainable(wanted: int) -> int:
    """Return how many visitors at once a HAProxy that we start has files for, at most `wanted`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or _may_raise_limits():
        return wanted
    return max(1, min(wanted, (hard - SPARE_FILES) // 2))


class Room:
    """Looks whether HAProxy serves as many visitors as the settings say. Fulfils ``Doctor``."""

    def __init__(self, master: Master, *, wanted: int) -> None:
        """`wanted`: visitors at once, of the settings."""
        self._master = master
        self._wanted = wanted

    async def problems(self) -> Sequence[tuple[str, str]]:
        """Return that it serves fewer, if it does. What else is wrong with HAProxy is not said here."""
        try:
            processes = await self._master.processes()
            async with self._master.worker(processes.current.pid) as worker:
                info = await worker.ask("show info")
        except UserError:
            return ()
        return complaints(info, wanted=self._wanted)


def complaints(info: str, *, wanted: int) -> Sequence[tuple[str, str]]:
    """Return what ``show info`` has to say about fewer visitors than `wanted`."""
    facts = dict(line.split(": ", 1) for line in info.splitlines() if ": " in line)
    try:
        files, needed, most = (int(facts[name]) for name in ("Ulimit-n", "Maxsock", "Maxconn"))
    except (KeyError, ValueError):
        return ()
    room = min(most, most - (needed - files) // 2)
    if room >= wanted:
        return ()
    return (
        (
            f"HAProxy may open {files:,} files, enough for {max(0, room):,} connections at once; "
            f"http.max_connections says {wanted:,}.",
            "Raise its limit: LimitNOFILE of pushboat-proxy.service, or ulimit -n where the agent starts it. "
            "Or ask for fewer.",
        ),
    )


def _may_raise_limits() -> bool:
    found = _CAPABILITIES.search(Path("/proc/self/status").read_text())
    return found is not None and bool(int(found[1], 16) & _SYS_RESOURCE)
