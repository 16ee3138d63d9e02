"""Who of those that knock may enter next: pure rules, without a socket and without a clock of their own.

asyncssh begins to work, and to hold memory, as soon as a connection is there. So a connection is accepted by the
kernel's rules but handed to asyncssh by these: so many unauthenticated ones in all and from each source. Past a cap
visitors wait; who has waited too long is sent away. A visitor that has said nothing yet (a port scanner, a flood of
silent connections) goes after all that spoke and gets at most half of the places, so that it cannot keep out a good
login, not even one from its own address. One that speaks and then does nothing has its place for as long as nobody
else wants it: where all are taken, a newcomer takes it from who lingers in the source that has most of them. A source
whose logins fail is let in ever more slowly, but always let in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address

from agent.ssh.line import Groups, Line

PATIENCE = 5.0
"""Seconds that a visitor may wait in vain. A client's own patience is longer (OpenSSH: the TCP time-out)."""

SILENCE = 1.0
"""Seconds after which a silent visitor may enter: RFC 4253 lets a client wait for the server's greeting first."""

LINGERING = 3.0
"""Seconds inside after which a visitor may have to give its place to another source: a login takes a fraction of one,
and a newcomer must not have to wait for `PATIENCE`. Not to its own: fifty pushes from one busy machine take longer."""

FREE_FAILURES = 3
"""Failed logins of one source that cost it nothing: a wrong key, another agent, a second try."""

FIRST_PENALTY = 0.25
LARGEST_PENALTY = 4.0
"""Seconds between a failed login and the source's next turn; doubles with each. Below `PATIENCE`: it slows, never locks
out, since many people can share one address."""

FORGIVEN = 60.0
"""Seconds after its last failed login after which a source starts anew."""


@dataclass(eq=False)
class Visitor:
    """One connection that has not signed in."""

    source: str
    arrived: float
    has_spoken: bool = False
    is_inside: bool = False
    entered: float = 0.0
    is_leaving: bool = False
    entered_silent: bool = False


@dataclass(eq=False)
class _Source:
    inside: int = 0
    guests: dict[Visitor, None] = field(default_factory=dict)
    """Who is inside and was not told to leave; the first is there for longest."""
    silent_inside: int = 0
    spoken: dict[Visitor, None] = field(default_factory=dict)
    silent: dict[Visitor, None] = field(default_factory=dict)
    failures: int = 0
    failed_at: float = 0.0
    not_before: float = 0.0

    @property
    def waiting(self) -> int:
        return len(self.spoken) + len(self.silent)


