"""What every measurement prints (a JSON object a line for programs, a table for people), and looks at processes."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One measure of ours beside the same of the reference."""

    measure: str
    unit: str
    ours: float
    reference: float
    aim: str
    """What was hoped for, such as ``ratio <= 1.3``."""
    runs: int
    failed: int | None = None
    """Requests that failed, where they are counted."""

    @property
    def ratio(self) -> float | None:
        """Ours by the reference, or `None` where the reference is zero."""
        return round(self.ours / self.reference, 3) if self.reference else None

    def json(self) -> str:
        """Return the line for programs."""
        words = {
            "measure": self.measure,
            "unit": self.unit,
            "ours": round(self.ours, 4),
            "reference": round(self.reference, 4),
            "ratio": self.ratio,
            "aim": self.aim,
            "runs": self.runs,
        }
        return json.dumps(words if self.failed is None else {**words, "failed": self.failed})


def figure(measure: str, ours: Sequence[float], reference: Sequence[float], *, unit: str, aim: str) -> Figure:
    """Return the medians of two series."""
    return Figure(measure, unit, statistics.median(ours), statistics.median(reference), aim, len(ours))


def both(measure: str, unit: str, sides: Iterable[float], aim: str, runs: int, *, failed: int | None = None) -> Figure:
    """Return what was measured once of ours and once of the reference, which `sides` are in this order."""
    ours, reference = sides
    return Figure(measure, unit, ours, reference, aim, runs, failed)


def report(figures: Sequence[Figure]) -> None:
    """Print the lines for programs on standard output and the table for people on standard error."""
    for one in figures:
        print(one.json(), flush=True)
    rows = [("measure", "ours", "reference", "ratio", "aim", "runs"), *(_row(one) for one in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), file=sys.stderr)


def _row(one: Figure) -> tuple[str, ...]:
    ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
    failed = "" if one.failed is None else f", {one.failed} failed"
    ours, reference = (f"{value:.4g} {one.unit}" for value in (one.ours, one.reference))
    return one.measure, ours + failed, reference, ratio, one.aim, str(one.runs)


def say(words: str) -> None:
    """Tell people what is being done."""
    print(f"       {words}", file=sys.stderr, flush=True)


def megabytes(pid: int, which: str = "VmRSS") -> float:
    """Return the resident memory of a process: VmRSS of proc(5), in kB there; or VmHWM, the most that it was."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 1000


def forget_peak(pid: int) -> None:
    """Let VmHWM begin anew at what is resident now: 5 in clear_refs of proc(5)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_seconds(pid: int) -> float:
    """Return the processor time a process has used: utime and stime of proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def busy_seconds(pid: int) -> tuple[float, float]:
    """Return for how long a process's first thread has run, and for how long it had to wait for a processor.

    /proc/PID/schedstat, in nanoseconds there (Linux, scheduler/sched-stats.rst). On a machine that does other work the
    second tells how much of what was measured is not the program's.
    """
    ran, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(ran) / 1e9, int(waited) / 1e9
