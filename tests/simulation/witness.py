"""Watches what the agent does to the world, while it does it.

What is compared at the end cannot tell whether visitors were served meanwhile. So each change of the routes and each
end of a container is looked at when it happens. What chaos did itself, or what a user asked for, is excused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from agent.ports.images import BuildRequest, ImageInfo
from agent.ports.proxy import Route, RouteRefused, Table
from agent.ports.scheduler import CheckSpec, ContainerWish, ReplicaStatus, ReplicaWish
from agent.ports.world import Say
from proto.names import AppId, ReplicaId
from tests.fakes.core import World
from tests.fakes.images import FakeBuilder
from tests.fakes.proxy import FakeProxy
from tests.fakes.scheduler import FakeProber, FakeScheduler
from tests.simulation.faults import is_belated

LAST_LINES_SECONDS = 10.0
"""How long what a replica wrote last is waited for before its container goes."""

DRAIN_SECONDS = 40.0
"""A replaced replica has 60 for what is in flight, from the commit that replaced it; its route goes a little later."""


class Witness:
    """What was seen that must never be."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.harmed: set[ReplicaId] = set()
        """Replicas whose containers chaos laid hands on, or which a user gave up."""
        self.left_at: dict[ReplicaId, float] = {}
        """When a replica that served went out of the routes, in the loop's time."""
        self.passed: set[ReplicaId] = set()
        """Replicas that passed a check once."""
        self.live: dict[AppId, int] = {}
        """The last release of each app that was told to be live."""
        self.may_be_unserved: Callable[[AppId], bool] = lambda app: False
        """Whether a user asked for something after which the app need not be served."""
        self.may_end_routed: Callable[[], bool] = lambda: False
        """Whether a drain may end before its route was changed: the proxy was away, or a clock was set."""

        self.stopped_at: dict[ReplicaId, float] = {}
        """When each replica was first stopped by this agent, in the loop's time."""
        self.revived: set[ReplicaId] = set()
        """Replicas that the engine started after they were stopped, as it had been told to before."""
        self.unlisted: set[ReplicaId] = set()
        """Replicas whose rows are gone: what comes to be of them is an orphan."""
        self.is_stored: Callable[[ReplicaId], bool] = lambda replica: True
        """Whether what a replica wrote is stored to its end."""

    def removing(self, replica: ReplicaId) -> None:
        """See the agent remove a container, and what it wrote with it."""
        since = asyncio.get_running_loop().time() - self.stopped_at.get(replica, float("-inf"))
        if replica in self.harmed | self.revived | self.unlisted or since >= LAST_LINES_SECONDS:
            return
        if not self.is_stored(replica):
            self.complaints.append(f"{replica} was removed {since:.1f} s after it was stopped, with lines unread")

    def went_live(self, world: World, app: AppId, release: int) -> None:
        """See a release being told to be live."""
        self.live[app] = release
        for upstream in world.proxy.upstreams(app):
            status = world.scheduler.containers.get(ReplicaId(upstream.name))
            if status is not None and status.release != release:
                self.complaints.append(f"v{release} of {app} was told to be live, and {status.name} was served")

    def give_up(self, world: World, app: AppId) -> None:
        """Let the agent end what the app has now: somebody asked for it."""
        self.harmed |= {status.replica for status in world.scheduler.containers.values() if status.app == app}

    def routed(self, world: World, before: Mapping[AppId, Route], after: Mapping[AppId, Route]) -> None:
        """See a change of what visitors get."""
        containers = world.scheduler.containers
        # What was never told to be live may be taken back: its first deploy was given other replicas to wait for, say.
        for app, old in before.items():
            if app not in self.live:
                continue
            new = after.get(app)
            alive = [u.name for u in old.upstreams if self._serves(containers.get(ReplicaId(u.name)))]
            if alive and not (new and new.upstreams) and not self.may_be_unserved(app) and not self._lost(world, app):
                self.complaints.append(f"{app} lost its route although {alive} served it")
        self._note_who_left(before, after)
        self._check_new(world, before, after)

    def _note_who_left(self, before: Mapping[AppId, Route], after: Mapping[AppId, Route]) -> None:
        routed = {upstream.name for route in after.values() for upstream in route.upstreams}
        for old in before.values():
            for upstream in old.upstreams:
                if upstream.name not in routed:
                    self.left_at[ReplicaId(upstream.name)] = asyncio.get_running_loop().time()

    def _check_new(self, world: World, before: Mapping[AppId, Route], after: Mapping[AppId, Route]) -> None:
        for app, new in after.items():
            known = {upstream.name for upstream in before[app].upstreams} if app in before else set()
            for upstream in new.upstreams:
                replica = ReplicaId(upstream.name)
                if upstream.name not in known and replica not in self.passed:
                    self.complaints.append(f"{app} was routed to {upstream.name}, which never passed a check")
                if (
                    upstream.name not in known
                    and replica not in world.scheduler.containers
                    and replica not in self.harmed
                ):
                    self.complaints.append(f"{app} was routed to {upstream.name}, which has no container")

    def _lost(self, world: World, app: AppId) -> bool:
        """Whether chaos has a replica of the app on its conscience, which may be the one that should serve."""
        return any(
            status.app == app and status.replica in self.harmed for status in world.scheduler.containers.values()
        )

    def ending(self, world: World, replica: ReplicaId) -> None:
        """See the agent stop or remove a container."""
        status = world.scheduler.containers.get(replica)
        if status is None or not self._serves(status) or self.may_be_unserved(status.app):
            return
        # What was replaced by a deploy has no excuse: that is live only once the proxy serves it.
        if self.may_end_routed() and status.release >= self.live.get(status.app, 0):
            return
        if replica in {ReplicaId(upstream.name) for upstream in world.proxy.upstreams(status.app)}:
            self.complaints.append(f"{status.name} was ended while requests of {status.app} went to it")
        seconds = asyncio.get_running_loop().time() - self.left_at.get(replica, float("-inf"))
        if world.proxy.sessions.get(replica) and seconds < DRAIN_SECONDS and not self.may_end_routed():
            self.complaints.append(f"{status.name} was ended {seconds:.0f} s after it was replaced, while it was busy")

    def creating(self, world: World, replica: ReplicaId, address: str) -> None:
        """See a container being made at an address, or at none of its own."""
        for status in world.scheduler.containers.values():
            if address and status.address == address and status.replica != replica:
                self.complaints.append(f"{replica} got {address}, which {status.replica} has")

    def _serves(self, status: ReplicaStatus | None) -> bool:
        return status is not None and status.phase == "running" and status.replica not in self.harmed


