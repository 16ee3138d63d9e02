"""HAProxy behind the `Proxy` port.

`apply` goes: plan (pure) -> files on disk -> what the worker holds -> orders that close the gap. Nothing is assumed of
HAProxy: what it holds is read when it is first seen, whenever another worker answers and after every failure; in
between the agent is the only one who changes it, and `survey` finds out if not. A reload happens only when the frame of
the file differs from the one the worker has (see `config`).

One writer: callers share runs (see `rounds`), and each run applies the newest table there is. Stopping the agent leaves
HAProxy alone.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog

from agent.errors import Misconfigured, Unavailable, UserError
from agent.ports.proxy import RouteRefused, Table, Upstream
from agent.proxies.haproxy import process, runtime
from agent.proxies.haproxy.binds import parse_binds, parse_networks
from agent.proxies.haproxy.config import Layout, Options, frame_of, handover_words, render_config
from agent.proxies.haproxy.control import Master, OrderRefused, Worker, unavailable
from agent.proxies.haproxy.drain import Look, is_drained
from agent.proxies.haproxy.files import Files
from agent.proxies.haproxy.held import HANDED_OVER, Held, differing_backends
from agent.proxies.haproxy.plan import Plan, make_plan
from agent.proxies.haproxy.room import Room, attainable
from agent.proxies.haproxy.rounds import Rounds
from agent.proxies.haproxy.supervisor import Supervisor
from proto.names import AppId

BINARY: Final = "/usr/sbin/haproxy"
USER: Final = "haproxy"
"""Debian's package makes this account; workers become it where HAProxy is started as root."""
OLDEST: Final = (2, 6)
"""HAProxy of Debian 12; ``add server`` is not experimental from here on."""
MAX_SOCKET_PATH: Final = 95
"""Bytes: 107 (unix(7)) less what HAProxy appends while it binds."""
MANY_OLD_WORKERS: Final = 10
"""Each holds about 8 MB."""

_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_./@+-]*")

log = structlog.get_logger()


class _Planned(msgspec.Struct, frozen=True):
    """What was written last."""

    table: Table
    plan: Plan
    frame: str


