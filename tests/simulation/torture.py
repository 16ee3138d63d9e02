"""The simulation at length: every step of every story, then random walks until so many points were died at.

Writes a report as it goes, so that one that is interrupted has told what it found.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.simulation.dying import exhaust, settle_all
from tests.simulation.stories import STORIES
from tests.simulation.virtual import without_pauses
from tests.simulation.walk import Broken, Walk, walk
from tests.support.places import in_memory, silence

DEATHS = 1_000_000
WALKS_AT_ONCE = 20
REPORT_EVERY_SECONDS = 30.0
MAX_BROKEN = 20
"""After so many broken promises it ends: more would tell nothing new."""


class Sum(NamedTuple):
    """What some walks were like."""

    walks: int = 0
    lives: int = 0
    deaths: int = 0
    steps: int = 0
    seconds: float = 0.0
    """Virtual."""
    calm_seconds: float = 0.0
    """Virtual, the longest until everything had come to rest."""
    faults: Counter[str] = Counter()
    broken: tuple[str, ...] = ()

    def plus(self, other: Sum) -> Sum:
        return Sum(
            self.walks + other.walks,
            self.lives + other.lives,
            self.deaths + other.deaths,
            self.steps + other.steps,
            self.seconds + other.seconds,
            max(self.calm_seconds, other.calm_seconds),
            self.faults + other.faults,
            self.broken + other.broken,
        )


def main() -> int:
    """Run, and return 1 if a promise was broken."""
    options = _options()
    if options.seed is not None:
        return _replay(options.seed)
    began = time.monotonic()
    stories = [] if options.skip_stories else _try_stories()
    total = Sum()
    reported_at = began
    for one in _walks(options.first, options.deaths, workers=options.workers):
        total = total.plus(one)
        is_due = time.monotonic() - reported_at > REPORT_EVERY_SECONDS
        if is_due or one.broken:
            reported_at = time.monotonic()
            options.report.write_text(_report(options, stories, total, seconds=reported_at - began))
            print(f"{total.deaths} deaths in {total.walks} walks, {len(total.broken)} broken promises", flush=True)
        if len(total.broken) >= MAX_BROKEN:
            break
    report = _report(options, stories, total, seconds=time.monotonic() - began)
    options.report.write_text(report)
    print(report)
    return 1 if total.broken or any("broken" in line for line in stories) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/torture simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay one walk and print what happens in it")
    parser.add_argument("--first", type=int, default=int(time.time()) * 1_000, help="the first seed")
    parser.add_argument("--deaths", type=int, default=DEATHS, help="how many points to die at in walks")
    parser.add_argument("--skip-stories", action="store_true", help="walk at once")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--report", type=Path, default=Path("torture-simulation.txt"), help="where to write it")
    return parser.parse_args()


def _replay(seed: int) -> int:
    with in_memory() as folder, without_pauses():
        one = Walk(seed, folder)
        try:
            one.go()
        except Exception as error:
            print("\n".join(one.lines), f"\n{error}")
            return 1
        print("\n".join(one.lines), "\nEvery promise was kept.")
        return 0


def _try_stories() -> list[str]:
    """Die at every step of every story; return what came of it, a line each."""
    lines = []
    with in_memory() as folder, silence():
        beginnings = settle_all(folder)
        for name in STORIES:
            try:
                tried = exhaust(folder, name, beginnings[name], is_each_step=True)
                lines.append(f"{name}: died at each of {tried.steps} steps; every promise was kept")
            except AssertionError as error:
                lines.append(f"{name}: broken: {error}")
            print(lines[-1], flush=True)
    return lines


def _walks(first: int, deaths: int, *, workers: int) -> Iterator[Sum]:
    """Walk from one seed after the other until so many points were died at."""
    died = 0
    # A process is used for a while and then replaced: what the dead leave behind adds up.
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=50) as pool:
        seeds = range(first, first + 1_000_000_000, WALKS_AT_ONCE)
        waiting = [pool.apply_async(_some_walks, (seed,)) for seed in seeds[: 2 * workers]]
        for seed in seeds[2 * workers :]:
            one = waiting.pop(0).get()
            yield one
            died += one.deaths
            if died >= deaths:
                return
            waiting.append(pool.apply_async(_some_walks, (seed,)))


def _some_walks(first: int) -> Sum:
    total = Sum()
    with in_memory() as folder, without_pauses() as collect:
        for seed in range(first, first + WALKS_AT_ONCE):
            try:
                f = walk(seed, folder)
                total = total.plus(Sum(1, f.lives, f.deaths, f.steps, f.seconds, f.calm_seconds, Counter(f.faults)))
            except Broken as error:
                total = total.plus(Sum(walks=1, broken=(str(error),)))
            collect()
    return total


def _report(options: argparse.Namespace, stories: list[str], total: Sum, *, seconds: float) -> str:
    faults = "\n".join(f"  {kind}: {count}" for kind, count in sorted(total.faults.items()))
    broken = "\n\n".join(total.broken) or "none"
    return f"""\
Simulation
first seed: {options.first}
seconds: {seconds:.0f} with {options.workers} processes

Stories
{chr(10).join(stories)}

Walks
walks: {total.walks}
lives: {total.lives}
deaths: {total.deaths}
steps: {total.steps}
virtual days: {total.seconds / 86_400:.1f}
longest time to rest after the faults had stopped: {total.calm_seconds:.0f} virtual seconds
faults:
{faults}

Broken promises
{broken}
"""


if __name__ == "__main__":
    sys.exit(main())
