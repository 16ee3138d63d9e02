"""Log lines as people and scripts read them, and what people write about them: moments, zones, processes.

    2024-05-01T12:00:00.123456789Z app[web.1]: GET / 200

The word ``app`` is the kind of source, as with Heroku and Dokku, whose users' scripts look for it.

Pure. Texts are sanitised by the screen, like all that goes there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent.commands import replies
from agent.commands.arguments import quoted, read_process_type
from agent.commands.replies import STEP
from agent.errors import UserError
from agent.ports.logs import LogLine
from proto.names import ProcessType

COLOURS = (36, 33, 32, 35, 31)
"""SGR foreground colours of the sources, in the order of their appearance: Dokku's."""

SECOND = 1_000_000_000
"""Nanoseconds."""

_SPAN = re.compile(r"(?:(\d{1,5})d)?(?:(\d{1,6})h)?(?:(\d{1,8})m)?(?:(\d{1,9})s)?", re.ASCII)
_UNITS = (86_400, 3_600, 60, 1)


class Style:
    """How lines are written for one reader."""

    def __init__(self, *, zone: tzinfo = UTC, has_colours: bool = False, is_raw: bool = False) -> None:
        """`is_raw`: what the app wrote and nothing else."""
        self._zone = zone
        self._has_colours = has_colours
        self._is_raw = is_raw
        self._colours: dict[tuple[ProcessType, int], int] = {}

    def render(self, lines: Iterable[LogLine]) -> Iterator[str]:
        """Yield each line as text."""
        for line in lines:
            if not self._is_raw:
                yield f"{self._prefix(line)} {STEP if line.stream == 'agent' else ''}{line.text}"
            elif line.stream != "agent":
                yield line.text

    def _prefix(self, line: LogLine) -> str:
        text = f"{stamp(line.at, zone=self._zone)} app[{line.process}.{line.number}]:"
        if not self._has_colours:
            return text
        source = (line.process, line.number)
        colour = self._colours.setdefault(source, COLOURS[len(self._colours) % len(COLOURS)])
        return f"\x1b[{colour}m{text}\x1b[0m"


def as_json(lines: Iterable[LogLine], *, app: str) -> Iterator[str]:
    """Yield each line as a JSON object on a line of its own."""
    for line in lines:
        facts = {
            "time": stamp(line.at, zone=UTC),
            "app": app,
            "process": line.process,
            "number": line.number,
            "release": line.release,
            "stream": line.stream,
            "text": line.text,
        }
        yield replies.as_json(facts)


def stamp(at: int, *, zone: tzinfo) -> str:
    """Return nanoseconds since 1970 as RFC 3339 writes them, in `zone`."""
    seconds, nanoseconds = divmod(at, SECOND)
    before, offset = _second(seconds, zone)
    return f"{before}.{nanoseconds:09}{offset}"


@lru_cache(maxsize=64)
def _second(seconds: int, zone: tzinfo) -> tuple[str, str]:
    """Return the parts of a stamp before and after its fraction; most lines share their second with the one before."""
    moment = datetime.fromtimestamp(seconds, zone)
    text = moment.isoformat(timespec="seconds")
    return text[:19], "Z" if zone is UTC else text[19:]


def read_moment(text: str, *, now: float) -> int:
    """Return the nanoseconds since 1970 of ``1h30m`` (ago), ``2024-05-01`` or ``2024-05-01T12:00:00Z`` (else UTC).

    Raises:
        UserError: ``logs.bad-time``.
    """
    found = _SPAN.fullmatch(text)
    if found and text:
        seconds = sum(int(count or 0) * unit for count, unit in zip(found.groups(), _UNITS, strict=True))
        return max(int((now - seconds) * SECOND), 0)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(
            "logs.bad-time",
            f"{quoted(text)} is no time.",
            "Write how long ago (90s, 1h30m, 2d) or 2024-05-01T12:00:00Z.",
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since_1970 = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return max(since_1970 // timedelta(microseconds=1), 0) * 1_000


def read_zone(name: str) -> tzinfo:
    """Return the time zone of that name in the IANA database.

    Raises:
        UserError: ``logs.unknown-zone``.
    """
    if name.upper() in ("UTC", "Z"):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UserError(
            "logs.unknown-zone", f"{quoted(name)} is not a time zone known here.", "Zones are called as Europe/Berlin."
        ) from error


def read_source(text: str) -> tuple[ProcessType, int | None]:
    """Return the process type and the number of ``web`` or ``web.1``.

    Raises:
        UserError: ``process.invalid``.
    """
    process, dot, number = text.partition(".")
    if dot and not (number.isascii() and number.isdigit() and len(number) <= 6):
        raise UserError("process.invalid", f"{quoted(text)} is no process.", "Write web, or web.1 for one replica.")
    return read_process_type(process), int(number) if dot else None


def read_release(text: str) -> int:
    """Return the number of a release, written ``v5`` or ``5``.

    Raises:
        UserError: ``release.invalid``.
    """
    number = text.removeprefix("v")
    if not (number.isascii() and number.isdigit() and len(number) <= 9):
        raise UserError("release.invalid", f"{quoted(text)} is not a release.", "Releases are called v1, v2 and so on.")
    return int(number)
