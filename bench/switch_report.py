"""What a run of ``bench/switch`` found: each reason for a failure for people, figures by kind for programs as well."""

from __future__ import annotations

from collections.abc import Mapping

from bench.measured import Figure, report, say
from bench.visitors.kinds import SHARES
from bench.visitors.tally import Tally, latencies, percentile

Tallies = Mapping[str, Tally]


def tell(ours: Tallies, theirs: Tallies, *, changes: tuple[int, int]) -> int:
    """Print all of it; return 1 if a request of ours failed, or none was made. `changes`: of ours, of the reference."""
    for name, tallies in (("ours", ours), ("reference", theirs)):
        for kind, tally in tallies.items():
            for reason, count in tally.failures.most_common():
                say(f"{name}, {kind}: {count:,} of {tally.requests:,} failed: {reason}")
            for what, count in tally.apart.most_common():
                say(f"{name}, {kind}: {count:,} of {tally.requests:,} apart: {what}")
    failed, requests = _failed(ours), _requests(ours)
    total = Figure("switch.failed", "requests", failed, _failed(theirs), "ours = 0", requests, failed)
    changed = Figure("switch.changes", "changes", *changes, "", 1)
    report([changed, total, *_by_kind(ours, theirs), *_slowest(ours, theirs)])
    say(f"The reference was asked {_requests(theirs):,} times.")
    return 1 if failed or not requests else 0


def _by_kind(ours: Tallies, theirs: Tallies) -> list[Figure]:
    return [
        Figure(
            f"switch.failed.{kind.replace(' ', '-')}",
            "requests",
            tally.failed,
            theirs.get(kind, Tally()).failed,
            "ours = 0",
            tally.requests,
            tally.failed,
        )
        for kind, tally in ours.items()
    ]


def _slowest(ours: Tallies, theirs: Tallies) -> list[Figure]:
    """Return the slowest hundredth of each while it was changed, beside its own in the quiet time.

    The bystander is the reference while ours is changed and it is not: what the machine alone makes of it, whose cores
    the engine shares with everybody as it starts and stops containers.
    """
    return [
        Figure(
            f"switch.p99.{name}",
            "ms",
            _p99(tallies, phase),
            _p99(tallies, "quiet"),
            aim,
            len(latencies(_bulk(tallies), phase)),
        )
        for name, phase, tallies, aim in (
            ("ours", "ours", ours, "ratio <= 2"),
            ("theirs", "theirs", theirs, "beside ours"),
            ("bystander", "ours", theirs, "beside ours"),
        )
    ]


def _p99(tallies: Tallies, phase: str) -> float:
    """Return milliseconds."""
    return percentile(latencies(_bulk(tallies), phase), 0.99)


def _bulk(tallies: Tallies) -> list[Tally]:
    return [tallies[kind] for kind in SHARES if kind in tallies]


def _failed(tallies: Tallies) -> int:
    return sum(tally.failed for tally in tallies.values())


def _requests(tallies: Tallies) -> int:
    return sum(tally.requests for tally in tallies.values())
