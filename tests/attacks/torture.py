"""Generated command lines at length, ``scripts/torture commands [N]``: 100,000, and a report of how they were answered.

Each seed is a server of its own and `BATCH` lines for it. A seed that went wrong is cut down to the fewest lines that
still do, and can be replayed. The ten thousand wishes for containers are tried as well.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.attacks.harbour import BATCH, Server, Told, attack, batch, prepare
from tests.attacks.lines import Line
from tests.attacks.wishes import WISHES, try_wishes
from tests.simulation.virtual import without_pauses

LINES = 100_000
SEEDS_AT_ONCE = 40
SLOWEST = 10
MAX_BROKEN = 20
"""After so many seeds that went wrong it ends: more would tell nothing new."""
REPORT_EVERY_SECONDS = 30.0


class Sum(NamedTuple):
    """How some lines were answered."""

    lines: int = 0
    statuses: Counter[int] = Counter()
    slowest: tuple[tuple[float, str], ...] = ()
    broken: tuple[str, ...] = ()

    def plus(self, other: Sum) -> Sum:
        slowest = sorted((*self.slowest, *other.slowest), reverse=True)[:SLOWEST]
        return Sum(
            self.lines + other.lines,
            self.statuses + other.statuses,
            tuple(slowest),
            self.broken + other.broken,
        )


def main() -> int:
    """Give the lines, write the report, and return 1 if something was wrong."""
    options = _options()
    if options.seed is not None:
        return _replay(options.seed)
    began = reported_at = time.monotonic()
    wishes = try_wishes(WISHES, first=options.first)
    total = Sum()
    for one in _sums(options.first, options.lines, workers=options.workers):
        total = total.plus(one)
        if time.monotonic() - reported_at > REPORT_EVERY_SECONDS:
            reported_at = time.monotonic()
            options.report.write_text(_report(options, total, wishes, seconds=reported_at - began))
            print(f"{total.lines} lines, {len(total.broken)} seeds that went wrong", flush=True)
        if len(total.broken) >= MAX_BROKEN:
            break
    report = _report(options, total, wishes, seconds=time.monotonic() - began)
    options.report.write_text(report)
    print(report)
    return 1 if total.broken or wishes else 0


def fewest(server: Server, lines: Sequence[Line]) -> list[Told]:
    """Return how the fewest of `lines` were answered that still go wrong: one after the other is left out."""
    kept = list(lines)
    for line in lines:
        fewer = [one for one in kept if one is not line]
        if any(told.complaints for told in attack(server, fewer)):
            kept = fewer
    return attack(server, kept)


def told_of(seed: int, answers: Sequence[Told]) -> str:
    """Return what went wrong with the lines of a seed, for people."""
    lines = [f"seed {seed}; replay it: scripts/torture commands --seed {seed}"]
    for told in answers:
        lines.append(f"  {told.line!r}"[:600])
        lines += [f"    ! {complaint}"[:3_000] for complaint in told.complaints]
    return "\n".join(lines)


def some(server: Server, seeds: Sequence[int]) -> Sum:
    """Return how the lines of some seeds were answered."""
    total = Sum()
    with without_pauses() as collect:
        for seed in seeds:
            answers = attack(server, batch(seed))
            is_wrong = any(told.complaints for told in answers)
            total = total.plus(
                Sum(
                    lines=BATCH,
                    statuses=Counter(told.status for told in answers[:BATCH]),
                    slowest=tuple((told.seconds, told.line.text[:120]) for told in answers),
                    broken=(told_of(seed, fewest(server, batch(seed))),) if is_wrong else (),
                )
            )
            collect()
    return total


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/torture commands", description=__doc__)
    parser.add_argument("lines", type=int, nargs="?", default=LINES, help="how many lines")
    parser.add_argument("--seed", type=int, help="replay one seed, and print how its lines are answered")
    parser.add_argument("--first", type=int, default=int(time.time()) * 10_000, help="the first seed")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--report", type=Path, default=Path("torture-commands.txt"), help="where to write it")
    return parser.parse_args()


def _replay(seed: int) -> int:
    answers = attack(prepare(), batch(seed))
    print(told_of(seed, answers))
    return 1 if any(told.complaints for told in answers) else 0


def _sums(first: int, lines: int, *, workers: int) -> Iterator[Sum]:
    server = prepare()
    seeds = range(first, first + -(-lines // BATCH))
    chunks = [(server, seeds[start : start + SEEDS_AT_ONCE]) for start in range(0, len(seeds), SEEDS_AT_ONCE)]
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=20) as pool:
        yield from pool.imap_unordered(_some, chunks)


def _some(chunk: tuple[Server, Sequence[int]]) -> Sum:
    return some(*chunk)


def _report(options: argparse.Namespace, total: Sum, wishes: Sequence[str], *, seconds: float) -> str:
    statuses = "\n".join(f"  {int(status)}: {count}" for status, count in sorted(total.statuses.items()))
    slowest = "\n".join(f"  {1000 * taken:.0f} ms  {text!r}" for taken, text in total.slowest)
    broken = "\n\n".join(total.broken) or "nothing"
    return f"""\
Generated command lines
first seed: {options.first}
lines: {total.lines} in {seconds:.0f} s with {options.workers} processes

Answers by exit status
{statuses}

Slowest, in processor time, with all that the agent did meanwhile
{slowest}

Wishes for containers: {WISHES}, of which went wrong
{chr(10).join(wishes) or "none"}

What went wrong
{broken}
"""


if __name__ == "__main__":
    sys.exit(main())
