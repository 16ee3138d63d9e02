"""What commands answer: typed, so that the same answer is lines for people and JSON for scripts.

People get Dokku's look: ``-----> `` for a step, ``=====> `` for a heading, seven spaces below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from agent import sanitise

STEP = "-----> "
HEADING = "=====> "
INDENT = "       "
WARNING = " !     "

Json = object
"""Anything that msgspec can encode."""


def as_json(value: Json) -> str:
    """Return `value` as JSON on one line, harmless to a terminal."""
    return sanitise.in_json(msgspec.json.encode(value).decode())


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A command's answer."""

    status: int = 0
    """The exit status."""

    def lines(self, *, quiet: bool) -> Iterable[str]:
        """Yield the answer for people; `quiet` leaves out what only decorates."""
        return ()

    def json(self) -> Json:
        """Return the answer for scripts, or `None` to print nothing."""
        return None


class Done(Reply, frozen=True, kw_only=True):
    """Something was done: sentences for people, facts for scripts."""

    said: tuple[str, ...]
    facts: Mapping[str, Json] = {}

    def lines(self, *, quiet: bool) -> Iterable[str]:
        """Yield a step for each sentence; nothing when quiet. Warnings and indented lines stay as they are."""
        if quiet:
            return
        for line in self.said:
            yield line if line.startswith((HEADING, INDENT, WARNING)) else f"{STEP}{line}"

    def json(self) -> Json:
        """Return the facts."""
        return self.facts


class Listing(Reply, frozen=True, kw_only=True):
    """Names, one a line, below a heading."""

    title: str
    names: tuple[str, ...]
    empty: str = ""
    """Said instead when there are none."""

    def lines(self, *, quiet: bool) -> Iterable[str]:
        """Yield the names, below the heading unless quiet."""
        if not quiet:
            yield f"{HEADING}{self.title}"
            if not self.names and self.empty:
                yield f"{INDENT}{self.empty}"
        yield from self.names

    def json(self) -> Json:
        """Return the names."""
        return self.names


class Table(Reply, frozen=True, kw_only=True):
    """Rows in columns, below a heading."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    data: Json
    empty: str = "None yet."

    def lines(self, *, quiet: bool) -> Iterable[str]:
        """Yield the aligned rows; the heading and the column names unless quiet."""
        if not quiet:
            yield f"{HEADING}{self.title}"
            if not self.rows:
                yield f"{INDENT}{self.empty}"
        if not self.rows:
            return
        shown = self.rows if quiet else (self.columns, *self.rows)
        widths = [max(len(row[index]) for row in shown) for index in range(len(self.columns))]
        for row in shown:
            yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

    def json(self) -> Json:
        """Return the rows as objects."""
        return self.data


class Raw(Reply, frozen=True, kw_only=True):
    """Text that a script uses as it is. On a terminal it is sanitised, elsewhere it is not touched."""

    text: str
    data: Json = None

    def lines(self, *, quiet: bool) -> Iterable[str]:
        """Yield the text's lines."""
        return self.text.split("\n")

    def json(self) -> Json:
        """Return `data`, or the text."""
        return self.text if self.data is None else self.data


class Pairs(Reply, frozen=True, kw_only=True):
    """Keys and values, aligned, below a heading."""

    title: str
    pairs: Mapping[str, str]

    def lines(self, *, quiet: bool) -> Iterable[str]:
        """Yield the pairs, below the heading unless quiet."""
        if not quiet:
            yield f"{HEADING}{self.title}"
        width = max((len(key) for key in self.pairs), default=0) + 3
        for key, value in self.pairs.items():
            yield f"{key}:".ljust(width) + value.replace("\n", f"\n{' ' * width}")

    def json(self) -> Json:
        """Return the pairs."""
        return self.pairs


class Ended(Reply, frozen=True, kw_only=True):
    """Everything was written already; only the status is left to say."""
