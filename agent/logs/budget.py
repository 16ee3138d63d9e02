"""Upkeep of the segments, in a thread of its own: closed ones are compressed, the oldest deleted.

The budgets count bytes on disk, the segments that are being written included. First each app is held to its own,
then all together: whoever's segment is the oldest loses it, so the time that logs reach back is alike for all.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.logs.segments import Shelf

_SMALLEST_ROTATED = 64 * 1024
"""A segment being written is closed early, to come within the budget, only from this size on."""


def tidy(shelf: Shelf, *, shelves: Iterable[Shelf], app_bytes: int, total_bytes: int) -> None:
    """Compress what `shelf` has closed, and hold it and all `shelves` to their budgets."""
    for number in shelf.unpacked():
        # Before each: an app that outruns the compression must not outrun its budget too.
        hold([shelf], budget=app_bytes)
        shelf.pack(number)
    hold([shelf], budget=app_bytes)
    hold(list(shelves), budget=total_bytes)


def hold(shelves: list[Shelf], *, budget: int) -> None:
    """Delete the oldest closed segments of `shelves` until all together have at most `budget` bytes.

    If none is left to delete, the largest segment that is being written is closed early, and is the next to go.
    """
    excess = sum(shelf.size for shelf in shelves) - budget
    while excess > 0:
        oldest = _oldest(shelves)
        if oldest is not None:
            excess -= oldest.drop_oldest()
            continue
        largest = max(shelves, key=lambda shelf: shelf.active_size)
        if largest.active_size < _SMALLEST_ROTATED:
            return
        excess += largest.rotate()


def _oldest(shelves: list[Shelf]) -> Shelf | None:
    dated = [(closed_at, index) for index, shelf in enumerate(shelves) if (closed_at := shelf.oldest()) is not None]
    return shelves[min(dated)[1]] if dated else None
