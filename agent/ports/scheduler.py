"""Port: what makes replicas run, on this machine or on many."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, Protocol

import msgspec

from agent.ports.session import Terminal
from agent.ports.world import Say
from proto.names import AppId, ProcessType, ReplicaId, TaskId

RESTARTS: Final = 10
"""How often the engine restarts a replica that failed after its check, before it leaves that to us."""

Phase = Literal["created", "running", "restarting", "exited"]
Health = Literal["none", "starting", "healthy", "unhealthy"]


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one replica."""

    memory_bytes: int = 0
    """0: no limit."""
    cpus: float = 0.0
    """0: no limit."""
    reserved_bytes: int = 0
    """Of memory: what others are made to give back first, where memory is scarce. 0: nothing."""
    pids: int = 512


class ContainerWish(msgspec.Struct, frozen=True, kw_only=True):
    """What every container of ours is made from: replica, task or one-off."""

    app: AppId
    app_name: str
    process: ProcessType
    release: int
    image: str
    """``sha256:…``."""
    command: tuple[str, ...] | None
    """Replaces the image's CMD (its ENTRYPOINT stays); `None` keeps the CMD."""
    env: Mapping[str, str]
    """Config and what the agent adds. Secret: never logged, never a label."""
    resources: Resources = Resources()
    stop_seconds: float = 30.0
    """From SIGTERM to SIGKILL."""


class ReplicaWish(ContainerWish, frozen=True, kw_only=True):
    """A replica that should run."""

    replica: ReplicaId
    number: int
    """From 1."""
    bridge: int
    """Index of the shared bridge that `address` belongs to."""
    address: str
    """IPv4, the replica's own for its whole life. A scheduler with other means (Swarm) may ignore it."""
    fingerprint: str
    """HMAC of the canonical wish, hex. Put on the container as a label, and compared; equal means nothing to do."""


class TaskWish(ContainerWish, frozen=True, kw_only=True):
    """A command of a deploy, to be run once in its release's image. Its process is the task's kind."""

    task: TaskId


class ReplicaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What is, of one replica or task."""

    app: AppId
    replica: ReplicaId
    process: ProcessType
    number: int
    release: int
    container: str
    """The engine's id."""
    name: str
    phase: Phase
    health: Health = "none"
    fingerprint: str = ""
    address: str = ""
    """Where other programs on this machine reach it."""
    exit_code: int | None = None
    """Of the last run, if it ended. Of a task this is the one run that there was."""
    is_oom_killed: bool = False
    restarts: int = 0
    """How often the engine restarted it by itself."""
    started_at: float = 0.0
    """Unix seconds."""
    created_at: float = 0.0
    """When the container was made, in Unix seconds: what it wrote before a restart is still there."""


class OneOff(ContainerWish, frozen=True, kw_only=True):
    """A command to run once in a release's image (``run``)."""

    name: str
    """Container name, ``blog.run.k3vq``."""
    entry: str
    """Id of the one-off, for its label."""
    seconds: float = 86_400.0
    """After this the container is ended."""


class StartFailed(Exception):
    """A replica cannot start for a reason of the app's own (no such program in the image …). The text is for users."""


Notify = Callable[[AppId | None], None]
"""Says that something of an app changed; `None`: of any app. Never blocks."""


class LeftOver(msgspec.Struct, frozen=True, kw_only=True):
    """A container of a one-off that nobody is attached to."""

    name: str
    size: int
    """Bytes of its own files, without its image's."""


