"""Tasks of deploys as containers: made, started once, waited for, and found again by label.

A task's container has no restart policy, and nobody but `begin` starts it. What ran is told from the container, which
stays until the agent has noted how it ended.
"""

from __future__ import annotations

from typing import Final

from agent.docker import labels
from agent.docker.containers import ContainerRow, Containers, NameTaken
from agent.docker.engine import Engine, Faulted, Refused
from agent.docker.networks import Networks
from agent.docker.spec import container_name, create_body
from agent.errors import Unavailable
from agent.ports.scheduler import StartFailed, TaskWish
from agent.schedulers.failures import not_started, users_fault
from proto.names import TaskId

BRIDGE: Final = 0
"""Where tasks live, as one-offs do: too few and too short-lived to be spread. They need no address that lasts."""


class Tasks:
    """The containers of tasks on one engine."""

    def __init__(self, engine: Engine, *, networks: Networks) -> None:
        self._engine = engine
        self._containers = Containers(engine)
        self._networks = networks

    async def prepare(self, wish: TaskWish) -> None:
        """See ``Scheduler.prepare``."""
        if await self._of(wish.task):
            return
        network = await self._networks.ensure(BRIDGE)
        body = create_body(wish, instance=self._engine.instance, network=network)
        name = container_name(wish)
        try:
            try:
                await self._containers.create(name, body)
            except NameTaken:
                if not await self._of(wish.task):
                    # A stranger has the name. With the id in it this one is the task's.
                    await self._containers.create(f"{name}.{wish.task}", body)
        except NameTaken as error:
            raise Unavailable(
                "container.name-taken", f"There is already a container called {name}.", "Remove or rename it."
            ) from error
        except (Refused, Faulted) as error:
            raise not_started(error, wish, networks=self._networks) from error

    async def begin(self, task: TaskId) -> None:
        """See ``Scheduler.begin``."""
        rows = await self._of(task)
        if not rows:
            raise StartFailed("Its container has vanished.")
        try:
            await self._containers.start(rows[0].id)
        except (Refused, Faulted) as error:
            status = error.status if isinstance(error, Refused) else 500
            if reason := users_fault(error.detail, status=status):
                raise StartFailed(reason) from error
            if isinstance(error, Faulted):
                raise
            raise Unavailable("docker.unavailable", f"Docker refused: {error.message}") from error

    async def wait(self, task: TaskId) -> None:
        """See ``Scheduler.wait``."""
        for row in await self._of(task):
            try:
                await self._containers.wait(row.id)
            except Refused as error:
                raise Unavailable("docker.unavailable", f"Docker refused: {error.message}") from error

    async def _of(self, task: TaskId) -> list[ContainerRow]:
        return await self._containers.find({labels.KIND: labels.TASK, labels.REPLICA_ID: task})
