"""Replicas as Docker containers on this machine.

Nothing is relied on between calls: what is, is asked of the engine each time, so a crash, a lost answer or a
hand at the `docker` command changes nothing about the way back. A replica's container is found by the label with its
id; a container made by a call whose answer was lost is found so too. Since the engine gives a name once only, a create
that comes late cannot make a second one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Final

import structlog

from agent.docker import labels
from agent.docker.containers import ContainerRow, Containers, NameTaken, detail_status, row_status, statuses
from agent.docker.engine import Engine, Faulted, Refused
from agent.docker.events import EngineEvents
from agent.docker.networks import Networks
from agent.docker.replica_group import ReplicaGroup
from agent.docker.spec import container_name, create_body
from agent.errors import Unavailable, UserError
from agent.ports.addresses import Bridges
from agent.ports.scheduler import LeftOver, Notify, OneOff, ReplicaStatus, ReplicaWish, StartFailed, TaskWish
from agent.ports.session import Terminal
from agent.ports.world import Say
from agent.schedulers import inspection
from agent.schedulers.failures import is_stuck, not_started
from agent.schedulers.oneoffs import OneOffs
from agent.schedulers.tasks import Tasks
from proto.names import AppId, ReplicaId, TaskId

log = structlog.get_logger(__name__)

STARTS_AT_ONCE: Final = 4
"""Containers that are created and started at the same time, of all apps. The engine does about that many side by side;
more only makes each slower, and the checks of the first wait for the last."""


class DockerScheduler:
    """Fulfils ``agent.ports.scheduler.Scheduler``."""

    def __init__(
        self,
        engine: Engine,
        *,
        bridges: Bridges,
        starts_at_once: int = STARTS_AT_ONCE,
        build_bridge: str = "",
        group: str = "",
    ) -> None:
        """`bridges`: the address pool, the same that replicas' addresses were handed out from.

        `build_bridge`: the interface that the firewall is to hold for as well, empty for none; see `problems`. `group`:
        the systemd slice of replicas, empty for none.
        """
        self._engine = engine
        self._containers = Containers(engine)
        self._networks = Networks(engine, bridges=bridges)
        self._one_offs = OneOffs(engine, networks=self._networks)
        self._tasks = Tasks(engine, networks=self._networks)
        self._starts = asyncio.Semaphore(starts_at_once)
        self._build_bridge = build_bridge
        self._group = ReplicaGroup(engine, group)

    async def converge(self, app: AppId, wishes: Sequence[ReplicaWish], say: Say) -> Sequence[ReplicaStatus]:
        """See ``Scheduler``."""
        found = await self._of_app(app)
        outcomes = await _all_of([self._make_true(wish, found, say) for wish in wishes])
        for kind in (StartFailed, Unavailable, Exception):
            for outcome in outcomes:
                if isinstance(outcome, kind):
                    raise outcome
        by_replica = {status.replica: status for status in statuses(await self._of_app(app))}
        missing = [wish for wish in wishes if wish.replica not in by_replica]
        if missing:
            raise Unavailable("docker.unavailable", f"The container {container_name(missing[0])} has vanished again.")
        return [by_replica[wish.replica] for wish in wishes]

    async def survey(self) -> Sequence[ReplicaStatus]:
        """See ``Scheduler``. One call; exit codes and health included, OOM kills, restarts and times not."""
        return statuses(await self._containers.find({}))

    async def look(self, replica: ReplicaId) -> ReplicaStatus | None:
        """See ``Scheduler``."""
        detail = await self._containers.of_replica(replica)
        return None if detail is None else detail_status(detail)

    async def entrust(self, replica: ReplicaId) -> None:
        """See ``Scheduler``."""
        for row in await self._of_replica(replica):
            await self._containers.allow_restarts(row.id)

    async def stop(self, replica: ReplicaId, *, seconds: float) -> None:
        """See ``Scheduler``."""
        for row in await self._of_replica(replica):
            await self._containers.stop(row.id, seconds=seconds)
            await self._containers.forbid_restarts(row.id)
            # One that failed just then may have been restarted between the two calls; it cannot be any more.
            await self._containers.stop(row.id, seconds=seconds)

    async def remove(self, replica: ReplicaId) -> None:
        """See ``Scheduler``."""
        for row in await self._of_replica(replica):
            await self._containers.remove(row.id)

    async def release(self, app: AppId) -> None:
        """See ``Scheduler``. The shared bridges stay: they are nobody's own."""
        for row in await self._containers.find({labels.APP_ID: app}):
            await self._containers.remove(row.id)

    async def prepare(self, wish: TaskWish) -> None:
        """See ``Scheduler``."""
        await self._tasks.prepare(wish)

    async def begin(self, task: TaskId) -> None:
        """See ``Scheduler``."""
        await self._tasks.begin(task)

    async def wait(self, task: TaskId) -> None:
        """See ``Scheduler``."""
        await self._tasks.wait(task)

    async def run(self, one_off: OneOff, terminal: Terminal) -> int:
        """See ``Scheduler``."""
        return await self._one_offs.run(one_off, terminal)

    async def enter(self, replica: ReplicaId, command: Sequence[str], terminal: Terminal) -> int:
        """See ``Scheduler``."""
        running = [row for row in await self._of_replica(replica) if row.state == "running"]
        if not running:
            raise UserError("replica.not-running", "The replica does not run.", "See what there is with: ps:report")
        return await self._one_offs.enter(running[0].id, command, terminal)

    async def describe(self, app: AppId) -> Sequence[Mapping[str, object]]:
        """See ``Scheduler``."""
        rows = await self._containers.find({labels.KIND: labels.REPLICA, labels.APP_ID: app})
        return await inspection.describe(self._engine, [row.id for row in rows])

    async def left_over(self, *, app: AppId | None = None) -> Sequence[LeftOver]:
        """See ``Scheduler``."""
        return await self._one_offs.left_over(app=app)

    async def tidy(self, *, app: AppId | None = None) -> Sequence[LeftOver]:
        """See ``Scheduler``."""
        return await self._one_offs.tidy(app=app)

    async def watch(self, notify: Notify) -> None:
        """See ``Scheduler``."""
        await EngineEvents(self._engine).watch(notify)

    async def answers(self) -> bool:
        """See ``Scheduler``."""
        return await self._engine.answers()

    async def problems(self) -> Sequence[tuple[str, str]]:
        """See ``Scheduler``."""
        return await inspection.problems(self._engine, self._networks, build_bridge=self._build_bridge)

    async def _of_app(self, app: AppId) -> list[ContainerRow]:
        return await self._containers.find({labels.KIND: labels.REPLICA, labels.APP_ID: app})

    async def _of_replica(self, replica: ReplicaId) -> list[ContainerRow]:
        # Of whichever kind: the ids of replicas and tasks differ.
        return await self._containers.find({labels.REPLICA_ID: replica})

    async def _make_true(self, wish: ReplicaWish, found: Sequence[ContainerRow], say: Say) -> None:
        """See to it that one running container fulfils `wish`, out of what the app has."""
        async with self._starts:
            network = await self._networks.ensure(wish.bridge)
            row = await self._choose(wish, found)
            if row is None:
                container = await self._create(wish, network=network)
            elif row.state in ("running", "restarting"):
                return
            elif row.state == "paused":
                return await self._containers.unpause(row.id)
            else:
                container = row.id
            try:
                await self._start(container, wish, network=network)
            except (Refused, Faulted) as error:
                raise not_started(error, wish, networks=self._networks) from error
            say(f"{wish.process}.{wish.number} started")

    async def _start(self, container: str, wish: ReplicaWish, *, network: str) -> None:
        """Start a container of `wish`; one that the engine can never start again gives way to a new one."""
        try:
            await self._containers.start(container)
        except Faulted as fault:
            if not is_stuck(fault):
                raise
            log.warning("container.stuck", container=container, app=wish.app, reason=fault.detail)
            await self._containers.remove(container)
            await self._containers.start(await self._create(wish, network=network))

    async def _choose(self, wish: ReplicaWish, found: Sequence[ContainerRow]) -> ContainerRow | None:
        """Return the container that is already as wished; end and remove all others of this replica."""
        chosen: ContainerRow | None = None
        for row in sorted(found, key=lambda row: row.state != "running"):
            status = row_status(row)
            if status is None or status.replica != wish.replica:
                continue
            if chosen is None and status.fingerprint == wish.fingerprint and row.state not in ("dead", "removing"):
                chosen = row
                continue
            await self._containers.stop(row.id, seconds=wish.stop_seconds)
            await self._containers.remove(row.id)
        return chosen

    async def _create(self, wish: ReplicaWish, *, network: str) -> str:
        body = create_body(wish, instance=self._engine.instance, network=network, group=await self._group.parent())
        name = container_name(wish)
        try:
            try:
                return await self._containers.create(name, body)
            except NameTaken:
                found = await self._find_by_name(name)
                if found and (found.labels or {}).get(labels.REPLICA_ID) == wish.replica:
                    # A create whose answer was lost has come true after all.
                    return found.id
                # An older replica of the same number has not gone yet, or a stranger has the name: another agent's app
                # on the same engine, say. Names are for people; with the id in it this one is the replica's.
                log.info("container.name-taken", name=name, is_ours=found is not None)
                return await self._containers.create(f"{name}.{wish.replica}", body)
        except NameTaken as error:
            raise Unavailable(
                "container.name-taken", f"There is already a container called {name}.", "Remove or rename it."
            ) from error
        except (Refused, Faulted) as error:
            raise not_started(error, wish, networks=self._networks) from error

    async def _find_by_name(self, name: str) -> ContainerRow | None:
        """Return our container of that name, or `None` if there is none that is ours."""
        detail = await self._containers.inspect(name)
        if detail is None:
            return None
        return next((row for row in await self._containers.find({}) if row.id == detail.id), None)


async def _all_of(calls: Sequence[Coroutine[None, None, None]]) -> list[Exception]:
    """Run all calls side by side, each to its end; return what they raised."""
    failures: list[Exception] = []

    async def attempt(call: Coroutine[None, None, None]) -> None:
        try:
            await call
        except Exception as failure:
            failures.append(failure)

    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(attempt(call))
    return failures