class HaproxyProxy:
    """The HTTP front of the machine. Implements `agent.ports.proxy.Proxy`."""

    def __init__(
        self,
        folder: Path,
        *,
        binds: Sequence[str],
        is_supervised: bool,
        trusted: Sequence[str] = (),
        apps: str = "",
        max_connections: int = 20_000,
        keep_alive_seconds: float = 15.0,
        request_seconds: float = 15.0,
        server_seconds: float = 3_600.0,
        tunnel_seconds: float = 86_400.0,
        spare_backends: int = 200,
        binary: str = BINARY,
        user: str = USER,
    ) -> None:
        """Take the settings; nothing is touched before `start`.

        `folder`: everything of HAProxy's is below it. `binds`, `trusted`: see `binds`. `is_supervised`: no systemd, so
        that this object starts HAProxy and brings it back. `keep_alive_seconds`: how long an idle client connection
        lives; `request_seconds`: how long a request head may take; `is_drained` waits the longer of both after a
        reload. `apps`, `server_seconds`, `tunnel_seconds`: see `Options`.
        `spare_backends`: new apps until the next reload. `user`: whom the workers become, where HAProxy is
        started as root and that account exists.

        Raises:
            Misconfigured: an address, a network or the folder's path cannot be used.
        """
        self._layout = Layout(_usable(folder.absolute()))
        self._options = Options(
            binds=parse_binds(binds),
            trusted=parse_networks(trusted),
            apps=apps,
            max_connections=attainable(max_connections) if is_supervised else max_connections,
            keep_alive_seconds=keep_alive_seconds,
            request_seconds=request_seconds,
            server_seconds=server_seconds,
            tunnel_seconds=tunnel_seconds,
            user=user if os.geteuid() == 0 and _exists(user) else "",
        )
        self._spares = spare_backends
        self._binary = binary
        self._files = Files(self._layout)
        self._master = Master(self._layout.master_socket)
        self.room = Room(self._master, wanted=max_connections)
        self._supervisor = Supervisor(binary, self._layout, self._options.binds) if is_supervised else None
        self._changing = asyncio.Lock()
        self._writes = Rounds(self._write)
        self._looks: Rounds[Look] = Rounds(lambda: runtime.look(self._master))
        self._wanted: Table = {}
        self._generation = 0
        self._plan: Plan | None = None
        self._planned: _Planned | None = None
        self._held: Held | None = None

    async def start(self) -> None:
        """Put the files in order and, where it is supervised, have HAProxy running. It serves what it served last.

        Raises:
            Misconfigured: HAProxy cannot start with these settings (a port is taken, the program is missing …).
        """
        await asyncio.to_thread(self._files.prepare)
        plan = await asyncio.to_thread(self._files.read)
        if not plan.slots:
            plan = make_plan({}, plan, spares=self._spares)
        config = self._render(plan)
        if not await asyncio.to_thread(self._files.holds, config, plan.maps):
            if complaint := await self._complaint(config):
                raise Misconfigured("proxy.config-invalid", f"HAProxy refuses its settings: {complaint}", "Run doctor.")
            await self._store(plan, config)
        self._plan = plan
        if self._supervisor is not None:
            await self._supervisor.start()

    async def close(self) -> None:
        """Let go of HAProxy, which goes on serving."""
        if self._supervisor is not None:
            await self._supervisor.close()

    async def apply(self, table: Table) -> None:
        """Make HAProxy serve `table`; see the port."""
        self._wanted = table
        plan = await self._writes.next()
        for app, reason in plan.refusals.items():
            raise RouteRefused(app, reason, refusals=plan.refusals)

    async def survey(self) -> Sequence[AppId]:
        """Return the apps that are not served as last applied, and remove what is left of drained replicas.

        What differs and belongs to no app is reported under the first one: applying any table mends everything.
        """
        async with self._changing:
            plan = self._plan
            if plan is None:
                return sorted(self._wanted)
            is_on_disk = await asyncio.to_thread(self._files.holds, self._render(plan), plan.maps)
            processes = await self._master.processes()
            async with self._master.worker(processes.current.pid) as worker:
                held = await runtime.read_held(worker, self._layout)
                self._held = await runtime.bury_idle(worker, held, plan)
        if not is_on_disk or held.frame != frame_of(self._render(plan)) or held.handover != HANDED_OVER:
            self._planned = None
            return sorted(plan.routes)
        backends = differing_backends(held, plan.slots, plan.maps)
        if not backends:
            return ()
        apps = {slot.app for slot in plan.slots if slot.name in backends and slot.app}
        apps |= {app for app, route in plan.routes.items() if not route.is_deployed}
        return sorted(apps or list(plan.routes)[:1])

    async def is_drained(self, app: AppId, upstream: Upstream) -> bool:
        """Tell whether the upstream may be stopped; see the port. What HAProxy still had of it is removed then.

        Nothing about it is remembered here: the answer is the same after the agent was started anew.

        Raises:
            Unavailable: HAProxy does not answer.
        """
        if self._routes_to(app, upstream):
            return False
        look = await self._looks.next()
        if not is_drained(look, upstream.name, idle_seconds=self._options.idle_seconds):
            return False
        async with self._changing:
            # It may have come back into the table meanwhile.
            if self._routes_to(app, upstream):
                return False
            await self._bury(look, upstream)
        return True

    async def problems(self) -> Sequence[tuple[str, str]]:
        """Return what is wrong with HAProxy, each with what to do. Never raises."""
        version = await process.version(self._binary)
        if version is None:
            return ((f"HAProxy is not installed: {self._binary} cannot be run.", "apt-get install haproxy"),)
        found: list[tuple[str, str]] = []
        if version < OLDEST:
            found.append(("HAProxy is older than 2.6.", "Install a newer one; Debian 12 has 2.6."))
        try:
            processes = await self._master.processes()
        except UserError as error:
            return (*found, (error.message, error.hint))
        if processes.failed:
            found.append(
                ("HAProxy could not reload and goes on as it was.", "See its log: journalctl -u pushboat-proxy")
            )
        if len(processes.old) > MANY_OLD_WORKERS:
            many = f"{len(processes.old)} replaced workers of HAProxy still have connections, about 8 MB each."
            found.append((many, "They end with their connections; restarting HAProxy cuts those."))
        return found

    def _routes_to(self, app: AppId, upstream: Upstream) -> bool:
        """Tell whether requests may still be sent there; while files are being written, take it that they may."""
        if self._plan is None:
            return True
        # A table that waits for its turn counts too: what it routes to must not be stopped before that.
        routes = (table.get(app) for table in (self._plan.routes, self._wanted))
        return any(other.name == upstream.name for route in routes if route for other in route.upstreams)

    async def _write(self) -> Plan:
        """Serve the newest table: the one run that `apply`'s callers share."""
        async with self._changing:
            if self._is_planned(self._wanted):
                assert self._planned
                await self._switch_twice(self._planned.plan, self._planned.frame)
                return self._planned.plan
            table = dict(self._wanted)
            former = await asyncio.to_thread(self._files.read) if self._plan is None else self._plan
            plan = make_plan(table, former, spares=self._spares)
            config = self._render(plan)
            if _frame_parts(plan) != _frame_parts(former) and (complaint := await self._complaint(config)):
                raise unavailable(f"it refuses its configuration: {complaint}")
            # Until the files are surely these, what is on disk has to be read to be known.
            self._plan = self._planned = None
            await self._store(plan, config)
            self._plan, self._planned = plan, _Planned(table, plan, frame_of(config))
            await self._switch_twice(plan, frame_of(config))
            return plan

    def _is_planned(self, table: Table) -> bool:
        """Tell whether the files are those of this very table: most steps of a deploy change no route."""
        planned = self._planned
        return planned is not None and not planned.plan.refusals and planned.table == table

    async def _switch_twice(self, plan: Plan, frame: str) -> None:
        try:
            return await self._switch(plan, frame)
        except OrderRefused as error:
            # Somebody else was at it, or a former attempt was cut off in the middle: look again.
            log.warning("proxy.order-refused", order=error.order, answer=error.answer)
        try:
            await self._switch(plan, frame)
        except OrderRefused as error:
            raise unavailable(f"it refuses an order ({error})") from error

    async def _switch(self, plan: Plan, frame: str) -> None:
        """Bring the worker to `plan`, by a reload if its frame is another."""
        processes = await self._master.processes()
        async with self._master.worker(processes.current.pid) as worker:
            held, self._held = self._held, None
            if held is None or held.pid != worker.pid:
                held = await runtime.read_held(worker, self._layout)
            if held.frame == frame:
                self._held = await self._bring(worker, held, plan)
                return
        processes = await runtime.reload(self._master, processes)
        log.info("proxy.reloaded", pid=processes.current.pid, old_workers=len(processes.old))
        async with self._master.worker(processes.current.pid) as worker:
            held = await runtime.read_held(worker, self._layout)
            if held.frame != frame:
                raise unavailable("it has not taken over its new configuration")
            self._held = await self._bring(worker, held, plan)

    async def _bring(self, worker: Worker, held: Held, plan: Plan) -> Held:
        words = handover_words(self._options, self._layout)
        return await runtime.bring(worker, held, plan, self._layout, handover=words)

    async def _bury(self, look: Look, upstream: Upstream) -> None:
        keys = [key for key in look.servers if key[1] == upstream.name]
        if not keys:
            return
        processes = await self._master.processes()
        async with self._master.worker(processes.current.pid) as worker:
            for key in keys:
                if await runtime.bury(worker, key) and self._held is not None:
                    self._held = runtime.without(self._held, key)

    async def _store(self, plan: Plan, config: str) -> None:
        self._generation += 1
        try:
            await asyncio.to_thread(self._files.write, config, plan.maps, generation=self._generation)
        except OSError as error:
            raise Unavailable(
                "proxy.disk",
                f"The proxy's files cannot be written: {error.strerror}.",
                f"Make room, or mend the permissions, in {self._layout.folder}.",
            ) from error

    async def _complaint(self, config: str) -> str | None:
        candidate = await asyncio.to_thread(self._files.write_candidate, config)
        try:
            return await process.check(self._binary, candidate)
        finally:
            candidate.unlink(missing_ok=True)

    def _render(self, plan: Plan) -> str:
        return render_config(self._options, self._layout, plan.slots)


def _frame_parts(plan: Plan) -> list[tuple[str, str]]:
    return [(slot.name, slot.balance) for slot in plan.slots]


def _usable(folder: Path) -> Path:
    """Return the folder if its path can stand in HAProxy's file and orders, and its sockets' paths are short enough."""
    longest = Layout(folder).handover_socket
    if not _PLAIN_PATH.fullmatch(str(folder)) or len(bytes(longest)) > MAX_SOCKET_PATH:
        raise Misconfigured(
            "proxy.folder-invalid",
            f"The proxy cannot work in {str(folder)!r}: its path is too long, or has unusual characters.",
            "Choose a data folder with a short and plain path.",
        )
    return folder


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
