"""The build as its watcher sees it: steps with their numbers, what they print, what was cached, how long it took.

Steps run side by side, so their output interleaves: a step's headline is repeated when another one spoke in between.
Housekeeping steps (loading the Dockerfile, unpacking the context) are not shown unless they fail. Downloads and the
export tell how far they are every few seconds. The last lines of each step are kept to explain a failure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from agent.builders.trace import Output, Status, Trace, Vertex
from agent.ports.world import Say

REPORT_SECONDS: Final = 5.0
"""Between two lines about something that takes long."""
QUIET_SECONDS: Final = 60.0
"""A step that prints nothing for so long is said to be still running."""
NOTABLE_SECONDS: Final = 0.1
"""Steps that took less are not worth a line about it."""
LAST_LINES: Final = 15
"""Kept of each running step's output."""
MAX_LINE: Final = 10_000
"""Characters of one line of output; longer ones are cut into several."""
_MAX_STEPS: Final = 5_000
"""Steps that are remembered: more than any Dockerfile has, less than a hostile stream could name."""

_INDENT: Final = "       "
_DEEPER: Final = "         "
_HIDDEN: Final = (
    "[internal]",
    "copy /context",
    "resolve image config for",
    "[auth]",
    "docker-image://",
    "exporting to ",
)


class _Step:
    def __init__(self, vertex: Vertex, *, now: float) -> None:
        self.vertex = vertex
        self.is_announced = False
        self.begun_at = now
        self.spoke_at = now
        self.reported_at = now
        self.partial = b""
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self.downloads: dict[str, tuple[int, int]] = {}

    @property
    def is_hidden(self) -> bool:
        return self.vertex.name.startswith(_HIDDEN)


class Progress:
    """Turns traces into lines. `monotonic` tells seconds."""

    def __init__(self, say: Say, *, monotonic: Callable[[], float]) -> None:
        self._say = say
        self._monotonic = monotonic
        self._steps: dict[str, _Step] = {}
        self._open: dict[str, _Step] = {}
        """Those that have not ended."""
        self._speaker: _Step | None = None
        self.failed: Vertex | None = None
        """The first step that failed of itself."""

    def show(self, trace: Trace) -> None:
        """Say what `trace` tells."""
        for vertex in trace.vertexes:
            self._change(vertex)
        for status in trace.statuses:
            self._measure(status)
        for output in trace.outputs:
            self._print(output)
        for warning in trace.warnings:
            self._say(f" !     {warning.short[:MAX_LINE]}")
        self._close()

    def tick(self) -> None:
        """Say that slow steps are still running. To be called every second or so."""
        now = self._monotonic()
        for step in self._open.values():
            if step.vertex.started is None:
                continue
            if step.vertex.name.startswith("exporting to ") or step.downloads:
                if now - step.reported_at >= REPORT_SECONDS:
                    step.reported_at = now
                    self._report(step, now=now)
            elif not step.is_hidden and now - step.spoke_at >= QUIET_SECONDS:
                step.spoke_at = now
                self._under(step, f"(still running, {duration(now - step.begun_at)} so far)")

    def last_lines(self, digest: str) -> list[str]:
        """Return the last lines that the step printed."""
        step = self._steps.get(digest)
        return list(step.last) if step else []

    def _change(self, vertex: Vertex) -> None:
        step = self._steps.get(vertex.digest)
        if step is None:
            if len(self._steps) >= _MAX_STEPS:
                return
            step = self._steps[vertex.digest] = self._open[vertex.digest] = _Step(vertex, now=self._monotonic())
        elif vertex.started is not None and (step.vertex.started is None or self._is_reopened(vertex)):
            # BuildKit ends a step that only looked an image up, and begins it again to fetch the image.
            self._open[vertex.digest] = step
            step.begun_at = step.spoke_at = step.reported_at = self._monotonic()
        step.vertex = vertex
        if vertex.error and self.failed is None and "context canceled" not in vertex.error:
            self.failed = vertex
        if vertex.is_cached and not step.is_hidden and not step.is_announced:
            self._announce(step, mark="  CACHED")
        elif vertex.started is not None and not step.is_hidden and not step.is_announced:
            self._announce(step)

    def _is_reopened(self, vertex: Vertex) -> bool:
        return vertex.completed is None and vertex.digest not in self._open

    def _announce(self, step: _Step, *, mark: str = "") -> None:
        step.is_announced = True
        self._say(f"{_INDENT}{_headline(step.vertex)}{mark}")
        self._speaker = step

    def _print(self, output: Output) -> None:
        step = self._steps.get(output.vertex)
        if step is None:
            return
        *lines, step.partial = (step.partial + output.data).split(b"\n")
        if len(step.partial) > MAX_LINE:
            lines.append(step.partial)
            step.partial = b""
        for line in lines:
            self._print_line(step, line)
        step.spoke_at = self._monotonic()

    def _print_line(self, step: _Step, line: bytes) -> None:
        # Of a progress bar that redraws itself, only what stood there last.
        text = line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace")
        for start in range(0, max(len(text), 1), MAX_LINE):
            piece = text[start : start + MAX_LINE]
            step.last.append(piece)
            self._under(step, piece)

    def _under(self, step: _Step, line: str) -> None:
        if self._speaker is not step:
            self._announce(step, mark=" (goes on)" if step.is_announced else "")
        self._say(f"{_DEEPER}{line}".rstrip())

    def _measure(self, status: Status) -> None:
        step = self._steps.get(status.vertex)
        if step is None or not status.total or status.total < status.current:
            return
        if status.id in step.downloads or len(step.downloads) < _MAX_STEPS:
            step.downloads[status.id] = (status.current, status.total)

    def _report(self, step: _Step, *, now: float) -> None:
        seconds = duration(now - step.begun_at)
        if not step.downloads:
            self._say(f"{_INDENT}Storing the image ({seconds} so far)")
            return
        done = sum(current for current, _ in step.downloads.values())
        total = sum(total for _, total in step.downloads.values())
        self._say(f"{_INDENT}{_headline(step.vertex)}  {_megabytes(done)} of {_megabytes(total)} ({seconds} so far)")

    def _close(self) -> None:
        """Say the end of each step that has ended, after all that it printed."""
        for digest, step in list(self._open.items()):
            if step.vertex.completed is None:
                continue
            del self._open[digest]
            if step.partial:
                self._print_line(step, step.partial)
                step.partial = b""
            took = step.vertex.completed - (step.vertex.started or step.vertex.completed)
            if not step.is_hidden and not step.vertex.is_cached and not step.vertex.error and took >= NOTABLE_SECONDS:
                mark = "" if self._speaker is step else f"{_number(step.vertex)} "
                self._say(f"{_DEEPER}{mark}done in {duration(took)}")


def duration(seconds: float) -> str:
    """Return ``3.2 s``, ``12 s`` or ``2 min 5 s``."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _headline(vertex: Vertex) -> str:
    return " ".join(vertex.name.split())[:500]


def _number(vertex: Vertex) -> str:
    """Return ``[2/5]`` of ``[2/5] RUN make``."""
    return vertex.name.partition("]")[0] + "]" if vertex.name.startswith("[") else _headline(vertex)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
