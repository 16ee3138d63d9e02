"""What became of requests, by kind of traffic and by phase of the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self


@dataclass
class Tally:
    """The counts of one kind of traffic."""

    requests: int = 0
    """All that were begun and came to an end, whatever end."""
    failures: Counter[str] = field(default_factory=Counter)
    """By reason. None is wanted."""
    apart: Counter[str] = field(default_factory=Counter)
    """What is no failure and is told all the same, by what it is."""
    milliseconds: dict[str, list[float]] = field(default_factory=dict)
    """Of each answer, by the phase in which its request was sent."""

    @property
    def failed(self) -> int:
        """How many failed, for whatever reason."""
        return self.failures.total()

    def answered(self, phase: str, milliseconds: float) -> None:
        """Count an answer that was right."""
        self.requests += 1
        self.milliseconds.setdefault(phase, []).append(milliseconds)

    def fail(self, reason: str) -> None:
        """Count a request that failed."""
        self.requests += 1
        self.failures[reason] += 1

    def exempt(self, what: str) -> None:
        """Count a request apart that ended as it had to."""
        self.requests += 1
        self.apart[what] += 1

    def plain(self) -> dict[str, object]:
        """Return what JSON can hold."""
        rounded = {phase: [round(value, 2) for value in values] for phase, values in self.milliseconds.items()}
        return {
            "requests": self.requests,
            "failures": dict(self.failures),
            "apart": dict(self.apart),
            "milliseconds": rounded,
        }

    @classmethod
    def of(cls, plain: Mapping[str, object]) -> Self:
        """Return what `plain` made, read back."""
        tally = cls()
        match plain:
            case {
                "requests": int(requests),
                "failures": dict(failures),
                "apart": dict(apart),
                "milliseconds": dict(ms),
            }:
                tally = cls(requests, Counter(failures), Counter(apart), ms)
        return tally


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of all do not exceed, or 0 where there is none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def latencies(tallies: Iterable[Tally], phase: str) -> list[float]:
    """Return the milliseconds of all answers of one phase."""
    return [value for tally in tallies for value in tally.milliseconds.get(phase, ())]
