"""A scheduler of dictionaries, and the levers by which a test makes its containers misbehave.

It keeps the promises of ``agent.ports.scheduler.Scheduler`` (``tests/contracts/test_scheduler.py`` runs against it and
against Docker alike) and no others.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from agent.errors import Unavailable, UserError
from agent.ports.scheduler import (
    CheckSpec,
    ContainerWish,
    Health,
    LeftOver,
    Notify,
    OneOff,
    ReplicaStatus,
    ReplicaWish,
    StartFailed,
    TaskWish,
)
from agent.ports.session import Terminal
from agent.ports.world import Say
from proto.names import AppId, ProcessType, ReplicaId, TaskId
from tests.fakes.output import Output

Command = Callable[[Terminal], int]


class FakeScheduler:
    """Fulfils ``Scheduler``. Containers run until a lever below says otherwise."""

    run_exit = 0
    """What `run` and `enter` return."""
    one_offs_left: Sequence[tuple[AppId, LeftOver]] = ()
    """One-offs that nobody is attached to, and their apps."""

    def __init__(self) -> None:
        self.containers: dict[ReplicaId, ReplicaStatus] = {}
        """What is, running or not."""
        self.wishes: dict[ReplicaId, ReplicaWish] = {}
        """What each container was made from."""
        self.calls: list[tuple[str, str]] = []
        """Every call with the app or replica it was about, in order."""
        self.stopped: list[tuple[ReplicaId, float]] = []
        """Replicas that were stopped while they ran, with their grace."""
        self.is_down = False
        """While true every call raises `Unavailable`."""
        self.missing_images: set[str] = set()
        self.start_failures: dict[str, str] = {}
        """Image or replica id -> why it cannot start."""
        self.exits_at_start: dict[str, int] = {}
        """Image or replica id -> exit code of its first breath."""
        self.gate = asyncio.Event()
        """While cleared, `converge` waits before it starts anything."""
        self.gate.set()
        self.loses_answers = 0
        """That many next calls of `converge`, `begin`, `stop` and `remove` take effect and then raise `Unavailable`."""
        self.task_starts: Counter[TaskId] = Counter()
        """How often each task was started."""
        self.task_wishes: dict[TaskId, TaskWish] = {}
        """What each task was made from, also those that are gone."""
        self.task_exits: dict[str, int] = {}
        """Kind of task -> exit code, if not 0."""
        self.task_seconds = 0.0
        """How long a task runs."""
        self.are_tasks_held = False
        """Whether tasks run until they are stopped, or a test ends them by `exit`."""
        self.most: dict[tuple[AppId, ProcessType], int] = {}
        """How many containers of a process type there were at most at the same time, in any state."""
        self.notify: Notify | None = None
        self.output = Output()
        """What containers write."""
        self.now = _no_time
        """Tells the time of starts, in Unix seconds."""
        self._made, self._changed = 0, asyncio.Event()
        self._task_ends: dict[TaskId, tuple[float, bool]] = {}
        """When each task that was started ends by itself, by the loop's clock, which goes on from agent to agent, and
        whether the loop of now will end it."""

    async def converge(self, app: AppId, wishes: Sequence[ReplicaWish], say: Say) -> Sequence[ReplicaStatus]:
        """See ``Scheduler``."""
        self._called("converge", app)
        await self.gate.wait()
        failures: list[Exception] = []
        for wish in wishes:
            await asyncio.sleep(0)
            try:
                self._start(wish, say)
            except (StartFailed, Unavailable) as failure:
                failures.append(failure)
        if failures:
            raise next((failure for failure in failures if isinstance(failure, StartFailed)), failures[0])
        self._lose()
        return [self.containers[wish.replica] for wish in wishes]

    async def survey(self) -> Sequence[ReplicaStatus]:
        """See ``Scheduler``."""
        self._called("survey", "")
        return list(self.containers.values())

    async def look(self, replica: ReplicaId) -> ReplicaStatus | None:
        """See ``Scheduler``."""
        self._called("look", replica)
        return self.containers.get(replica)

    async def entrust(self, replica: ReplicaId) -> None:
        """See ``Scheduler``."""
        self._called("entrust", replica)

    async def stop(self, replica: ReplicaId, *, seconds: float) -> None:
        """See ``Scheduler``."""
        self._called("stop", replica)
        status = self.containers.get(replica)
        if status and status.phase in ("running", "restarting"):
            self.stopped.append((replica, seconds))
            self._change(replica, phase="exited", exit_code=143)
        self._lose()

    async def remove(self, replica: ReplicaId) -> None:
        """See ``Scheduler``."""
        self._called("remove", replica)
        self._forget(replica)
        self._wake()
        self._lose()

    async def release(self, app: AppId) -> None:
        """See ``Scheduler``."""
        self._called("release", app)
        for replica in [status.replica for status in self.containers.values() if status.app == app]:
            self._forget(replica)
        self._wake()

    async def prepare(self, wish: TaskWish) -> None:
        """See ``Scheduler``."""
        self._called("prepare", wish.app)
        self._require_image(wish)
        if wish.image in self.start_failures:
            raise StartFailed(self.start_failures[wish.image])
        if wish.task not in self.containers:
            self.task_wishes[wish.task] = wish
            self._create(wish, replica=wish.task, name=f"{wish.app_name}.{wish.process}.v{wish.release}")

    async def begin(self, task: TaskId) -> None:
        """See ``Scheduler``: it ends after `task_seconds` by itself."""
        self._called("begin", task)
        if task not in self.containers:
            raise StartFailed("Its container has vanished.")
        self.task_starts[task] += 1
        self._change(task, phase="running")
        if not self.are_tasks_held:
            self._time_task(task, at=asyncio.get_running_loop().time() + self.task_seconds)
        self._lose()

    async def wait(self, task: TaskId) -> None:
        """See ``Scheduler``."""
        self._called("wait", task)
        ends_at, is_timed = self._task_ends.get(task, (0.0, True))
        if not is_timed:
            self._time_task(task, at=ends_at)  # It was started for an agent that is gone, and goes on.
        while (found := self.containers.get(task)) is not None and found.phase == "running":
            await self._changed.wait()

    async def run(self, one_off: OneOff, terminal: Terminal) -> int:
        """See ``Scheduler``: reads all input, then returns `run_exit`."""
        self._called("run", one_off.app)
        self._require_image(one_off)
        while await terminal.read():
            pass
        return self.run_exit

    async def enter(self, replica: ReplicaId, command: Sequence[str], terminal: Terminal) -> int:
        """See ``Scheduler``: reads all input, then returns `run_exit`."""
        self._called("enter", replica)
        status = self.containers.get(replica)
        if status is None or status.phase != "running":
            raise UserError("replica.not-running", "The replica does not run.", "Start it with: ps:start")
        while await terminal.read():
            pass
        return self.run_exit

    async def describe(self, app: AppId) -> Sequence[Mapping[str, object]]:
        """See ``Scheduler``."""
        self._called("describe", app)
        return [{"Id": status.container} for status in self.containers.values() if status.app == app]

    async def left_over(self, *, app: AppId | None = None) -> Sequence[LeftOver]:
        """See ``Scheduler``."""
        self._called("left_over", "")
        return [left for of, left in self.one_offs_left if app in (None, of)]

    async def tidy(self, *, app: AppId | None = None) -> Sequence[LeftOver]:
        """See ``Scheduler``."""
        self._called("tidy", "")
        gone = [left for of, left in self.one_offs_left if app in (None, of)]
        self.one_offs_left = [(of, left) for of, left in self.one_offs_left if left not in gone]
        return gone

    async def watch(self, notify: Notify) -> None:
        """See ``Scheduler``. The levers below call `notify` from then on."""
        self.notify = notify
        notify(None)
        try:
            await asyncio.Event().wait()
        finally:
            self.notify = None

    async def answers(self) -> bool:
        """See ``Scheduler``."""
        return not self.is_down

    async def problems(self) -> Sequence[tuple[str, str]]:
        """See ``Scheduler``."""
        return [("Docker does not answer.", "Start it.")] if self.is_down else []

    # Levers.

    def exit(self, replica: ReplicaId, *, code: int = 1, is_oom_killed: bool = False) -> None:
        """Let a running replica end by itself, for good."""
        self._change(replica, phase="exited", exit_code=code, is_oom_killed=is_oom_killed)

    def restart(self, replica: ReplicaId) -> None:
        """Let the engine restart a replica by itself."""
        restarts = self.containers[replica].restarts + 1
        self.output.finish(replica, self.containers[replica].app, now=self.now())
        self.output.start(replica, self.containers[replica].app, now=self.now())
        self._change(replica, phase="running", restarts=restarts, started_at=self.now())

    def set_health(self, replica: ReplicaId, health: Health) -> None:
        """Let the image's own health check come to a result."""
        self._change(replica, health=health)

    def vanish(self, replica: ReplicaId) -> None:
        """Remove a container behind the agent's back."""
        app = self.containers[replica].app
        self.output.vanish(replica)
        self._forget(replica)
        self._wake()
        self._hint(app)

    def supplant(self, replica: ReplicaId) -> None:
        """Have another container with the labels of a replica in place of its own, but for the fingerprint."""
        self._made += 1
        self._change(replica, container=f"{self._made:064x}", fingerprint="another")

    def running(self, app: AppId) -> list[ReplicaStatus]:
        """Return what runs of an app."""
        return [status for status in self.containers.values() if status.app == app and status.phase == "running"]

    def forget_watcher(self) -> None:
        """Let go of a watcher, and of a clock, that are gone without having said so."""
        self.notify, self.now = None, _no_time
        self.output.forget_followers()
        self._changed = asyncio.Event()
        self._task_ends = {task: (ends_at, False) for task, (ends_at, _) in self._task_ends.items()}

    def _called(self, name: str, about: str) -> None:
        self.calls.append((name, about))
        if self.is_down:
            raise Unavailable("docker.unavailable", "Docker does not answer.")

    def _lose(self) -> None:
        if self.loses_answers:
            self.loses_answers -= 1
            raise Unavailable("docker.unavailable", "The answer was lost.")

    def _require_image(self, wish: ContainerWish) -> None:
        if wish.image in self.missing_images:
            raise Unavailable("image.missing", f"The image of {wish.app_name} v{wish.release} is not there.")

    def _start(self, wish: ReplicaWish, say: Say) -> None:
        found = self.containers.get(wish.replica)
        if found is not None and found.fingerprint == wish.fingerprint:
            if found.phase in ("running", "restarting"):
                return
        else:
            self._require_image(wish)
            self.wishes[wish.replica] = wish
            self._create(
                wish,
                replica=wish.replica,
                number=wish.number,
                name=f"{wish.app_name}.{wish.process}.{wish.number}.v{wish.release}",
                fingerprint=wish.fingerprint,
                address=wish.address,
            )
        for key in (wish.replica, wish.image):
            if key in self.start_failures:
                raise StartFailed(self.start_failures[key])
        self._change(wish.replica, phase="running", exit_code=None, is_oom_killed=False, started_at=self.now())
        for key in (wish.replica, wish.image):
            if key in self.exits_at_start:
                self._change(wish.replica, phase="exited", exit_code=self.exits_at_start[key])
        say(f"{wish.process}.{wish.number} started")

    def _create(
        self,
        wish: ContainerWish,
        *,
        replica: ReplicaId,
        name: str,
        number: int = 1,
        fingerprint: str = "",
        address: str = "",
    ) -> None:
        self._made += 1
        self.output.make(replica)
        self.containers[replica] = ReplicaStatus(
            app=wish.app,
            replica=replica,
            process=wish.process,
            number=number,
            release=wish.release,
            container=f"{self._made:064x}",
            name=name,
            phase="created",
            fingerprint=fingerprint,
            address=address,
            created_at=self.now(),
        )
        kind = wish.app, wish.process
        now = sum((status.app, status.process) == kind for status in self.containers.values())
        self.most[kind] = max(now, self.most.get(kind, 0))

    def _time_task(self, task: TaskId, *, at: float) -> None:
        self._task_ends[task] = (at, True)
        loop = asyncio.get_running_loop()
        loop.call_at(max(at, loop.time()), self._end_task, task)

    def _end_task(self, task: TaskId) -> None:
        found = self.containers.get(task)
        if found is not None and found.phase == "running":
            self.exit(task, code=self.task_exits.get(found.process, 0))

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _change(self, replica: ReplicaId, **changes: object) -> None:
        status = self.containers[replica]
        now = self.containers[replica] = msgspec.structs.replace(status, **changes)
        if now.phase != status.phase and now.phase == "running":
            self.output.start(replica, status.app, now=self.now())
        elif now.phase != status.phase and now.phase == "exited":
            self.output.finish(replica, status.app, now=self.now())
        self._wake()
        self._hint(status.app)

    def _forget(self, replica: ReplicaId) -> None:
        self.output.take_away(replica)
        self.containers.pop(replica, None)
        self.wishes.pop(replica, None)

    def _hint(self, app: AppId) -> None:
        if self.notify:
            self.notify(app)


def _no_time() -> float:
    return 0.0


class FakeProber:
    """Fulfils ``Prober``: every check passes, unless `answers` has a reason for that replica."""

    def __init__(self) -> None:
        self.answers: dict[ReplicaId, str] = {}
        self.refused: dict[tuple[int, str], str] = {}
        """Release and name of replicas that do not pass (``2, "web.1"``), with the reason."""
        self.asked: list[tuple[ReplicaId, CheckSpec]] = []

    async def probe(self, check: CheckSpec, status: ReplicaStatus, *, port: int, host: str) -> str | None:
        """See ``Prober``."""
        self.asked.append((status.replica, check))
        label = f"{status.process}.{status.number}"
        return self.answers.get(status.replica) or self.refused.get((status.release, label))
