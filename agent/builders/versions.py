"""Which versions of a language an app wants: ranges as npm, PyPI, Poetry, RubyGems, Hex and version files write them.

A range is a list of alternatives, each a list of half-open intervals that must all hold. What does not follow the
pattern is refused, so a version that gets into a Dockerfile is digits and dots.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

Version = tuple[int, int, int]

_PART = r"(?:0|[1-9][0-9]{0,5})"
_NUMBER = re.compile(rf"v?(?P<given>{_PART}(?:\.{_PART}){{0,2}})(?:\.[xX*]){{0,2}}")
_TERM = re.compile(r"(?P<operator>\^|~>|~=|~|>=|>|<=|<|===|==|=|!=)?\s*(?P<number>v?[0-9][0-9A-Za-z.*]*|[*xX])")
_HYPHEN = re.compile(r"(?P<low>v?[0-9][0-9.xX*]*)\s+-\s+(?P<high>v?[0-9][0-9.xX*]*)")
_EVERYTHING = ("", "*", "x", "X", "latest", "node", "current", "stable", "lts", "lts/*")
_END: Version = (10**7, 0, 0)
MAX_RANGE = 200
"""Characters. Longer ones are no ranges that somebody wrote."""


class _Interval(msgspec.Struct, frozen=True):
    low: Version
    high: Version
    is_outside: bool = False
    """Whether what is not in it holds."""

    def holds(self, version: Version) -> bool:
        return (self.low <= version < self.high) is not self.is_outside


class Range(msgspec.Struct, frozen=True):
    """The versions that somebody wants."""

    text: str = ""
    """As it was written."""
    alternatives: tuple[tuple[_Interval, ...], ...] = ()
    """Empty: any version."""
    pinned: str = ""
    """``3.12`` or ``3.12.4``, where just that was written."""

    def holds(self, version: Version) -> bool:
        """Tell whether `version` is wanted."""
        return not self.alternatives or any(
            all(interval.holds(version) for interval in each) for each in self.alternatives
        )

    def best_of(self, offered: Iterable[str]) -> str | None:
        """Return the first of `offered` (``3.12``: its newest patch level) that is wanted, or `None`."""
        return next((each for each in offered if not self.alternatives or self.holds(numbers(each, rest=10**6))), None)


def parse_range(text: str) -> Range:
    """Return what `text` asks for.

    Raises:
        ValueError: it is no range, in words that end a sentence.
    """
    stripped = text.strip()
    if len(stripped) > MAX_RANGE or not stripped.isprintable():
        raise ValueError("a version or a range of versions")
    if stripped in _EVERYTHING:
        return Range(stripped)
    alternatives = tuple(_alternative(each.strip()) for each in re.split(r"\|\|?", stripped))
    pinned = _NUMBER.fullmatch(stripped.removeprefix("===").removeprefix("==").removeprefix("=").strip())
    return Range(stripped, alternatives, pinned["given"] if pinned else "")


def numbers(text: str, *, rest: int = 0) -> Version:
    """Return ``3.12.4`` as numbers; parts that are not given are `rest`."""
    parts = [int(part) for part in text.split(".")]
    first, second, third, *_ = (*parts, rest, rest)
    return first, second, third


def _alternative(text: str) -> tuple[_Interval, ...]:
    if hyphen := _HYPHEN.fullmatch(text):
        return (_Interval(_padded(_given(hyphen["low"])), _bumped(_given(hyphen["high"]))),)
    intervals, position = [], 0
    while position < len(text):
        term = _TERM.match(text, position)
        if term is None:
            raise ValueError("a version or a range of versions")
        intervals.append(_interval(term["operator"] or "", term["number"]))
        position = term.end()
        position += len(text[position:]) - len(text[position:].lstrip(" ,"))
    return tuple(intervals)


def _interval(operator: str, number: str) -> _Interval:
    if number in ("*", "x", "X"):
        return _Interval((0, 0, 0), _END)
    given = _given(number)
    low = _padded(given)
    match operator:
        case "^":
            leading = next((index for index, part in enumerate(given) if part), len(given) - 1)
            return _Interval(low, _bumped(given[: leading + 1]))
        case "~":
            return _Interval(low, _bumped(given[:2]))
        case "~=" | "~>":
            return _Interval(low, _bumped(given[: max(len(given) - 1, 1)]))
        case ">=":
            return _Interval(low, _END)
        case ">":
            return _Interval(_bumped(given), _END)
        case "<=":
            return _Interval((0, 0, 0), _bumped(given))
        case "<":
            return _Interval((0, 0, 0), low)
        case "!=":
            return _Interval(low, _bumped(given), is_outside=True)
    return _Interval(low, _bumped(given))


def _given(number: str) -> Sequence[int]:
    match = _NUMBER.fullmatch(number)
    if match is None:
        raise ValueError("a version or a range of versions")
    return [int(part) for part in match["given"].split(".")]


def _padded(given: Sequence[int]) -> Version:
    first, second, third, *_ = (*given, 0, 0)
    return first, second, third


def _bumped(given: Sequence[int]) -> Version:
    """Return the first version after all that begin with `given`."""
    return _padded([*given[:-1], given[-1] + 1])
