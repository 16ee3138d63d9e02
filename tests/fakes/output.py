"""What replicas say: numbered lines, some at each start and one at each end, and those that a test has them say.

The engine (``FakeScheduler``) keeps them as long as the container is there; here it is noted what there ever was.
"""

from __future__ import annotations

import msgspec

from proto.names import AppId, ReplicaId
from tests.fakes.log_source import FakeLogSource

FIRST_LINES = 2
"""That a process writes when it starts."""


class Said(msgspec.Struct):
    """All that one replica or task ever wrote: lines with the numbers from 0 on."""

    app: AppId
    count: int = 0
    dropped: set[int] = msgspec.field(default_factory=set)
    """Lines that the engine discarded."""
    vanished: int = 0
    """Up to this number lines may have gone with a container that was taken away behind the agent's back."""
    is_gone: bool = False
    """Whether its container went, by whoever's hand."""
    is_excused: bool = False
    """Whether it may be stored otherwise: the clock that its lines are stamped by was set back."""


class Output(FakeLogSource):
    """Fulfils ``LogSource``."""

    def __init__(self) -> None:
        super().__init__()
        self.said: dict[ReplicaId, Said] = {}
        self.total = 0
        """Lines of all replicas."""

    def say(self, replica: ReplicaId, app: AppId, count: int, *, now: float) -> None:
        """Have a replica write so many lines."""
        said = self.said.setdefault(replica, Said(app))
        texts = [str(number) for number in range(said.count, said.count + count)]
        said.count += count
        self.total += count
        self.write(replica, *texts, at=int(now * 1e9) or None)

    def start(self, replica: ReplicaId, app: AppId, *, now: float) -> None:
        """Have the replica's process begin."""
        self._ended.discard(replica)
        self.say(replica, app, FIRST_LINES, now=now)

    def finish(self, replica: ReplicaId, app: AppId, *, now: float) -> None:
        """Have the replica's process end."""
        self.say(replica, app, 1, now=now)
        self.end(replica)

    def make(self, replica: ReplicaId) -> None:
        """Have a new container, which has written nothing yet, in the place of an older one, if there is one."""
        if not (replica in self.said and self.said[replica].is_gone):
            self.vanish(replica)
        self._ended.discard(replica)
        if replica in self.said:
            self.said[replica].is_gone = False

    def vanish(self, replica: ReplicaId) -> None:
        """Have the container taken away although somebody still wants it."""
        self.take_away(replica)
        if replica in self.said:
            self.said[replica].vanished = self.said[replica].count

    def take_away(self, replica: ReplicaId) -> None:
        """Have the container gone, and what it wrote with it."""
        self.dropped[replica] += len(self.written.pop(replica, []))
        for place in self._followers:
            place.is_over = place.is_over or place.replica == replica
        self.end(replica)
        if replica in self.said:
            self.said[replica].is_gone = True

    def rotate(self, replica: ReplicaId, count: int) -> int:
        """Discard the oldest lines that nobody is about to be given; return how many."""
        first = self.dropped[replica]
        count = self.drop(replica, count)
        self.said[replica].dropped |= set(range(first, first + count))
        return count

    def set_back(self) -> None:
        """Note that the clock was set back, by which lines are stamped, those of containers to come included."""
        for said in self.said.values():
            said.is_excused = True
