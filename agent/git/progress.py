"""What ``git fetch --progress`` writes, made into lines for people: one at each quarter, and all others.

Git draws ``Receiving objects:  12% (120/1000)`` over itself some times a second. Somebody who watches wants to see that
it goes on; whoever reads it in the log of a CI run does not want a thousand lines.
"""

from __future__ import annotations

import re
from typing import Final

from agent.ports.remotes import Tell

_INDENT: Final = "       "
_PERCENT: Final = re.compile(r"(?P<what>.*?): +(?P<percent>\d+)% ")
_QUARTER: Final = 25
_ALL: Final = 4
_LONGEST: Final = 2_000
"""Characters of a line that are shown."""
_MOST: Final = 200
"""Lines that are shown; a server may say more."""
_UNSAID: Final = (
    *("From ", " * ", " + ", "   ", "fatal: ", "error: ", "hint: "),
    *("remote: Enumerating objects:", "remote: Total "),
)
"""Beginnings of what git says of its own refs, of errors, which are told otherwise, and of what helps nobody."""
_THEIRS: Final = "remote: "
"""Beginning of what the other end says; its percentages are told at their ends alone."""


class Progress:
    """Takes git's standard error as it comes, and tells what is worth it."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._rest = ""
        self._seen: dict[str, int] = {}
        self._count = 0

    async def hear(self, data: bytes) -> None:
        """Take a piece of it."""
        self._rest += data.decode("utf-8", "replace")
        *pieces, self._rest = re.split(r"[\r\n]", self._rest)
        self._rest = self._rest[-_LONGEST:]
        for line in pieces:
            if line.strip() and self._is_worth_it(line) and self._count < _MOST:
                self._count += 1
                await self._tell(f"{_INDENT}{line.rstrip()[:_LONGEST]}")

    def _is_worth_it(self, line: str) -> bool:
        if line.startswith(_UNSAID):
            return False
        match = _PERCENT.match(line)
        if match is None:
            return True
        quarter = int(match["percent"]) // _QUARTER
        before = self._seen.get(match["what"], -1)
        self._seen[match["what"]] = quarter
        return quarter > before and quarter >= (_ALL if line.startswith(_THEIRS) else 1)
