"""Times for people."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"))


def stamp(at: float) -> str:
    """Return a time in UTC: ``2026-01-31 12:00:00Z``."""
    return datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def ago(at: float, *, now: float) -> str:
    """Return how long ago a time is, in its largest unit: ``3h ago``."""
    return f"{span(now - at)} ago"


def span(seconds: float) -> str:
    """Return a length of time in its largest unit: ``3h``."""
    for unit, name in _UNITS:
        if seconds >= unit:
            return f"{int(seconds // unit)}{name}"
    return f"{max(0, int(seconds))}s"


def lasted(begin: float, end: float | None) -> str:
    """Return how long something took, to a tenth of a second; empty if it goes on."""
    return "" if end is None else f"{max(0.0, end - begin):.1f} s"
