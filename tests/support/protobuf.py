"""Writes BuildKit's trace messages, for tests of what reads them."""

from __future__ import annotations

from agent.builders.protobuf import field
from agent.builders.trace import Trace


def message(*fields: bytes) -> bytes:
    """Return a message of these fields."""
    return b"".join(fields)


def time(seconds: float | None, number: int) -> bytes:
    """Return a timestamp field, or nothing."""
    if seconds is None:
        return b""
    return field(number, message(field(1, int(seconds)), field(2, round(seconds % 1 * 1e9))))


def trace(told: Trace) -> bytes:
    """Return `told` as BuildKit would write it."""
    parts = [
        field(1, message(field(1, each.digest), field(3, each.name), field(4, int(each.is_cached)),
                         time(each.started, 5), time(each.completed, 6), field(7, each.error)))
        for each in told.vertexes
    ]  # fmt: skip
    parts += [
        field(2, message(field(1, each.id), field(2, each.vertex), field(4, each.current), field(5, each.total),
                         time(each.completed, 8)))
        for each in told.statuses
    ]  # fmt: skip
    parts += [field(3, message(field(1, each.vertex), field(3, 1), field(4, each.data))) for each in told.outputs]
    parts += [field(4, message(field(1, each.vertex), field(3, each.short))) for each in told.warnings]
    return message(*parts)
