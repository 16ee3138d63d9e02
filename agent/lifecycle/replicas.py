"""The moves of replicas, and which of them are wanted.

Generations: the live release, unless the app is stopped, and at most one candidate beside it. What is wanted is
derived from them and the scale each time; nothing is stored that could contradict it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from agent.lifecycle import addresses, checks
from agent.ports.addresses import Bridges
from agent.ports.scheduler import ReplicaStatus
from agent.state.database import Tables, Transaction
from agent.state.releases import Release
from agent.state.replicas import WANTED, Replica
from proto.events import ReplicaLost, ReplicaReady, ReplicaRemoved, ReplicasDraining, ReplicasStarted
from proto.names import WEB, AppId, ProcessType, ReplicaId

NewId = Callable[[str], str]
"""Makes an id that begins with the given letter; see ``agent.ports.world.Ids.new``."""

ADDRESS_REST_SECONDS = 600.0
"""How long a removed replica's address is given to nobody, so that no stale route can reach a stranger."""


class Slot(msgspec.Struct, frozen=True):
    """A replica that should run, whether or not there is one."""

    release: int
    process: ProcessType
    number: int
    port: int
    """Where it will serve; 0 for process types that do not."""
    is_held: bool = False
    """Whether it has to wait until its predecessors, of another release or replaced by it, are gone."""


async def plan(tx: Transaction, *, app: AppId, bridges: Bridges, new_id: NewId, drain_seconds: float) -> list[Replica]:
    """Make the rows what they should be: add what is missing, drain what is too many. Return the wanted rows."""
    slots = {(slot.release, slot.process, slot.number): slot for slot in await wanted(tx, app)}
    rows = [row for row in await tx.replicas.of_app(app) if row.state in WANTED]
    surplus = [row for row in rows if (row.is_replaced or _key(row) not in slots) and not _stands_in(row, rows, slots)]
    await drain(tx, app=app, surplus=surplus, until=tx.now + drain_seconds)
    there = {_key(row) for row in rows if not row.is_replaced}
    for key in [key for key, slot in slots.items() if key not in there and not slot.is_held]:
        place = await addresses.take(tx, bridges=bridges)
        slot = slots[key]
        await tx.replicas.add(
            ReplicaId(new_id("r")),
            app=app,
            release=slot.release,
            process=slot.process,
            number=slot.number,
            bridge=place.bridge,
            address=place.address,
            port=slot.port,
            at=tx.now,
        )
    return [row for row in await tx.replicas.of_app(app) if row.state in WANTED]


def _key(row: Replica) -> tuple[int, ProcessType, int]:
    return (row.release, row.process, row.number)


def _stands_in(row: Replica, rows: Sequence[Replica], slots: Mapping[tuple[int, ProcessType, int], Slot]) -> bool:
    """Tell whether a replica too many has to go on until those that are wanted are ready.

    One of them was lost, say, or they are to replace it and do not run yet. Not if they wait for its end.
    """
    if row.state != "ready" or not (row.process == WEB or row.is_replaced):
        return False
    wanted = {key: slot for key, slot in slots.items() if key[:2] == (row.release, row.process)}
    ready = {_key(other) for other in rows if other.state == "ready" and not other.is_replaced}
    return not wanted.keys() <= ready and not any(slot.is_held for slot in wanted.values())


async def wanted(tables: Tables, app: AppId) -> list[Slot]:
    """Return what should run: the live release's replicas, unless stopped, and the candidate's.

    Of process types that run alone, replicas of the live release make room for those of the candidate, and one that
    has to wait for the end of another release's is held.

    All is read from `tables`, the app's row too: with a row from before a switch, the release that has just gone live
    would be taken for one too many.
    """
    scales = await tables.scales.of_app(app)
    modes = await checks.modes_of(tables, app)
    rows = await tables.replicas.of_app(app) if modes.has_alone else []
    found = await generations(tables, app)
    slots: list[Slot] = []
    for release in found:
        port = await web_port(tables, release)
        for plan in release.plan.processes:
            is_alone = modes.is_alone(plan.type)
            if is_alone and release is not found[-1] and found[-1].plan.process(plan.type):
                continue
            is_held = is_alone and any(
                row.process == plan.type and (row.release != release.version or row.is_replaced) for row in rows
            )
            count = scales.get(plan.type, 1 if plan.type == WEB else 0)
            slots += [
                Slot(release.version, plan.type, number, port if plan.type == WEB else 0, is_held)
                for number in range(1, count + 1)
            ]
    return slots


