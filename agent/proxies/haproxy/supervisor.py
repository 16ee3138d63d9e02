"""Keeps HAProxy running where no systemd does: starts it, takes over a running one, brings it back when it dies."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import structlog

from agent.errors import Misconfigured, Unavailable, UserError
from agent.proxies.haproxy.binds import Bind
from agent.proxies.haproxy.config import Layout
from agent.proxies.haproxy.control import CONNECT_SECONDS
from agent.proxies.haproxy.process import Identity, end, ended, launch, meet, recall

PAUSES: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.0)
"""Seconds before each further try to bring HAProxy back; the last one repeats. A killed master's workers need a moment
to notice and to free the port."""
START_TRIES: Final = 4
"""At the agent's own start, for the same reason; a port that is still taken then is somebody else's."""
UNKNOWN_SECONDS: Final = 0.2
"""For a socket to accept, where nothing but the socket tells of a HAProxy: most likely it was left by a dead one."""

log = structlog.get_logger()


async def shutdown(folder: Path) -> bool:
    """End the HAProxy whose files are in `folder` (absolute); tell whether there was one.

    The files stay. Repeating is harmless. The agent must have stopped before, else it brings HAProxy back.
    """
    layout = Layout(folder)
    identity = recall(layout) or await _ask(layout)
    if identity is None:
        return False
    await end(identity)
    return True


class Supervisor:
    """Owns the task that waits for HAProxy's end. HAProxy itself is nobody's child and outlives the agent."""

    def __init__(self, binary: str, layout: Layout, binds: tuple[Bind, ...]) -> None:
        self._binary = binary
        self._layout = layout
        self._binds = binds
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Have HAProxy running, and from now on keep it so.

        Raises:
            Misconfigured: it cannot start; the message says why, and who holds the port if that is it.
        """
        identity = await self._adopt() or await self._launch_patiently()
        self._task = asyncio.create_task(self._keep(identity), name="haproxy supervisor")

    async def close(self) -> None:
        """Stop watching. HAProxy goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _adopt(self) -> Identity | None:
        known = recall(self._layout)
        if not self._layout.master_socket.exists():
            return None
        try:
            return await meet(self._layout, patience=CONNECT_SECONDS if known else UNKNOWN_SECONDS)
        except Unavailable:
            if known is not None:
                # It lives and does not answer: hung for good, or else it would have.
                log.warning("proxy.hung", pid=known.pid)
                await end(known)
            return None

    async def _launch_patiently(self) -> Identity:
        for pause in PAUSES[: START_TRIES - 1]:
            try:
                return await launch(self._binary, self._layout, self._binds)
            except Misconfigured as error:
                if error.code != "proxy.port-taken":
                    raise
            await asyncio.sleep(pause)
        return await launch(self._binary, self._layout, self._binds)

    async def _keep(self, identity: Identity) -> None:
        while True:
            await ended(identity)
            log.warning("proxy.ended", pid=identity.pid)
            identity = await self._bring_back()
            log.info("proxy.restarted", pid=identity.pid)

    async def _bring_back(self) -> Identity:
        tries = 0
        while True:
            try:
                return await self._adopt() or await launch(self._binary, self._layout, self._binds)
            except (UserError, OSError) as error:
                log.warning("proxy.restart-failed", reason=str(error), tries=tries + 1)
            except Exception:
                # A bug of ours must not be what keeps HAProxy down.
                log.exception("proxy.restart-failed", tries=tries + 1)
            await asyncio.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
            tries += 1


async def _ask(layout: Layout) -> Identity | None:
    """Find the master by its socket, in case the agent died before it could note whom it had started."""
    if not layout.master_socket.exists():
        return None
    try:
        return await meet(layout, patience=UNKNOWN_SECONDS)
    except Unavailable:
        return None