class WatchedWorld(World):
    """A world with a witness in it."""

    def __init__(self) -> None:
        super().__init__()
        self.witness = Witness()
        self.scheduler = _Scheduler(self)
        self.prober = _Prober(self)
        self.proxy = _Proxy(self)
        self.builder = _Builder(self)

    def forget_process(self) -> None:
        """See ``World``."""
        super().forget_process()
        self.witness.stopped_at.clear()


class _Scheduler(FakeScheduler):
    def __init__(self, world: WatchedWorld) -> None:
        super().__init__()
        self._world = world

    async def stop(self, replica: ReplicaId, *, seconds: float) -> None:
        self._world.witness.ending(self._world, replica)
        await super().stop(replica, seconds=seconds)
        # What is repeated, or comes belatedly, begins no new wait.
        self._world.witness.stopped_at.setdefault(replica, asyncio.get_running_loop().time())

    async def remove(self, replica: ReplicaId) -> None:
        self._world.witness.ending(self._world, replica)
        if replica in self.containers:
            self._world.witness.removing(replica)
        await super().remove(replica)

    def _start(self, wish: ReplicaWish, say: Say) -> None:
        if wish.replica in self._world.witness.stopped_at:
            self._world.witness.revived.add(wish.replica)
        # Where it is belated, who would say it has given up, and may be gone.
        super()._start(wish, (lambda line: None) if is_belated.get() else say)

    def _create(self, wish: ContainerWish, *, replica: ReplicaId, address: str = "", **more: Any) -> None:
        self._world.witness.creating(self._world, replica, address)
        super()._create(wish, replica=replica, address=address, **more)


class _Builder(FakeBuilder):
    """Keeps a volume for each app that it built, as builds with buildpacks do."""

    def __init__(self, world: WatchedWorld) -> None:
        super().__init__(world.images)
        self.is_cold = True
        self._world = world

    async def build(self, request: BuildRequest, say: Say) -> ImageInfo:
        self._world.workshops.volumes.setdefault(request.app, set()).add("cache")
        return await super().build(request, say)


class _Prober(FakeProber):
    def __init__(self, world: WatchedWorld) -> None:
        super().__init__()
        self._world = world

    async def probe(self, check: CheckSpec, status: ReplicaStatus, *, port: int, host: str) -> str | None:
        answer = await super().probe(check, status, port=port, host=host)
        if answer is None:
            self._world.witness.passed.add(status.replica)
        return answer


class _Proxy(FakeProxy):
    def __init__(self, world: WatchedWorld) -> None:
        super().__init__()
        self._world = world

    async def apply(self, table: Table) -> None:
        before = dict(self.served)
        try:
            await super().apply(table)
        except RouteRefused:
            self._world.witness.routed(self._world, before, self.served)
            raise
        self._world.witness.routed(self._world, before, self.served)
        # A walk of thousands of tables would be held in memory otherwise.
        del self.tables[:-2]