async def generations(tables: Tables, app: AppId) -> list[Release]:
    """Return the releases of which replicas should run, the live one first."""
    row = await tables.apps.get(app)
    if row is None or row.destroyed_at is not None:
        return []
    versions = [] if row.is_stopped or row.live_release is None else [row.live_release]
    candidate = await tables.deploys.candidate(app)
    is_due = candidate is not None and candidate.status != "releasing"
    if candidate and is_due and candidate.release and candidate.release not in versions:
        versions.append(candidate.release)
    found = [await tables.releases.get(app, version) for version in versions]
    return [release for release in found if release is not None]


async def web_port(tables: Tables, release: Release) -> int:
    """Return where a release's web processes serve: ``PORT`` of its config, else what the image EXPOSEs, else 5000."""
    text = (await tables.configs.get(release.app, release=release.version)).get("PORT", "")
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text) <= 65_535 else release.plan.port


async def started(tx: Transaction, *, app: AppId, containers: Sequence[tuple[ReplicaId, str]]) -> None:
    """Note which containers run these replicas; they have their check before them."""
    moved = [
        replica
        for replica, container in containers
        if await tx.replicas.set_started(replica, container=container, at=tx.now)
    ]
    if moved:
        await tx.emit(ReplicasStarted(app=app, replicas=tuple(moved)))


async def ready(tx: Transaction, *, replica: Replica) -> bool:
    """Note that a replica passed its startup check. Return false unless it was waiting for that."""
    if not await tx.replicas.set_ready(replica.id, at=tx.now):
        return False
    await tx.emit(
        ReplicaReady(
            app=replica.app,
            replica=replica.id,
            process=replica.process,
            number=replica.number,
            release=replica.release,
        )
    )
    return True


async def lost(tx: Transaction, *, replica: Replica, reason: str, retry_at: float) -> bool:
    """Note that a replica does not run though it should; it is started again from `retry_at` (Unix seconds)."""
    if not await tx.replicas.set_lost(replica.id, retry_at=retry_at):
        return False
    await tx.emit(
        ReplicaLost(
            app=replica.app,
            replica=replica.id,
            process=replica.process,
            number=replica.number,
            release=replica.release,
            reason=reason,
        )
    )
    return True


async def drain(tx: Transaction, *, app: AppId, surplus: Sequence[Replica], until: float) -> None:
    """Want these replicas no longer. Web replicas finish what is in flight until then, the others stop at once."""
    ids = [replica.id for replica in surplus if replica.state in WANTED]
    moved = await tx.replicas.drain(ids, until=until) if ids else []
    if moved:
        await tx.emit(ReplicasDraining(app=app, replicas=tuple(moved)))


async def removed(tx: Transaction, *, replica: Replica) -> None:
    """Forget a replica whose container is gone and whose log is stored."""
    if await tx.replicas.remove(replica.id, cool_until=tx.now + ADDRESS_REST_SECONDS):
        await tx.emit(
            ReplicaRemoved(
                app=replica.app,
                replica=replica.id,
                process=replica.process,
                number=replica.number,
                release=replica.release,
            )
        )


async def are_ready(tables: Tables, *, app: AppId, release: int, process: ProcessType | None = None) -> bool:
    """Tell whether every wanted replica of a release, or of one `process` type in it, is ready. True if none is."""
    slots = {
        (slot.process, slot.number)
        for slot in await wanted(tables, app)
        if slot.release == release and process in (None, slot.process)
    }
    there = {
        (replica.process, replica.number)
        for replica in await tables.replicas.of_app(app)
        if replica.release == release and replica.state == "ready" and not replica.is_replaced
    }
    return slots <= there


def ending_of(status: ReplicaStatus) -> str:
    """Return how a replica ended, in words for users."""
    if status.is_oom_killed:
        return "it was killed because it used more memory than it may"
    if status.exit_code is not None:
        return f"it exited with status {status.exit_code}"
    return f"it is {status.phase}"
