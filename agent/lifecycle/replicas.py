"""The moves of replicas, and which of them are wanted.

Generations: the live release, unless the app is stopped, and at most one candidate beside it. What is wanted is
derived from them, the scale and what is there each time; nothing is stored that could contradict it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from agent.lifecycle import addresses, strategies
from agent.ports.addresses import Bridges
from agent.ports.scheduler import ReplicaStatus
from agent.state.apps import App
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
    waits_for: strategies.Reason | None = None
    """Why it is not to be started yet."""
    is_replaced: bool = False
    """Whether it is one that goes on until the one that is to take its place is ready."""

    @property
    def key(self) -> _Key:
        """What it has in common with the replica that fills it."""
        return (self.release, self.process, self.number, self.is_replaced)


_Key = tuple[int, ProcessType, int, bool]


async def plan(tx: Transaction, *, app: AppId, bridges: Bridges, new_id: NewId, drain_seconds: float) -> list[Replica]:
    """Make the rows what they should be: add what is missing, drain what is too many. Return the wanted rows."""
    slots = {slot.key: slot for slot in await wanted(tx, app)}
    there: set[_Key] = set()
    surplus: list[Replica] = []
    rows = [row for row in await tx.replicas.of_app(app) if row.state in WANTED]
    for row in sorted(rows, key=lambda row: row.state != "ready"):
        # Two of one slot: what was restarted, and restarted once more before it was all replaced.
        key = (row.release, row.process, row.number, row.is_replaced)
        if key not in slots or key in there:
            surplus.append(row)
        there.add(key)
    await drain(tx, app=app, surplus=surplus, until=tx.now + drain_seconds)
    for key in [key for key, slot in slots.items() if key not in there and slot.waits_for is None]:
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


async def wanted(tables: Tables, app: AppId) -> list[Slot]:
    """Return what should run: the live release's replicas, unless stopped, and the candidate's.

    How the candidate's take the place of the others, and that of a candidate that failed some go on until the live
    release has its full count again, is told in ``agent.lifecycle.strategies``.

    All is read from `tables`, the app's row too: with a row from before a switch, the release that has just gone live
    would be taken for one too many.
    """
    row = await tables.apps.get(app)
    live = row.live_release if row and not row.is_stopped else None
    scales = await tables.scales.of_app(app)
    told = await strategies.told(tables, app)
    rows = await tables.replicas.of_app(app)
    found = await generations(tables, app)
    ports = {release.version: await web_port(tables, release) for release in found}
    slots: list[Slot] = []
    for process in dict.fromkeys(plan.type for release in found for plan in release.plan.processes):
        turns = strategies.turns(
            process,
            [release for release in found if release.plan.process(process)],
            [row for row in rows if row.process == process],
            strategy=told.of(process),
            live=live,
            count=scales.get(process, 1 if process == WEB else 0),
        )
        for turn in turns:
            port = ports.get(turn.release, 0) if process == WEB else 0
            slots.append(Slot(turn.release, process, turn.number, port, turn.waits_for, turn.is_replaced))
    return slots


async def standing_in(tables: Tables, *, release: Release) -> set[ReplicaId]:
    """Return those replicas of a candidate that is given up which have to serve until the live one is whole again."""
    app = await tables.apps.get(release.app)
    if app is None or app.destroyed_at is not None or app.is_stopped or app.live_release is None:
        return set()
    live = await tables.releases.get(app.id, app.live_release)
    scales = await tables.scales.of_app(app.id)
    rows = await tables.replicas.of_app(app.id)
    found: set[ReplicaId] = set()
    for plan in release.plan.processes:
        if live is None or plan.strategy != "rolling" or live.plan.process(plan.type) is None:
            continue
        of_type = [row for row in rows if row.process == plan.type]
        count = scales.get(plan.type, 1 if plan.type == WEB else 0)
        stay = strategies.stand_ins(of_type, release=release.version, live=live.version, count=count)
        found |= {row.id for row in stay}
    return found


async def routed(tables: Tables, app: App, rows: Sequence[Replica]) -> list[Replica]:
    """Return the replicas that requests go to while no deploy switches. `rows`: all of the app.

    Those of the live release; and where these are fewer than wanted, those of a rolling deploy that took their place.
    """
    serving = [row for row in rows if is_serving(row)]
    live = [row for row in serving if row.release == app.live_release]
    others = [row for row in serving if row.release != app.live_release]
    if not others or app.live_release is None or app.is_stopped:
        return live
    if len(live) >= (await tables.scales.of_app(app.id)).get(WEB, 1):
        return live
    releases = [await tables.releases.get(app.id, version) for version in {row.release for row in others}]
    plans = {release.version: release.plan.process(WEB) for release in releases if release}
    return live + [row for row in others if (plan := plans.get(row.release)) and plan.strategy == "rolling"]


def is_serving(row: Replica) -> bool:
    """Tell whether requests can be sent to a replica."""
    return row.process == WEB and row.state == "ready" and row.port != 0


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
        if slot.release == release and process in (None, slot.process) and not slot.is_replaced
    }
    there = {
        (replica.process, replica.number)
        for replica in await tables.replicas.of_app(app)
        if replica.release == release and replica.state == "ready" and not replica.is_replaced
    }
    return slots <= there


async def are_enough(tables: Tables, *, release: Release) -> bool:
    """Tell whether of each process type of a release as many are ready as are wanted, of whichever release they are."""
    scales = await tables.scales.of_app(release.app)
    ready = Counter(row.process for row in await tables.replicas.of_app(release.app) if row.state == "ready")
    return all(
        ready[plan.type] >= scales.get(plan.type, 1 if plan.type == WEB else 0) for plan in release.plan.processes
    )


def ending_of(status: ReplicaStatus) -> str:
    """Return how a replica ended, in words for users."""
    if status.is_oom_killed:
        return "it was killed because it used more memory than it may"
    if status.exit_code is not None:
        return f"it exited with status {status.exit_code}"
    return f"it is {status.phase}"
