"""Standard outputs of running containers, written to from outside at a told pace, and what was stored of them.

A container's standard output is a pipe that the engine reads. Root may open it by ``/proc/PID/fd/1``; what is written
there is, for the engine and all behind it, what the container's process wrote. So no writer inside takes processor time
for making lines, and each line carries the moment at which it was written.
"""

from __future__ import annotations

import gzip
import itertools
import os
import re
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.docker import labels
from agent.docker.stamps import LINE_STAMP, StampReader
from agent.logs import lines as records
from agent.ports.logs import GAP
from scripts.house.engine import Engine

LINE_BYTES = 100
"""Of each line that is written, its newline included."""
FLOOD_BYTES = 1_000
"""The same of each line of a flood."""
TICK_SECONDS = 0.02
"""Between two writes to one output, where there is a pace."""
LAST = "the last line"


@dataclass(frozen=True)
class Output:
    """Where one container's process writes to."""

    container: str
    app: str
    """The id of its app."""
    replica: str
    file: int


@dataclass(frozen=True)
class Written:
    """What was written: lines in all outputs together, and how long that took."""

    lines: int
    last: int
    """The number of each output's last line."""
    began: float
    """Unix seconds."""
    seconds: float

    @property
    def rate(self) -> float:
        """Lines a second."""
        return self.lines / self.seconds


@contextmanager
def opened(engine: Engine, *, process: str) -> Iterator[list[Output]]:
    """Give the outputs of all containers of that process type of ours that run."""
    outputs: list[Output] = []
    rows = engine.call("GET", "/containers/json", filters={"label": [f"{labels.PROCESS_TYPE}={process}"]})
    try:
        for row in rows:
            pid = engine.call("GET", f"/containers/{row['Id']}/json")["State"]["Pid"]
            file = os.open(f"/proc/{pid}/fd/1", os.O_WRONLY)
            told = row["Labels"]
            outputs.append(Output(row["Id"], told[labels.APP_ID], told[labels.REPLICA_ID], file))
        yield outputs
    finally:
        for output in outputs:
            os.close(output.file)


def write(outputs: Sequence[Output], *, rate: float, seconds: float, first: int = 0) -> Written:
    """Write numbered lines to all outputs alike, `rate` a second in all, for so long; the last one says that it is.

    An engine that does not take them holds this up: look at the rate that comes of it.
    """
    began = time.time()
    per_tick = rate * TICK_SECONDS / len(outputs)
    number = first
    for tick in range(round(seconds / TICK_SECONDS)):
        wait = began + tick * TICK_SECONDS - time.time()
        if wait > 0:
            time.sleep(wait)
        until = first + round((tick + 1) * per_tick)
        if until > number:
            block = b"".join(line(index) for index in range(number, until))
            _write_all(outputs, block)
            number = until
    _write_all(outputs, line(number, LAST))
    return Written((number + 1 - first) * len(outputs), number, began, time.time() - began)


def flood(output: Output, *, rate: float, seconds: float) -> Written:
    """Write long numbered lines to one output, up to `rate` a second, or as many as the engine takes."""
    began = time.time()
    number = 0
    while (now := time.time()) - began < seconds:
        if number > (now - began) * rate:
            time.sleep(TICK_SECONDS / 4)
            continue
        _write_all((output,), b"".join(line(index, size=FLOOD_BYTES) for index in range(number, number + 60)))
        number += 60
    return Written(number, number - 1, began, time.time() - began)


def write_seldom(outputs: Sequence[Output], *, every: float, count: int) -> None:
    """Write one line to each output, then wait, `count` times."""
    for number in range(count):
        for output in outputs:
            _write_all((output,), line(number))
            time.sleep(every / len(outputs))


def line(number: int, text: str = "", *, size: int = LINE_BYTES) -> bytes:
    """Return one line as it is written: its number, when, and what makes it `size` bytes long."""
    return f"{number:010} {time.time_ns():019} {text} ".encode().ljust(size - 1, b".") + b"\n"


def delay(text: str, *, now: float) -> float:
    """Return how many seconds before `now` the line of that text was written."""
    return now - int(text.split()[1]) / 1e9


def _write_all(outputs: Iterable[Output], block: bytes) -> None:
    for output in outputs:
        view = memoryview(block)
        while view:
            view = view[os.write(output.file, view) :]


def stored(folder: Path) -> dict[str, list[tuple[int, bytes]]]:
    """Return stamp and text of each line in an app's folder of segments that its processes wrote, by replica."""
    found: dict[str, list[tuple[int, bytes]]] = defaultdict(list)
    for segment in sorted(folder.iterdir()):
        data = gzip.decompress(segment.read_bytes()) if segment.suffix == ".gz" else segment.read_bytes()
        for record in data.split(b"\n"):
            fields = records.split(record)
            if fields is not None and fields[3] != b"a":
                found[fields[4].decode()].append((int(fields[0]), fields[5]))
    return found


def kept_by_engine(container: str) -> list[tuple[int, bytes]]:
    """Return stamp and text of each line that ``docker logs`` shows of a container."""
    command = ["docker", "logs", "--timestamps", container]
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True).stdout
    read = StampReader().read
    return [(read(row), row[LINE_STAMP + 1 :]) for row in said.split(b"\n") if row]


def newest(folder: Path) -> bytes:
    """Return the end of an app's newest segment: the last lines that are stored."""
    segments = sorted(folder.glob("*.log"))
    if not segments:
        return b""
    with segments[-1].open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4_096))
        return file.read()


def ended(folder: Path, number: int, *, is_packed: bool) -> set[str]:
    """Return the replicas in whose newest lines, stored in an app's folder, the last one is, which has that number.

    `is_packed`: look into compressed segments, too, which takes a while.
    """
    found: set[str] = set()
    wanted = re.compile(rb" (\w+) %010d \d+ %b " % (number, LAST.encode()))
    for segment in sorted(folder.glob("*.log*" if is_packed else "*.log"))[-3:]:
        try:
            data = gzip.decompress(segment.read_bytes()) if segment.suffix == ".gz" else segment.read_bytes()
        except FileNotFoundError:
            continue  # compressed just now: there is a next look
        found.update(match[1].decode() for match in wanted.finditer(data))
    return found


def differing(outputs: Sequence[Output], folder: Path) -> tuple[int, int, int]:
    """Compare what is stored below `folder` with ``docker logs``: lines missing, lines doubled, and of how many."""
    missing = doubled = total = 0
    for app, group in itertools.groupby(sorted(outputs, key=lambda output: output.app), lambda output: output.app):
        ours = stored(folder / app)
        for output in group:
            theirs, mine = kept_by_engine(output.container), ours[output.replica]
            total += len(theirs)
            if mine != theirs:
                missing += len(set(theirs) - set(mine))
                doubled += len(mine) - len(set(mine))
    return missing, doubled, total


def holes(output: Output, folder: Path) -> tuple[float, int]:
    """Return which part of a flood's lines is missing between those that are stored, and how many gaps are marked."""
    numbers: list[int] = []
    gaps = 0
    for segment in sorted((folder / output.app).iterdir()):
        data = gzip.decompress(segment.read_bytes()) if segment.suffix == ".gz" else segment.read_bytes()
        gaps += data.count(GAP.encode())
        numbers += [int(found) for found in re.findall(rb"(?m) %b (\d{10}) .{900}" % output.replica.encode(), data)]
    wanted = max(numbers) - min(numbers) + 1
    return 1 - len(numbers) / wanted, gaps
