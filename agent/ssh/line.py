"""Who is next among thousands, without looking at each: a line by time, and groups by size.

A flood may come from as many addresses as there are connections. What is asked at each arrival and departure must cost
the same however many there are, or the flood has the whole loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeVar

_SPARE = 64
"""Entries of those who have left that a line may hold beside as many as stand in it."""

Member = TypeVar("Member")


class Line(Generic[Member]):
    """Members who take turns. Each stands in it once, and its turn does not come before the time that it has.

    `due` returns that time, or `None` while it has nothing to do here. It is asked again when the turn comes, and must
    not have become earlier since the member joined.
    """

    def __init__(self, due: Callable[[Member], float | None]) -> None:
        self._due = due
        self._later: list[tuple[float, int, Member]] = []
        self._ready: deque[Member] = deque()
        self._standing: set[Member] = set()
        self._order = count()

    def join(self, member: Member) -> None:
        """Let a member stand at the end, if it has anything to do here. Harmless if it stands here."""
        if member not in self._standing and (due := self._due(member)) is not None:
            self._standing.add(member)
            heappush(self._later, (due, next(self._order), member))

    def leave(self, member: Member) -> None:
        """Forget a member, which must not join again. Harmless if it does not stand here."""
        self._standing.discard(member)
        if len(self._later) + len(self._ready) > 2 * len(self._standing) + _SPARE:
            self._later = [entry for entry in self._later if entry[2] in self._standing]
            heapify(self._later)
            self._ready = deque(member for member in self._ready if member in self._standing)

    def first(self, *, now: float) -> Member | None:
        """Take out the member whose turn it is, or return `None`."""
        while self._later and self._later[0][0] <= now:
            self._ready.append(heappop(self._later)[2])
        while self._ready:
            member = self._ready.popleft()
            if member not in self._standing:
                continue
            self._standing.discard(member)
            due = self._due(member)
            if due is not None and due <= now:
                return member
            self.join(member)
        return None

    def peek(self, *, now: float) -> Member | None:
        """Return the member whose turn it is, and let it keep it."""
        if (member := self.first(now=now)) is not None:
            self._ready.appendleft(member)
            self._standing.add(member)
        return member

    @property
    def next_time(self) -> float | None:
        """The time before which it is nobody's turn, once `first` has returned `None`."""
        return self._later[0][0] if self._later else None


class Groups(Generic[Member]):
    """Members by a number of each that changes by one at a time."""

    def __init__(self) -> None:
        self._groups: dict[int, dict[Member, None]] = {}
        self._largest = 0

    def move(self, member: Member, *, old: int, new: int) -> None:
        """Note that the number of a member is now `new`."""
        if old:
            del self._groups[old][member]
        if new:
            self._groups.setdefault(new, {})[member] = None
        self._largest = max(self._largest, new)
        while self._largest and not self._groups.get(self._largest):
            self._groups.pop(self._largest, None)
            self._largest -= 1

    def __bool__(self) -> bool:
        """Whether any member has a number above 0."""
        return self._largest > 0

    def largest(self) -> Member:
        """Return the member with the largest number, of several the one that has it for longest."""
        return next(iter(self._groups[self._largest]))
