"""Replicas: which containers should exist, each with an address of its own.

A row is made before its container and deleted after it, so the table always names every container of ours.

    planned -> started -> ready -> draining -> stopping -> (gone)
       ^----------+---------'  lost: it exited or vanished, and is to be started again
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from agent.state.sql import Sql
from proto.names import AppId, ProcessType, ReplicaId

State = Literal["planned", "started", "ready", "draining", "stopping"]

WANTED: tuple[State, ...] = ("planned", "started", "ready")
"""States of a replica that should run."""

_COLUMNS = (
    "id, app, release, process, number, bridge, address, port, state, container, planned_at, started_at, ready_at,"
    " losses, retry_at, drain_until, is_replaced"
)


class Replica(msgspec.Struct, frozen=True, array_like=True):
    """A row of ``replicas``."""

    id: ReplicaId
    app: AppId
    release: int
    process: ProcessType
    number: int
    bridge: int
    address: str
    port: int
    state: State
    container: str | None
    planned_at: float
    started_at: float | None
    ready_at: float | None
    losses: int
    retry_at: float
    drain_until: float | None
    is_replaced: bool = False
    """Whether another one is to take its place: it counts until that is ready, and is none of those wanted."""

    @property
    def label(self) -> str:
        """What people call it: ``web.1``."""
        return f"{self.process}.{self.number}"


class Replicas:
    """Rows of ``replicas``."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    async def add(
        self,
        replica: ReplicaId,
        *,
        app: AppId,
        release: int,
        process: ProcessType,
        number: int,
        bridge: int,
        address: str,
        port: int,
        at: float,
    ) -> None:
        """Plan a replica."""
        await self._sql.run(
            "INSERT INTO replicas (id, app, release, process, number, bridge, address, port, state, planned_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'planned', ?)",
            (replica, app, release, process, number, bridge, address, port, at),
        )

    async def get(self, replica: ReplicaId) -> Replica | None:
        """Return one replica, or `None`."""
        rows = await self._sql.run(f"SELECT {_COLUMNS} FROM replicas WHERE id = ?", (replica,))
        return _replica(rows.rows[0]) if rows.rows else None

    async def of_app(self, app: AppId) -> list[Replica]:
        """Return the app's replicas by release, process and number."""
        rows = await self._sql.run(
            f"SELECT {_COLUMNS} FROM replicas WHERE app = ? ORDER BY release, process, number", (app,)
        )
        return [_replica(row) for row in rows.rows]

    async def all(self) -> list[Replica]:
        """Return every replica."""
        rows = await self._sql.run(f"SELECT {_COLUMNS} FROM replicas ORDER BY app, release, process, number")
        return [_replica(row) for row in rows.rows]

    async def set_started(self, replica: ReplicaId, *, container: str, at: float) -> bool:
        """Note the container that runs it. Return false unless it was planned."""
        rows = await self._sql.run(
            "UPDATE replicas SET state = 'started', container = ?, started_at = ? WHERE id = ? AND state = 'planned'",
            (container, at, replica),
        )
        return rows.changed == 1

    async def set_ready(self, replica: ReplicaId, *, at: float) -> bool:
        """Note that it passed its check. Return false unless it was started."""
        rows = await self._sql.run(
            "UPDATE replicas SET state = 'ready', ready_at = ? WHERE id = ? AND state = 'started'", (at, replica)
        )
        return rows.changed == 1

    async def set_lost(self, replica: ReplicaId, *, retry_at: float) -> bool:
        """Note that it does not run, to be started again from `retry_at`. Return false unless it should run."""
        rows = await self._sql.run(
            "UPDATE replicas SET state = 'planned', losses = losses + 1, retry_at = ?"
            " WHERE id = ? AND state IN ('started', 'ready')",
            (retry_at, replica),
        )
        return rows.changed == 1

    async def postpone(self, replica: ReplicaId, *, retry_at: float) -> None:
        """Put off the next try of a planned replica that could not be started; it counts as a loss."""
        await self._sql.run(
            "UPDATE replicas SET losses = losses + 1, retry_at = ? WHERE id = ? AND state = 'planned'",
            (retry_at, replica),
        )

    async def forgive(self, replica: ReplicaId) -> None:
        """Forget its losses: it has been well for long enough."""
        await self._sql.run("UPDATE replicas SET losses = 0 WHERE id = ?", (replica,))

    async def replace(self, app: AppId, *, release: int, process: ProcessType) -> list[ReplicaId]:
        """Want others in place of these; return them."""
        rows = await self._sql.run(
            "UPDATE replicas SET is_replaced = 1"
            " WHERE app = ? AND release = ? AND process = ? AND is_replaced = 0"
            " AND state IN ('planned', 'started', 'ready') RETURNING id",
            (app, release, process),
        )
        return [ReplicaId(str(replica)) for (replica,) in rows.rows]

    async def drain(self, replicas: Sequence[ReplicaId], *, until: float) -> list[ReplicaId]:
        """Want these no longer. Return those that were wanted."""
        marks = ", ".join("?" * len(replicas))
        rows = await self._sql.run(
            f"UPDATE replicas SET state = 'draining', drain_until = ?"
            f" WHERE id IN ({marks}) AND state IN ('planned', 'started', 'ready') RETURNING id",
            (until, *replicas),
        )
        return [ReplicaId(str(replica)) for (replica,) in rows.rows]

    async def set_stopping(self, replica: ReplicaId) -> bool:
        """Note that it is being stopped. Return false unless it was draining."""
        rows = await self._sql.run(
            "UPDATE replicas SET state = 'stopping' WHERE id = ? AND state = 'draining'", (replica,)
        )
        return rows.changed == 1

    async def remove(self, replica: ReplicaId, *, cool_until: float) -> bool:
        """Forget a replica that is gone; its address rests until `cool_until`. Return false if it was forgotten."""
        rows = await self._sql.run("DELETE FROM replicas WHERE id = ? RETURNING address", (replica,))
        for (address,) in rows.rows:
            await self._sql.run(
                "INSERT INTO cooling_addresses (address, until) VALUES (?, ?)"
                " ON CONFLICT (address) DO UPDATE SET until = excluded.until",
                (address, cool_until),
            )
        return bool(rows.rows)

    async def per_bridge(self) -> dict[int, int]:
        """Return how many replicas each bridge has."""
        rows = await self._sql.run("SELECT bridge, COUNT(*) FROM replicas GROUP BY bridge")
        return {int(bridge or 0): int(count or 0) for bridge, count in rows.rows}

    async def is_free(self, address: str, *, now: float) -> bool:
        """Tell whether no replica has the address, nor had it until a short while ago."""
        rows = await self._sql.run(
            "SELECT 1 FROM replicas WHERE address = ?"
            " UNION ALL SELECT 1 FROM cooling_addresses WHERE address = ? AND until > ?",
            (address, address, now),
        )
        return not rows.rows

    async def forget_cooled(self, *, now: float) -> None:
        """Delete the notes of addresses that have rested long enough."""
        await self._sql.run("DELETE FROM cooling_addresses WHERE until <= ?", (now,))


def _replica(row: tuple[object, ...]) -> Replica:
    return msgspec.convert(row, Replica, strict=False)