class Turnstile:
    """Keeps the visitors, waiting and inside. Times are seconds of one monotonic clock."""

    def __init__(self, *, most: int, most_per_source: int, room: int) -> None:
        self._most = most
        self._most_per_source = most_per_source
        self._room = room
        self._sources: dict[str, _Source] = {}
        self._waiting: dict[Visitor, None] = {}
        self._speaking = Line(self._spoken_turn)
        self._hushed = Line(self._silent_turn)
        self._crowds: Groups[_Source] = Groups()
        self._hosts: Groups[_Source] = Groups()
        """By how many guests they have."""
        self._inside = 0
        self._silent_inside = 0
        self._leaving = 0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def inside(self) -> int:
        """How many were let in and have not signed in yet."""
        return self._inside

    def arrive(self, source: str, *, now: float) -> tuple[Visitor, Visitor | None]:
        """Let a visitor wait; return it, and whom to send away because the room is full (perhaps the same)."""
        visitor = Visitor(source, now)
        origin = self._of(source)
        origin.silent[visitor] = None
        self._waiting[visitor] = None
        self._crowds.move(origin, old=origin.waiting - 1, new=origin.waiting)
        self._line_up(origin)
        return visitor, self._surplus() if len(self._waiting) > self._room else None

    def speak(self, visitor: Visitor) -> None:
        """Note that a waiting visitor has sent its first bytes."""
        source = self._sources.get(visitor.source)
        if source is not None and visitor in source.silent:
            del source.silent[visitor]
            visitor.has_spoken = True
            source.spoken[visitor] = None
            self._line_up(source)

    def leave(self, visitor: Visitor, *, now: float, has_failed: bool = False) -> None:
        """Forget a visitor: it went away, or signed in, or failed to. Repeating is harmless."""
        source = self._sources.get(visitor.source)
        if source is None:
            return
        if visitor.is_inside:
            visitor.is_inside = False
            self._is_guest_no_more(source, visitor)
            self._leaving -= visitor.is_leaving
            self._count(source, visitor, -1)
            self._judge(source, now=now, has_failed=has_failed and not visitor.is_leaving)
        elif visitor in self._waiting:
            self._waits_no_more(source, visitor)
        self._line_up(source)
        self._forget(visitor.source, source, now=now)

    def enter(self, *, now: float) -> Iterator[Visitor]:
        """Yield each visitor whose turn it is now, let in: who spoke first. Sources take turns."""
        while self._inside < self._most:
            if (source := self._speaking.first(now=now)) is not None:
                visitor = next(iter(source.spoken))
            elif self._has_silent_place and (source := self._hushed.first(now=now)) is not None:
                visitor = next(iter(source.silent))
            else:
                return
            self._let_in(source, visitor, now=now)
            yield visitor

    def displace(self, *, now: float) -> Visitor | None:
        """Return a guest that has to leave now because another waits for its place, or `None`: ask after `enter`.

        It keeps its place until `leave`, and until then nobody else has to go.
        """
        source = self._greedy_source(now=now)
        if source is None or self._lingers_from(source) > now:
            return None
        # Else its next visitor would be among the first to want the place back.
        source.not_before = max(source.not_before, now + LINGERING)
        guest = next(iter(source.guests))
        guest.is_leaving = True
        self._leaving += 1
        self._is_guest_no_more(source, guest)
        return guest

    def expired(self, *, now: float) -> list[Visitor]:
        """Return the visitors that have waited too long, forgotten."""
        gone = []
        for visitor in self._waiting:
            if now - visitor.arrived < PATIENCE:
                break
            gone.append(visitor)
        for visitor in gone:
            self.leave(visitor, now=now)
        return gone

    def next_change(self, *, now: float) -> float | None:
        """Return the time at which `enter` or `expired` may have more to say, if nothing else happens until then."""
        if not self._waiting:
            return None
        times: list[float | None] = [next(iter(self._waiting)).arrived + PATIENCE]
        if self._inside < self._most:
            times.append(self._speaking.next_time)
            if self._has_silent_place:
                times.append(self._hushed.next_time)
        elif (source := self._greedy_source(now=now)) is not None:
            times.append(self._lingers_from(source))
        return min(time for time in times if time is not None)

    def _spoken_turn(self, source: _Source) -> float | None:
        """Return the time from which a visitor of `source` that spoke may enter, if there is one and a place."""
        return source.not_before if source.spoken and source.inside < self._most_per_source else None

    def _silent_turn(self, source: _Source) -> float | None:
        """Return the time from which a silent visitor of `source` may enter. All that spoke go before it."""
        if source.spoken or not source.silent or source.inside >= self._most_per_source:
            return None
        if source.silent_inside >= max(1, self._most_per_source // 2):
            return None
        return max(source.not_before, next(iter(source.silent)).arrived + SILENCE)

    def _greedy_source(self, *, now: float) -> _Source | None:
        """Return the source that has to give a place to another, if all are taken and one waits that has fewer."""
        if self._inside < self._most or self._leaving or not self._hosts:
            return None
        newcomer = self._speaking.peek(now=now)
        greedy = self._hosts.largest()
        return greedy if newcomer is not None and len(greedy.guests) > newcomer.inside else None

    def _lingers_from(self, source: _Source) -> float:
        return next(iter(source.guests)).entered + LINGERING

    @property
    def _has_silent_place(self) -> bool:
        return self._silent_inside < max(1, self._most // 2)

    def _line_up(self, source: _Source) -> None:
        self._speaking.join(source)
        self._hushed.join(source)

    def _let_in(self, source: _Source, visitor: Visitor, *, now: float) -> None:
        self._waits_no_more(source, visitor)
        visitor.is_inside, visitor.entered = True, now
        source.guests[visitor] = None
        self._hosts.move(source, old=len(source.guests) - 1, new=len(source.guests))
        visitor.entered_silent = not visitor.has_spoken
        self._count(source, visitor, 1)
        self._line_up(source)

    def _waits_no_more(self, source: _Source, visitor: Visitor) -> None:
        del self._waiting[visitor]
        del (source.spoken if visitor.has_spoken else source.silent)[visitor]
        self._crowds.move(source, old=source.waiting + 1, new=source.waiting)

    def _is_guest_no_more(self, source: _Source, visitor: Visitor) -> None:
        if visitor in source.guests:
            del source.guests[visitor]
            self._hosts.move(source, old=len(source.guests) + 1, new=len(source.guests))

    def _count(self, source: _Source, visitor: Visitor, change: int) -> None:
        self._inside += change
        source.inside += change
        if visitor.entered_silent:
            self._silent_inside += change
            source.silent_inside += change

    def _judge(self, source: _Source, *, now: float, has_failed: bool) -> None:
        if now - source.failed_at >= FORGIVEN:
            source.failures = 0
        if has_failed:
            source.failures += 1
            source.failed_at = now
            beyond = source.failures - FREE_FAILURES - 1
            if beyond >= 0:
                source.not_before = now + min(LARGEST_PENALTY, FIRST_PENALTY * 2 ** min(beyond, 10))

    def _forget(self, name: str, source: _Source, *, now: float) -> None:
        """Drop a source with nobody there, and those whose failures are forgiven: the table stays small."""
        if not source.waiting and not source.inside and now - source.failed_at >= FORGIVEN:
            self._drop(name)
        if len(self._sources) > 2 * (self._room + self._most):
            empty = [key for key, each in self._sources.items() if not each.waiting and not each.inside]
            for key in empty:
                self._drop(key)

    def _drop(self, name: str) -> None:
        if (source := self._sources.pop(name, None)) is not None:
            self._speaking.leave(source)
            self._hushed.leave(source)

    def _surplus(self) -> Visitor:
        """Return one waiting visitor of the source that has most of them, the longest silent one if there is one."""
        fullest = self._crowds.largest()
        return next(iter(fullest.silent)) if fullest.silent else next(reversed(fullest.spoken))

    def _of(self, name: str) -> _Source:
        return self._sources.setdefault(name, _Source(failed_at=float("-inf")))


def source_of(address: str) -> str:
    """Return who counts as one source: an IPv4 address, or the /64 that one subscriber of IPv6 has to himself."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(IPv6Address(int(parsed) >> 64 << 64)) + "/64"
    return str(parsed)
