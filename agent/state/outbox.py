"""What happened, and to which handlers it is still owed.

An event and its deliveries are stored in the transaction of the change they tell of. A delivery's row goes when its
handler is done with it, or stays as evidence with a reason in ``dead``. The bus keeps the head of every lane in
memory, so this table is read whole once, at the start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from agent.state.sql import Row, Sql, Value
from proto.events import Event, encode, tag_of
from proto.names import AppId

Routes = Mapping[type[Event], Sequence[str]]
"""Which handlers want which event, by their stored names."""

MAX_CAUSES = 100
"""Steps back that `Outbox.why` goes. No chain of ours is a tenth as long; a loop cannot be, ids only grow."""


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it was stored."""

    id: int
    at: float
    """Unix seconds."""
    app: AppId
    type: str
    body: bytes
    """JSON. Perhaps written by a newer agent: decoding may fail."""
    cause: int | None
    """The event whose handler emitted this one."""


class Owed(msgspec.Struct, frozen=True, kw_only=True):
    """One event that one handler has not yet dealt with."""

    handler: str
    app: AppId
    event_id: int
    due_at: float
    """Unix seconds."""
    attempts: int
    """How often it was begun."""
    type: str
    body: bytes
    """Empty if the event is missing."""


class OwedLane(msgspec.Struct, frozen=True):
    """All that one handler owes to one app: its oldest event, and the id of the newest."""

    head: Owed
    newest: int


