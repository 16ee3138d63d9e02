"""A lifecycle's build as its watcher sees it, and what its exit status means.

The lifecycle heads each phase by a line ``===> DETECTING``; the statuses are those of ``creator`` in the Platform API.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Final

from agent import sanitise
from agent.builders.progress import LAST_LINES, MAX_LINE, QUIET_SECONDS, duration
from agent.ports.images import BuildFailed
from agent.ports.world import Say

_INDENT: Final = "       "
_HEADING = re.compile(r"===> ([A-Z]+)")
_HEADINGS: Final = {
    "ANALYZING": "Looking at the run image and the last build",
    "DETECTING": "Detecting which buildpacks fit",
    "RESTORING": "Restoring what the last build kept",
    "BUILDING": "Building with buildpacks",
    "EXPORTING": "Making the image",
}

_PLAIN: Final = {
    11: "the lifecycle in the builder does not speak the Platform API that its label promises",
    12: "one of its buildpacks is for another version of the lifecycle (Buildpack API)",
    20: "none of its groups of buildpacks fits the app. Is the app's manifest in the folder that is built?",
    21: "none of its groups of buildpacks fits the app, and at least one buildpack failed while it looked",
    51: "a buildpack failed to build the app",
    126: "its lifecycle cannot be run",
    127: "it has no lifecycle (/cnb/lifecycle/creator)",
    137: "it was killed, mostly for lack of memory",
}
_BY_TENS: Final = {
    2: "buildpacks could not be detected",
    3: "the run image or the last build could not be looked at",
    4: "what the last build kept could not be restored",
    5: "the app could not be built",
    6: "the image could not be written",
}


class Phases:
    """Turns what a lifecycle prints into lines."""

    def __init__(self, say: Say, *, monotonic: Callable[[], float]) -> None:
        """`monotonic` tells seconds."""
        self._say = say
        self._monotonic = monotonic
        self._began_at = self._spoke_at = monotonic()
        self._partial: dict[str, bytes] = {}
        """What has come of a line, by stream: they interleave."""
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._phase = ""

    def feed(self, stream: str, data: bytes) -> None:
        """Say the lines that `data` of one of its two streams completes."""
        *lines, partial = (self._partial.get(stream, b"") + data).split(b"\n")
        for line in lines:
            self._line(line)
        while len(partial) >= MAX_LINE:
            self._line(partial[:MAX_LINE])
            partial = partial[MAX_LINE:]
        self._partial[stream] = partial

    def tick(self) -> None:
        """Say that it goes on, if nothing was said for long."""
        now = self._monotonic()
        if now - self._spoke_at >= QUIET_SECONDS:
            self._say(f"{_INDENT}still running, for {duration(now - self._began_at)} now")
            self._spoke_at = now

    def end(self) -> None:
        """Say what is left of the last lines."""
        for partial in filter(None, self._partial.values()):
            self._line(partial)
        self._partial.clear()

    def failure(self, status: int, *, builder: str) -> BuildFailed:
        """Return what a status other than 0 means, with the last lines."""
        meaning = _PLAIN.get(status) or _BY_TENS.get(status // 10) or "its lifecycle failed"
        during = f" while {self._phase[:1].lower()}{self._phase[1:]}" if self._phase else ""
        text = f"The build with {builder} failed: {meaning} (status {status}{during})."
        if self._last:
            text += " Its last lines:\n" + "\n".join(f"  {line}" for line in self._last)
        return BuildFailed(text)

    def _line(self, line: bytes) -> None:
        self._spoke_at = self._monotonic()
        plain = sanitise.plain(line.decode("utf-8", "replace").rstrip("\r")).rstrip()
        if heading := _HEADING.fullmatch(plain):
            self._phase = _HEADINGS.get(heading[1], heading[1].capitalize())
            self._say(f"-----> {self._phase}")
            self._last.clear()
            self._began_at = self._spoke_at
            return
        self._say(f"{_INDENT}{plain}" if plain else "")
        if plain:
            self._last.append(plain[:500])