class Scheduler(Protocol):
    """Runs containers. Touches only what carries the labels of this agent's instance."""

    async def converge(self, app: AppId, wishes: Sequence[ReplicaWish], say: Say) -> Sequence[ReplicaStatus]:
        """Make each wish true: exactly one running container each, as wished. Return the status of each wish.

        Called whenever what should run may differ from what runs; repeating is harmless. Several are started at
        once. A container of the same replica with another fingerprint is replaced. Containers of replicas that
        are not wished for are left alone: `stop` and `remove` end those. An answer lost on the way is found again
        by label: never a second container. A container that has exited is started again.

        Raises:
            StartFailed: one cannot start and never will as wished.
            Unavailable: the engine does not answer, or the image is missing (``image.missing``).
        """
        ...

    async def survey(self) -> Sequence[ReplicaStatus]:
        """Return every replica and task container of this instance, of all apps, in one look at the engine.

        The newest container first.
        """
        ...

    async def look(self, replica: ReplicaId) -> ReplicaStatus | None:
        """Return one replica or task with all that only a close look tells (exit code, OOM, health), or `None`."""
        ...

    async def entrust(self, replica: ReplicaId) -> None:
        """Let the engine restart this replica by itself when it fails: it has passed its check. Gone is fine.

        Before that a replica that ends stays as it is, so that its exit status and its last lines can be told.
        """
        ...

    async def stop(self, replica: ReplicaId, *, seconds: float) -> None:
        """SIGTERM, and SIGKILL after `seconds`; return when it has ended. It will not be restarted. Gone is fine.

        For replicas and tasks, as is `remove`.
        """
        ...

    async def remove(self, replica: ReplicaId) -> None:
        """Remove the stopped container with its anonymous volumes. Gone is fine."""
        ...

    async def release(self, app: AppId) -> None:
        """Remove what a destroyed app left: containers, its own networks. Repeating is harmless."""
        ...

    async def prepare(self, wish: TaskWish) -> None:
        """Make the container of a task, and do not start it. Repeating is harmless: there is never a second one.

        Raises:
            StartFailed: it can never be made as wished.
            Unavailable: the engine does not answer, or the image is missing (``image.missing``).
        """
        ...

    async def begin(self, task: TaskId) -> None:
        """Start the container of a task. To be called once in a task's life: a second call could run it again.

        Raises:
            StartFailed: it was not started, and never will be. Also if it has gone.
            Unavailable: nobody knows whether it was started; `look` may tell.
        """
        ...

    async def wait(self, task: TaskId) -> None:
        """Return once the container of a task does not run, or has gone. Has no deadline.

        Raises:
            Unavailable: the engine went away meanwhile.
        """
        ...

    async def run(self, one_off: OneOff, terminal: Terminal) -> int:
        """Run a command attached to `terminal`; return its exit status.

        The container is gone afterwards, also if the call is cancelled.
        """
        ...

    async def enter(self, replica: ReplicaId, command: Sequence[str], terminal: Terminal) -> int:
        """Run a command inside a running replica, attached; return its exit status.

        Raises:
            UserError: ``replica.not-running``.
        """
        ...

    async def describe(self, app: AppId) -> Sequence[Mapping[str, object]]:
        """Return the engine's own description of each replica, environment values masked, for ``ps:inspect``."""
        ...

    async def left_over(self, *, app: AppId | None = None) -> Sequence[LeftOver]:
        """Return the one-offs that `tidy` would remove, and change nothing.

        Raises:
            Unavailable: the engine does not answer.
        """
        ...

    async def tidy(self, *, app: AppId | None = None) -> Sequence[LeftOver]:
        """End and remove one-offs that nobody is attached to, of one app or of all; return them.

        An agent before this one left them. Called at the start, and whenever it suits: those of this agent are spared.
        """
        ...

    async def watch(self, notify: Notify) -> None:
        """Tell `notify` of changes that nobody asked for, until cancelled. Never raises; reconnects for ever.

        A notice is a hint: it may come late, twice or not at all, so the caller looks for itself. At each (re)connect
        `notify` gets `None`: anything may have changed meanwhile.
        """
        ...

    async def answers(self) -> bool:
        """Tell whether the engine answers just now, within half a second. Never raises.

        For those who answer from what is stored and want to say how good that is.
        """
        ...

    async def problems(self) -> Sequence[tuple[str, str]]:
        """Return what is wrong with the engine, each with what to do, for ``doctor``. Never raises."""
        ...


class CheckSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One startup check, as ``app.json`` writes it (durations in seconds)."""

    name: str = "default"
    kind: Literal["path", "command", "listening", "uptime", "image", "connect"] = "connect"
    """``image``: the image's own HEALTHCHECK; ``connect``: a TCP connection to the port."""
    path: str = "/"
    scheme: Literal["http", "https"] = "http"
    content: str = ""
    """Must be part of the response's body."""
    headers: tuple[tuple[str, str], ...] = ()
    command: tuple[str, ...] = ()
    port: int = 0
    """0: the replica's own."""
    uptime: float = 0.0
    attempts: int = 3
    timeout: float = 5.0
    """Per attempt."""
    wait: float = 5.0
    """Between attempts."""
    initial_delay: float = 0.0
    is_warning: bool = False
    """A failure is said, and does not fail the deploy."""


class Prober(Protocol):
    """Asks a replica, once, whether it is ready. Patience (attempts, waits) is the caller's."""

    async def probe(self, check: CheckSpec, status: ReplicaStatus, *, port: int, host: str) -> str | None:
        """Return `None` if the check passes now, else why not, in words for the user. Bounded by ``check.timeout``.

        `host`: the Host header of an HTTP check. ``uptime`` is not probed here.

        Raises:
            Unavailable: the engine does not answer, which says nothing about the replica.
        """
        ...
