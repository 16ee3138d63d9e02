"""What is stored of what replicas said, held against what they said.

Each line that a replica wrote is stored once, in order, and its end is noted once for each of its runs. Lines are
missing only where the engine discarded them, and then a mark stands in their place. Read from the files themselves:
each record names its replica.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.handlers.logs import GAP
from agent.logs.lines import split
from agent.logs.store import DiskLogStore
from agent.ports.world import Clock
from proto.names import AppId, ReplicaId
from tests.fakes.output import Output, Said

FOLDER = "logs"
SEGMENT_BYTES = 2_000
"""Small, so that segments are closed and compressed among all the rest."""


class SmallStore(DiskLogStore):
    """A store of small segments beside the database."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder = folder / FOLDER
        super().__init__(self.folder, clock=clock, segment_bytes=SEGMENT_BYTES)


class Record(NamedTuple):
    """One line of a replica that is stored."""

    is_own: bool
    """Whether it is Pushboat's."""
    text: str


def stored(folder: Path, app: AppId) -> dict[ReplicaId, list[Record]]:
    """Return what is stored of each replica of an app, in order."""
    found: dict[ReplicaId, list[Record]] = {}
    for data in _segments(folder / FOLDER / app):
        # What follows the last newline is the torn end of a write, which the next use of the file cuts off.
        for record in data.split(b"\n")[:-1]:
            if fields := split(record):
                line = Record(fields[3] == b"a", fields[5].decode())
                found.setdefault(ReplicaId(fields[4].decode()), []).append(line)
    return found


def is_whole(folder: Path, said: Said, replica: ReplicaId) -> bool:
    """Tell whether the last line that a replica wrote is stored, or was dropped by the engine."""
    lines = [line.text for line in stored(folder, said.app).get(replica, []) if not line.is_own]
    last = said.count - 1
    return not said.count or last in said.dropped or (bool(lines) and lines[-1] == str(last))


def differences(folder: Path, output: Output, *, apps: Iterable[AppId]) -> list[str]:
    """Return what is stored otherwise than it was said, of the apps that there are. For a time when all is at rest."""
    wrong = []
    lines = {app: stored(folder, app) for app in apps}
    for replica, said in output.said.items():
        if said.app in lines and not said.is_excused:
            found = lines[said.app].get(replica, [])
            wrong += [f"output of {replica}: {what}" for what in _differences(found, said)]
    return wrong


def _differences(found: Sequence[Record], said: Said) -> Iterator[str]:
    expected, is_marked, was_note = 0, False, False
    for line in found:
        if line.is_own:
            if line.text == GAP:
                is_marked = True
            elif was_note and expected not in said.dropped:
                yield f"two notes in a row, the second one {line.text!r}"
            was_note = line.text != GAP
            continue
        was_note = False
        number = int(line.text)
        if number < expected:
            yield f"line {number} is there twice, or late"
        # What went with a container that somebody took away is nobody's fault, and nobody can know of it.
        missing = {one for one in range(expected, number) if one >= said.vanished}
        if missing - said.dropped:
            yield f"lines {sorted(missing - said.dropped)} of {said.count} are missing before {number}"
        if missing and expected and not is_marked:
            yield f"lines {sorted(missing)} are missing without a mark"
        # Who finds none of the lines that he has cannot know whether those that are left follow them.
        if is_marked and not missing and number - 1 not in said.dropped:
            yield f"a mark before {number}, where nothing is missing"
        expected, is_marked = number + 1, False
    # Nothing was written since the engine discarded those: nobody can know of them yet.
    unstored = set(range(expected, said.count)) - said.dropped
    if unstored and not said.is_gone:
        yield f"lines {sorted(unstored)} of {said.count} are not stored"


def _segments(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.glob("*.log*")):
        if path.suffix == ".gz":
            yield gzip.decompress(path.read_bytes())
        elif path.suffix == ".log":
            yield path.read_bytes()
