"""Container calls, typed: what goes in is checked, what comes out is a Struct. Shapes are those of API 1.41 to 1.44."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from agent.docker import labels
from agent.docker.build_spec import check_build_body
from agent.docker.engine import CALL_SECONDS, Engine, Faulted, Refused
from agent.docker.spec import Body, check_body
from agent.docker.stamps import unix_seconds
from agent.errors import Unavailable
from agent.ports.scheduler import RESTARTS, Health, Phase, ReplicaStatus
from proto.names import AppId, ProcessType, ReplicaId

MEASURE_SECONDS: Final = 120.0
"""To walk through the files of some containers."""
START_SECONDS: Final = 120.0
"""To create or start one container. Usually half a second; a disk that is busy with builds can take very long."""


class _Ipam(msgspec.Struct, frozen=True):
    address: str = msgspec.field(name="IPv4Address", default="")


class _Network(msgspec.Struct, frozen=True):
    address: str = msgspec.field(name="IPAddress", default="")
    ipam: _Ipam | None = msgspec.field(name="IPAMConfig", default=None)


class _Networks(msgspec.Struct, frozen=True, rename="pascal"):
    networks: dict[str, _Network | None] | None = None

    @property
    def address(self) -> str:
        """The one address, also while the container does not run and its address is only reserved."""
        for network in (self.networks or {}).values():
            if network is not None and (network.address or network.ipam):
                return network.address or (network.ipam.address if network.ipam else "")
        return ""


class ContainerRow(msgspec.Struct, frozen=True, rename="pascal"):
    """One line of ``GET /containers/json``."""

    id: str
    names: list[str] | None = None
    labels: dict[str, str] | None = None
    state: str = ""
    status: str = ""
    """For people: ``Up 2 minutes (healthy)``, ``Exited (137) 3 seconds ago``."""
    network_settings: _Networks | None = None
    own_bytes: int = msgspec.field(name="SizeRw", default=0)
    """What its files take beside its image's; told only where it is asked for."""


class HealthRun(msgspec.Struct, frozen=True, rename="pascal"):
    """One run of an image's HEALTHCHECK."""

    exit_code: int = 0
    output: str = ""


class HealthState(msgspec.Struct, frozen=True, rename="pascal"):
    """What the image's HEALTHCHECK has found so far."""

    status: str = "none"
    log: list[HealthRun] | None = None


class ContainerState(msgspec.Struct, frozen=True, rename="pascal"):
    """``State`` of ``GET /containers/ID/json``."""

    status: str = ""
    is_oom_killed: bool = msgspec.field(name="OOMKilled", default=False)
    pid: int = 0
    """Of its first process, as this machine sees it; 0 while it does not run."""
    exit_code: int = 0
    error: str = ""
    started_at: str = ""
    health: HealthState | None = None


class _Config(msgspec.Struct, frozen=True, rename="pascal"):
    labels: dict[str, str] | None = None
    tty: bool = False


class ContainerDetail(msgspec.Struct, frozen=True, rename="pascal"):
    """``GET /containers/ID/json``."""

    id: str
    name: str = ""
    created: str = ""
    log_path: str = ""
    """Of the newest file of its log, on the engine's machine; empty where it has none."""
    state: ContainerState = ContainerState()
    restart_count: int = 0
    config: _Config = _Config()
    network_settings: _Networks | None = None

    @property
    def is_running(self) -> bool:
        """Whether its first process lives and is not frozen."""
        return self.state.status == "running"


class _Created(msgspec.Struct, frozen=True, rename="pascal"):
    id: str


class _Waited(msgspec.Struct, frozen=True, rename="pascal"):
    status_code: int = 0


class NameTaken(Exception):
    """Another container has the wished name."""


