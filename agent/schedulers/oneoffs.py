"""Commands that a person runs beside the replicas (`run`) and inside one (`enter`), attached to a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from agent.docker import labels
from agent.docker.containers import Containers, NameTaken
from agent.docker.endings import to_its_end
from agent.docker.engine import Engine, Faulted, Refused
from agent.docker.execs import Execs
from agent.docker.networks import Networks
from agent.docker.raw import open_raw
from agent.docker.spec import create_body
from agent.errors import Unavailable, UserError
from agent.ports.scheduler import LeftOver, OneOff
from agent.ports.session import Terminal
from agent.schedulers.attached import converse
from agent.schedulers.failures import not_started
from proto.names import AppId

log = structlog.get_logger()

BRIDGE = 0
"""Where one-offs live: they are too few and too short-lived to be spread."""
STOP_SECONDS = 5.0
"""Between SIGTERM and SIGKILL for a one-off whose person has left."""
GONE_STATUS = 129
"""What a shell reports of a program that ended by SIGHUP: its terminal went away."""


class OneOffs:
    """The one-offs of this agent."""

    def __init__(self, engine: Engine, *, networks: Networks) -> None:
        self._engine = engine
        self._containers = Containers(engine)
        self._execs = Execs(engine)
        self._networks = networks
        self._attached: set[str] = set()

    async def run(self, one_off: OneOff, terminal: Terminal) -> int:
        """See ``Scheduler.run``."""
        self._attached.add(one_off.entry)
        try:
            container = await self._create(one_off, terminal)
            try:
                async with asyncio.timeout(one_off.seconds):
                    return await self._attach(container, one_off, terminal)
            except TimeoutError:
                await self._containers.stop(container, seconds=STOP_SECONDS)
                await terminal.write_error(f" !     Ended after {one_off.seconds:.0f} s.\n".encode())
                return await self._containers.wait(container)
        finally:
            # By label, since a create that was cancelled or whose answer was lost has left a container of unknown id.
            await to_its_end(self._remove(one_off.entry))
            self._attached.discard(one_off.entry)

    async def enter(self, container: str, command: Sequence[str], terminal: Terminal) -> int:
        """See ``Scheduler.enter``."""
        is_tty = terminal.is_tty
        exec_id = await self._execs.create(container, command, is_tty=is_tty, term=terminal.term, has_input=True)

        async def resize(columns: int, rows: int) -> None:
            await self._execs.resize(exec_id, columns=columns, rows=rows)

        has_ended = False
        try:
            async with self._execs.open(exec_id, is_tty=is_tty) as stream:
                has_ended = await converse(stream, terminal, resize=resize)
        except Refused as refusal:
            raise UserError("run.not-started", f"It could not be started: {refusal.message}") from refusal
        finally:
            if not has_ended:
                await to_its_end(self._execs.hang_up(container, exec_id))
        status = await self._execs.exit_code(exec_id) if has_ended else None
        return GONE_STATUS if status is None else status

    async def left_over(self, *, app: AppId | None) -> Sequence[LeftOver]:
        """See ``Scheduler.left_over``."""
        return [left for _, left in await self._abandoned(app)]

    async def tidy(self, *, app: AppId | None) -> Sequence[LeftOver]:
        """See ``Scheduler.tidy``."""
        found = await self._abandoned(app)
        for container, _ in found:
            await self._containers.remove(container)
        return [left for _, left in found]

    async def _abandoned(self, app: AppId | None) -> list[tuple[str, LeftOver]]:
        """Return the ids of containers that nobody is attached to, and what is to be said of them."""
        wanted = {labels.KIND: labels.RUN} | ({labels.APP_ID: app} if app else {})
        if not await self._containers.find(wanted):
            return []
        # To measure them the engine walks through their files, which is asked for where there are any.
        return [
            (row.id, LeftOver(name=(row.names or [row.id])[0].removeprefix("/"), size=row.own_bytes))
            for row in await self._containers.find(wanted, is_measured=True)
            if (row.labels or {}).get(labels.ENTRY) not in self._attached
        ]

    async def _create(self, one_off: OneOff, terminal: Terminal) -> str:
        network = await self._networks.ensure(BRIDGE)
        body = create_body(
            one_off, instance=self._engine.instance, network=network, is_tty=terminal.is_tty, term=terminal.term
        )
        try:
            return await self._containers.create(one_off.name, body)
        except NameTaken as error:
            raise Unavailable(
                "container.name-taken", f"There is already a container called {one_off.name}.", "Try again."
            ) from error
        except (Refused, Faulted) as error:
            raise not_started(error, one_off, networks=self._networks) from error

    async def _attach(self, container: str, one_off: OneOff, terminal: Terminal) -> int:
        async def resize(columns: int, rows: int) -> None:
            try:
                await self._engine.json("POST", f"containers/{container}/resize", params={"w": columns, "h": rows})
            except (Refused, Faulted):
                # It has ended meanwhile, and needs no size any more.
                return

        streams = {"stream": 1, "stdin": 1, "stdout": 1, "stderr": 1}
        # Attached before it is started, so that not even the first byte is missed.
        async with open_raw(self._engine, "POST", f"containers/{container}/attach", params=streams) as stream:
            try:
                await self._containers.start(container)
            except (Refused, Faulted) as error:
                raise not_started(error, one_off, networks=self._networks) from error
            if not await converse(stream, terminal, resize=resize):
                await self._containers.stop(container, seconds=STOP_SECONDS)
        return await self._containers.wait(container)

    async def _remove(self, entry: str) -> None:
        try:
            for row in await self._containers.find({labels.KIND: labels.RUN, labels.ENTRY: entry}):
                await self._containers.remove(row.id)
        except (Unavailable, Refused) as error:
            # `tidy` removes it once the engine answers again.
            log.warning("one-off.left-behind", entry=entry, reason=str(error))