class Dead(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that was given up."""

    event_id: int
    handler: str
    app: AppId
    type: str
    attempts: int
    reason: str


class Outbox:
    """Rows of ``events`` and ``deliveries``."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    async def add(self, event: Event, *, at: float, cause: int | None, handlers: Sequence[str]) -> int:
        """Store an event and owe it to `handlers`; return its id. Only ``Transaction.emit`` calls this."""
        stored = await self._sql.run(
            "INSERT INTO events (at, app, type, body, cause) VALUES (?, ?, ?, ?, ?)",
            (at, event.app, tag_of(type(event)), encode(event), cause),
        )
        assert stored.last_id is not None
        if handlers:
            await self._sql.run_many(
                "INSERT INTO deliveries (event_id, handler, app, due_at) VALUES (?, ?, ?, ?)",
                [(stored.last_id, handler, event.app, at) for handler in handlers],
            )
        return stored.last_id

    # For the people who ask what happened.

    async def event(self, event_id: int) -> StoredEvent | None:
        """Return one event."""
        found = await self._sql.run(f"{_EVENTS} WHERE id = ?", (event_id,))
        return _event(found.first) if found.first else None

    async def events(
        self, app: AppId | None = None, *, after: int = 0, before: int | None = None, limit: int = 100
    ) -> list[StoredEvent]:
        """Return events with ``after < id < before``, oldest first.

        More than `limit`: the first ones if `after` is given, else the last ones, which is what a person wants to see.
        """
        conditions, values = ["id > ?"], [after]
        parameters: list[Value] = list(values)
        if app is not None:
            conditions.append("app = ?")
            parameters.append(app)
        if before is not None:
            conditions.append("id < ?")
            parameters.append(before)
        order = "ASC" if after else "DESC"
        found = await self._sql.run(
            f"{_EVENTS} WHERE {' AND '.join(conditions)} ORDER BY id {order} LIMIT ?", (*parameters, limit)
        )
        events = [_event(row) for row in found.rows]
        return events if after else events[::-1]

    async def why(self, event_id: int) -> list[StoredEvent]:
        """Return the event, what led to it, what led to that, and so on. Empty if it is not (or no longer) stored."""
        found = await self._sql.run(
            """
            WITH RECURSIVE chain (id, at, app, type, body, cause, step) AS (
                SELECT id, at, app, type, body, cause, 1 FROM events WHERE id = ?
                UNION ALL
                SELECT e.id, e.at, e.app, e.type, e.body, e.cause, step + 1
                FROM chain
                JOIN events AS e ON e.id = chain.cause
                WHERE step < ?
            )
            SELECT id, at, app, type, body, cause FROM chain ORDER BY step
            """,
            (event_id, MAX_CAUSES),
        )
        return [_event(row) for row in found.rows]

    async def dead(self, *, limit: int = 1_000) -> list[Dead]:
        """Return what was given up, oldest first."""
        found = await self._sql.run(
            """
            SELECT d.event_id, d.handler, d.app, COALESCE(e.type, ''), d.attempts, d.dead
            FROM deliveries AS d
            LEFT JOIN events AS e ON e.id = d.event_id
            WHERE d.dead IS NOT NULL
            ORDER BY d.event_id, d.handler
            LIMIT ?
            """,
            (limit,),
        )
        return [
            Dead(event_id=event_id, handler=handler, app=app, type=kind, attempts=attempts, reason=reason)
            for event_id, handler, app, kind, attempts, reason in found.rows
        ]

    async def trim(self, *, before: float, limit: int = 1_000) -> int:
        """Forget up to `limit` events older than `before` (Unix seconds) that nobody owes; return how many."""
        gone = await self._sql.run(
            """
            DELETE FROM events
            WHERE id IN (
                SELECT id FROM events
                WHERE id < COALESCE((SELECT MIN(id) FROM events WHERE at >= ?), 9223372036854775807)
                  AND id NOT IN (SELECT event_id FROM deliveries)
                ORDER BY id
                LIMIT ?
            )
            """,
            (before, limit),
        )
        return gone.changed

    # For the bus.

    async def lanes(self) -> list[OwedLane]:
        """Return every lane that owes something, the longest waiting first. Reads the whole table."""
        found = await self._sql.run(
            """
            SELECT d.handler, d.app, d.event_id, d.due_at, d.attempts, COALESCE(e.type, ''), COALESCE(e.body, x''),
                   lane.newest
            FROM (
                SELECT handler, app, MIN(event_id) AS oldest, MAX(event_id) AS newest
                FROM deliveries
                WHERE dead IS NULL
                GROUP BY handler, app
            ) AS lane
            JOIN deliveries AS d ON d.handler = lane.handler AND d.app = lane.app AND d.event_id = lane.oldest
            LEFT JOIN events AS e ON e.id = lane.oldest
            ORDER BY lane.oldest
            """
        )
        return [OwedLane(_owed(row[:-1]), row[-1]) for row in found.rows]

    async def next(self, handler: str, app: AppId, *, after: int) -> Owed | None:
        """Return the oldest event with an id over `after` that `handler` owes to `app`."""
        found = await self._sql.run(
            """
            SELECT d.handler, d.app, d.event_id, d.due_at, d.attempts, COALESCE(e.type, ''), COALESCE(e.body, x'')
            FROM deliveries AS d
            LEFT JOIN events AS e ON e.id = d.event_id
            WHERE d.handler = ? AND d.app = ? AND d.event_id > ? AND d.dead IS NULL
            ORDER BY d.event_id
            LIMIT 1
            """,
            (handler, app, after),
        )
        return _owed(found.first) if found.first else None

    async def since(self, app: AppId, *, after: int, types: Sequence[str]) -> list[bytes]:
        """Return the bodies of the app's events of those `types` with an id over `after`."""
        marks = ", ".join("?" * len(types))
        found = await self._sql.run(
            f"SELECT body FROM events WHERE app = ? AND type IN ({marks}) AND id > ? ORDER BY id",
            (app, *types, after),
        )
        return [body for (body,) in found.rows]

    async def mark(self, marks: Iterable[tuple[int, float, str, AppId, int]]) -> None:
        """Set (attempts, due_at) of the deliveries (handler, app, event_id)."""
        await self._sql.run_many(
            "UPDATE deliveries SET attempts = ?, due_at = ? WHERE handler = ? AND app = ? AND event_id = ?", marks
        )

    async def done(self, lanes: Iterable[tuple[str, AppId, int]]) -> None:
        """Forget what the lanes (handler, app) owed up to and including an event's id."""
        await self._sql.run_many(
            "DELETE FROM deliveries WHERE handler = ? AND app = ? AND event_id <= ? AND dead IS NULL", lanes
        )

    async def bury(self, handler: str, app: AppId, event_id: int, *, reason: str) -> bool:
        """Stop trying one delivery; its row stays as evidence. Return false if that was so already."""
        buried = await self._sql.run(
            "UPDATE deliveries SET dead = ? WHERE handler = ? AND app = ? AND event_id = ? AND dead IS NULL",
            (reason, handler, app, event_id),
        )
        return buried.changed == 1

    async def bury_all_but(self, handlers: Sequence[str], *, reason: str) -> list[str]:
        """Stop trying what is owed to handlers that are not among `handlers`; return their names."""
        marks = ", ".join("?" * len(handlers))
        buried = await self._sql.run(
            f"UPDATE deliveries SET dead = ? WHERE dead IS NULL AND handler NOT IN ({marks}) RETURNING handler",
            (reason, *handlers),
        )
        return sorted({name for (name,) in buried.rows})


_EVENTS = "SELECT id, at, app, type, body, cause FROM events"


def _event(row: Row) -> StoredEvent:
    event_id, at, app, kind, body, cause = row
    return StoredEvent(id=event_id, at=at, app=app, type=kind, body=body, cause=cause)


def _owed(row: Row) -> Owed:
    handler, app, event_id, due_at, attempts, kind, body = row
    return Owed(handler=handler, app=app, event_id=event_id, due_at=due_at, attempts=attempts, type=kind, body=body)