class Containers:
    """The containers of one engine that carry this agent's instance label."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def find(self, wanted: Mapping[str, str], *, is_measured: bool = False) -> list[ContainerRow]:
        """Return all containers of ours, running or not, that carry these labels too, the newest first.

        `is_measured`: with how much their own files take. The engine reads all their folders for that.
        """
        mine = labels.filters({labels.INSTANCE: self._engine.instance, **wanted})
        params: dict[str, str | int | bool] = {"all": True, "filters": mine}
        if is_measured:
            params["size"] = True
        rows = await self._engine.get(
            "containers/json",
            into=list[ContainerRow],
            params=params,
            timeout=MEASURE_SECONDS if is_measured else CALL_SECONDS,
        )
        if not wanted:
            # The list begins with the newest, which is remembered of two: they are one too many, and it came after.
            self._engine.whereabouts = {
                replica: row.id
                for row in reversed(rows or [])
                if (replica := (row.labels or {}).get(labels.REPLICA_ID))
            }
        return rows or []

    async def of_replica(self, replica: ReplicaId) -> ContainerDetail | None:
        """Return all about the container that carries a replica's or a task's id, or `None` if there is none.

        Where it was seen before, it is asked for by its own id. The engine goes through all containers to find one by a
        label (6 µs each), so that asking for each of them so would grow with the square of their number.
        """
        known = self._engine.whereabouts.get(replica)
        detail = await self.inspect(known) if known else None
        if detail is not None and (detail.config.labels or {}).get(labels.REPLICA_ID) == replica:
            return detail
        for row in await self.find({labels.REPLICA_ID: replica}):
            detail = await self.inspect(row.id)
            if detail is not None:
                self._engine.whereabouts[replica] = row.id
                return detail
        self._engine.whereabouts.pop(replica, None)
        return None

    async def inspect(self, container: str) -> ContainerDetail | None:
        """Return all about one container, or `None` if it has gone."""
        return await self._engine.get(f"containers/{container}/json", into=ContainerDetail)

    async def create(self, name: str, body: Body) -> str:
        """Create a container and return its id.

        Raises:
            NameTaken: by whichever container; it was not created.
            Refused: anything else the engine will not do (404: image or network is missing).
            Disallowed: `check_body` says no.
        """
        check_body(body, instance=self._engine.instance)
        return await self._create(name, body)

    async def create_build(self, name: str, body: Body) -> str:
        """Create a container in which an app is built, as `create` does; `check_build_body` is asked."""
        check_build_body(body, instance=self._engine.instance)
        return await self._create(name, body)

    async def _create(self, name: str, body: Body) -> str:
        try:
            answer = await self._engine.json(
                "POST", "containers/create", params={"name": name}, data=body, timeout=START_SECONDS
            )
        except Refused as refusal:
            if refusal.status == 409:
                raise NameTaken(refusal.message) from refusal
            raise
        return msgspec.convert(answer, _Created).id

    async def start(self, container: str) -> None:
        """Start a container; one that runs is left as it is. Raises `Refused` or `Unavailable`."""
        await self._engine.json("POST", f"containers/{container}/start", timeout=START_SECONDS)

    async def unpause(self, container: str) -> None:
        """Let a frozen container go on."""
        await self._engine.json("POST", f"containers/{container}/unpause")

    async def stop(self, container: str, *, seconds: float) -> None:
        """Ask it to end and make it after `seconds`; return when it has. Stopped or gone is fine."""
        grace = math.ceil(seconds)
        await self._engine_ignoring(
            {304, 404}, "POST", f"containers/{container}/stop", params={"t": grace}, timeout=grace + CALL_SECONDS
        )

    async def allow_restarts(self, container: str) -> None:
        """Have the engine restart it when it fails, a few times, with growing pauses. Gone is fine.

        ``on-failure`` is one of the two policies that bring containers back after dockerd was killed
        (``unless-stopped`` does not).
        """
        await self._restart(container, {"Name": "on-failure", "MaximumRetryCount": RESTARTS})

    async def forbid_restarts(self, container: str) -> None:
        """Take back the restart policy of a stopped container, so that not even a restart of the engine starts it.

        The engine remembers a stop by hand only of a container that ran: one that had failed would be started again.
        Gone is fine.
        """
        await self._restart(container, {"Name": "no"})

    async def _restart(self, container: str, policy: Mapping[str, object]) -> None:
        try:
            await self._engine_ignoring(
                {404, 409}, "POST", f"containers/{container}/update", data={"RestartPolicy": policy}
            )
        except Faulted as fault:
            # An engine that was killed while it removed a container finds it half removed when it comes back, and
            # neither starts it nor finishes on its own. Told with 500, so by its words (20.10 and 28).
            if "marked for removal" not in fault.detail:
                raise

    async def remove(self, container: str) -> None:
        """End it if need be, and remove it with its anonymous volumes. Gone is fine, as is going."""
        await self._engine_ignoring(
            {404, 409}, "DELETE", f"containers/{container}", params={"force": True, "v": True}, timeout=START_SECONDS
        )

    async def wait(self, container: str) -> int:
        """Return its exit status once it does not run (137 if it was removed meanwhile). Has no deadline."""
        try:
            answer = await self._engine.json("POST", f"containers/{container}/wait", timeout=None)
        except Refused as refusal:
            if refusal.status != 404:
                raise
            return 137
        return msgspec.convert(answer, _Waited).status_code

    async def _engine_ignoring(
        self,
        statuses: set[int],
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int | bool] | None = None,
        data: object | None = None,
        timeout: float = CALL_SECONDS,
    ) -> None:
        try:
            await self._engine.json(method, path, params=params, data=data, timeout=timeout)
        except Refused as refusal:
            if refusal.status not in statuses:
                raise Unavailable("docker.unavailable", f"Docker refused: {refusal.message}") from refusal


_PHASES: Final[Mapping[str, Phase]] = {"created": "created", "running": "running", "restarting": "restarting"}
"""All else (exited, dead, removing, and paused: frozen by hand, it serves nobody) counts as exited."""

_HEALTHS: Final[Mapping[str, Health]] = {"starting": "starting", "healthy": "healthy", "unhealthy": "unhealthy"}

_EXITED = re.compile(r"(?:Exited|Restarting) \((\d+)\)")
_HEALTH = re.compile(r"\((?:health: )?(starting|healthy|unhealthy)\)")


def row_status(row: ContainerRow) -> ReplicaStatus | None:
    """Return what a list tells of a replica or task, or `None` if the labels are not those of one.

    Exit code and health are read from the text for people, the same since engine 1.12; a list has no other form of
    them before API 1.52. What it cannot tell (OOM, restarts, times) is left at its default.
    """
    exited, health = _EXITED.search(row.status), _HEALTH.search(row.status)
    return _status(
        row.labels or {},
        container=row.id,
        name=(row.names or [""])[0],
        state=row.state,
        networks=row.network_settings,
        health=health.group(1) if health else "",
        exit_code=int(exited.group(1)) if exited else None,
    )


def detail_status(detail: ContainerDetail) -> ReplicaStatus | None:
    """Return all that there is to know of a replica or task, or `None` if the labels are not those of one."""
    state = detail.state
    status = _status(
        detail.config.labels or {},
        container=detail.id,
        name=detail.name,
        state=state.status,
        networks=detail.network_settings,
        health=state.health.status if state.health else "",
        exit_code=state.exit_code if state.status in ("exited", "dead", "restarting") else None,
    )
    if status is None:
        return None
    return msgspec.structs.replace(
        status,
        is_oom_killed=state.is_oom_killed,
        restarts=detail.restart_count,
        started_at=unix_seconds(state.started_at),
        created_at=unix_seconds(detail.created),
    )


def _status(
    found: Mapping[str, str],
    *,
    container: str,
    name: str,
    state: str,
    networks: _Networks | None,
    health: str,
    exit_code: int | None,
) -> ReplicaStatus | None:
    number, release = found.get(labels.NUMBER, ""), found.get(labels.RELEASE, "")
    if found.get(labels.KIND) not in (labels.REPLICA, labels.TASK) or not (number.isdecimal() and release.isdecimal()):
        return None
    return ReplicaStatus(
        app=AppId(found.get(labels.APP_ID, "")),
        replica=ReplicaId(found.get(labels.REPLICA_ID, "")),
        process=ProcessType(found.get(labels.PROCESS_TYPE, "")),
        number=int(number),
        release=int(release),
        container=container,
        name=name.removeprefix("/"),
        phase=_PHASES.get(state, "exited"),
        health=_HEALTHS.get(health, "none"),
        fingerprint=found.get(labels.FINGERPRINT, ""),
        address=networks.address if networks else "",
        exit_code=exit_code,
    )


def statuses(rows: Sequence[ContainerRow]) -> list[ReplicaStatus]:
    """Return the status of each row that is a replica or a task."""
    return [status for row in rows if (status := row_status(row)) is not None]
