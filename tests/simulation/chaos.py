"""What happens to the world without anybody asking: containers end, programs go away, disks fill, clocks are set."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from agent.ports.scheduler import ReplicaStatus
from proto.names import AppId, ProcessType, ReplicaId
from tests.simulation.faults import Fate
from tests.simulation.virtual import VirtualClock
from tests.simulation.witness import WatchedWorld

PAUSES = (2.0, 10.0, 60.0)
"""Mean seconds between two of its deeds, drawn for each walk."""

JUMPS = (-7200.0, -90.0, -1.0, 1.0, 45.0, 90.0, 7200.0)
"""Seconds by which the wall clock is set."""


OUTAGES = (5.0, 40.0, 200.0)
"""Seconds that engine or proxy stay away at most: shorter than any patience, longer than a drain, longer than all."""


class Chaos:
    """Does harm, as the die falls."""

    def __init__(
        self, world: WatchedWorld, fate: Fate, clock: VirtualClock, *, dice: random.Random, tell: Callable[[str], None]
    ) -> None:
        self.jumped_at = float("-inf")
        self._world = world
        self._fate = fate
        self._clock = clock
        self._dice = dice
        self._tell = tell
        self._pause = dice.choice(PAUSES)
        deeds = [
            self._end_container,
            self._restart_container,
            self._remove_container,
            self._leave_orphan,
            self._edit_routes,
            self._keep_busy,
            self._stop_engine,
            self._stop_proxy,
            self._fill_disk,
            self._break_disk,
            self._set_clock,
            self._rotate_output,
            self._lose_streams,
        ]
        self._deeds = [self._say, *dice.sample(deeds, dice.randrange(len(deeds) + 1))]

    async def live(self) -> None:
        """Do harm until cancelled."""
        while self._deeds:
            await asyncio.sleep(self._dice.expovariate(1 / self._pause))
            deed = self._dice.choice(self._deeds)
            self._tell(f"! {deed.__name__.strip('_')}")
            self._fate.count(deed.__name__.strip("_"))
            deed()

    def tidy(self) -> None:
        """Leave the world alone from now on."""
        self._world.proxy.sessions.clear()

    def _end_container(self) -> None:
        if status := self._any("running"):
            self._harm(status)
            code = self._dice.choice([0, 1, 137, 143])
            self._world.scheduler.exit(
                status.replica, code=code, is_oom_killed=code == 137 and self._dice.random() < 0.5
            )

    def _say(self) -> None:
        if status := self._any("running"):
            self._world.scheduler.output.say(
                status.replica, status.app, self._dice.randrange(1, 12), now=self._clock.now()
            )

    def _rotate_output(self) -> None:
        if (status := self._any()) and status.replica in self._world.scheduler.output.said:
            self._world.scheduler.output.rotate(status.replica, self._dice.randrange(1, 12))

    def _lose_streams(self) -> None:
        self._world.scheduler.output.lose_follows()

    def _restart_container(self) -> None:
        if status := self._any("running"):
            self._harm(status)
            self._world.scheduler.restart(status.replica)

    def _remove_container(self) -> None:
        if status := self._any():
            self._harm(status)
            self._world.scheduler.vanish(status.replica)

    def _leave_orphan(self) -> None:
        """Have a container and volumes that look like ours, and that nobody knows of."""
        number = self._dice.randrange(1 << 30)
        replica = ReplicaId(f"rorphan{number}")
        self._world.witness.harmed.add(replica)
        nobody = AppId("anobody22222")
        self._world.workshops.volumes[nobody] = {"cache"}
        self._world.workshops.orphans.add(f"workshop{number}")
        self._world.scheduler.containers[replica] = ReplicaStatus(
            app=nobody,
            replica=replica,
            process=ProcessType("web"),
            number=1,
            release=1,
            container=f"{number:064x}",
            name=f"orphan-{number}",
            phase="running",
        )
        self._world.scheduler.wishes[replica] = next(iter(self._world.scheduler.wishes.values()), None)  # type: ignore[assignment]

    def _edit_routes(self) -> None:
        if self._world.proxy.served:
            self._world.proxy.tamper(self._dice.choice(sorted(self._world.proxy.served)))

    def _keep_busy(self) -> None:
        routed = [upstream.name for route in self._world.proxy.served.values() for upstream in route.upstreams]
        status = self._world.scheduler.containers.get(ReplicaId(self._dice.choice(routed))) if routed else None
        if status is not None:
            sessions = self._world.proxy.sessions
            sessions[status.replica] = 1
            asyncio.get_running_loop().call_later(
                self._dice.uniform(1.0, 90.0), lambda: sessions.pop(status.replica, None)
            )

    def _stop_engine(self) -> None:
        loop, world = asyncio.get_running_loop(), self._world
        self._fate.down_until["engine"] = loop.time() + self._outage()
        world.scheduler.output.lose_follows()
        if self._dice.random() < 0.5:
            for replica in [
                status.replica for status in world.scheduler.containers.values() if status.phase == "running"
            ]:
                self._harm(world.scheduler.containers[replica])
                world.scheduler.exit(replica, code=self._dice.choice([137, 143]))
        if self._dice.random() < 0.7:
            loop.call_at(
                self._fate.down_until["engine"] + 0.01, lambda: world.scheduler.notify and world.scheduler.notify(None)
            )

    def _stop_proxy(self) -> None:
        now = asyncio.get_running_loop().time()
        self._fate.down_until["proxy"] = now + self._outage()
        self._fate.proxy_troubled_at = self._fate.down_until["proxy"]

    def _fill_disk(self) -> None:
        self._fate.full_until = asyncio.get_running_loop().time() + self._dice.uniform(0.1, 20.0)

    def _break_disk(self) -> None:
        self._fate.fails_to_sync = True

    def _set_clock(self) -> None:
        jump = self._dice.choice(JUMPS)
        self._clock.jumped += jump
        if jump < -1.0:
            self._world.scheduler.output.set_back()
        self.jumped_at = asyncio.get_running_loop().time()

    def _outage(self) -> float:
        return self._dice.uniform(0.5, self._dice.choice(OUTAGES))

    def _any(self, *phases: str) -> ReplicaStatus | None:
        found = [status for status in self._world.scheduler.containers.values() if not phases or status.phase in phases]
        return self._dice.choice(found) if found else None

    def _harm(self, status: ReplicaStatus) -> None:
        self._world.witness.harmed.add(status.replica)
