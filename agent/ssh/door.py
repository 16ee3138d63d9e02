"""Accepts connections and hands each to asyncssh when the turnstile says so.

Every connection is taken from the kernel's queue at once, so that nobody stands behind a stranger there, and then
only watched: the first byte is peeked at, not read. It costs a file descriptor and a line in a table, no SSH. The
number that may wait is bounded by what this process may open.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from agent.errors import Misconfigured
from agent.ssh.turnstile import Turnstile, Visitor, source_of

log = structlog.get_logger(__name__)

BACKLOG = 4_096
"""Connections that the kernel holds while the loop is busy (capped by net.core.somaxconn)."""

MOST_WAITING = 2_000
"""Visitors that wait at once, if this process may open that many files."""

PAUSE = 0.1
"""Seconds without accepting when no file can be opened."""

_ACCEPTED_AT_ONCE = 100
"""Per turn of the loop, so that a flood cannot hold it."""

Serve = Callable[[socket.socket, asyncio.Future[bool]], Awaitable[None]]
"""Speaks SSH on a socket, which is its own from then on. It settles the future, when the login is decided, with
whether it failed, and returns when the connection has ended."""


@dataclass(eq=False)
class _Knock:
    connection: socket.socket
    visitor: Visitor


class Door:
    """A listening socket and those who wait before it."""

    def __init__(self, listening: socket.socket, serve: Serve, *, most: int, most_per_source: int) -> None:
        self._listening = listening
        self._serve = serve
        self._turnstile = Turnstile(most=most, most_per_source=most_per_source, room=_room())
        self._knocks: dict[Visitor, _Knock] = {}
        self._guests: set[asyncio.Task[None]] = set()
        self._inside: dict[Visitor, tuple[socket.socket, asyncio.Future[bool]]] = {}
        """Those who have not signed in: a connection, which is asyncssh's to use and close, and how its login ends."""
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._is_open = False

    @property
    def port(self) -> int:
        """The TCP port, also where the system chose it."""
        return int(self._listening.getsockname()[1])

    @property
    def waiting(self) -> int:
        """How many wait to be let in."""
        return self._turnstile.waiting

    @property
    def inside(self) -> int:
        """How many were let in and have not signed in yet."""
        return self._turnstile.inside

    def open(self) -> None:
        """Begin to accept."""
        self._is_open = True
        self._loop.add_reader(self._listening, self._accept)

    def close(self) -> None:
        """Accept no more, and send those away who wait. Who is inside stays. Repeating is harmless."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._listening)
            self._listening.close()
        if self._timer is not None:
            self._timer.cancel()
        for visitor in list(self._knocks):
            self._dismiss(visitor)

    async def wait_closed(self) -> None:
        """Return once every connection that was let in has ended."""
        while self._guests:
            await asyncio.wait(self._guests)

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:
                self._pause(error)
                break
            connection.setblocking(False)
            self._admit(connection, source_of(str(address[0])))
        self._turn()

    def _admit(self, connection: socket.socket, source: str) -> None:
        visitor, surplus = self._turnstile.arrive(source, now=self._loop.time())
        self._knocks[visitor] = _Knock(connection, visitor)
        self._loop.add_reader(connection, self._listen_to, visitor)
        if surplus is not None:
            self._dismiss(surplus)

    def _listen_to(self, visitor: Visitor) -> None:
        """Learn whether a waiting visitor spoke or left, leaving its bytes where they are."""
        connection = self._knocks[visitor].connection
        try:
            has_spoken = bool(connection.recv(1, socket.MSG_PEEK))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            has_spoken = False
        if not has_spoken:
            self._dismiss(visitor)
            return
        # Its bytes stay, so it would be readable for ever.
        self._loop.remove_reader(connection)
        self._turnstile.speak(visitor)
        self._turn()

    def _dismiss(self, visitor: Visitor) -> None:
        self._turnstile.leave(visitor, now=self._loop.time())
        connection = self._knocks.pop(visitor).connection
        self._loop.remove_reader(connection)
        connection.close()

    def _turn(self) -> None:
        """Let in whose turn it is, send away who waited too long, and set the clock for the next time."""
        now = self._loop.time()
        for visitor in self._turnstile.expired(now=now):
            self._dismiss(visitor)
        for visitor in list(self._turnstile.enter(now=now)):
            connection = self._knocks.pop(visitor).connection
            self._loop.remove_reader(connection)
            decided: asyncio.Future[bool] = self._loop.create_future()
            self._inside[visitor] = connection, decided
            guest = self._loop.create_task(self._host(connection, visitor, decided))
            self._guests.add(guest)
            guest.add_done_callback(self._guests.discard)
        while (lingerer := self._turnstile.displace(now=now)) is not None:
            self._send_away(lingerer)
        if self._timer is not None:
            self._timer.cancel()
        due = self._turnstile.next_change(now=now) if self._is_open else None
        self._timer = None if due is None else self._loop.call_at(due, self._turn)

    def _send_away(self, lingerer: Visitor) -> None:
        """End the connection of a guest that has not signed in; asyncssh meets the end of its input."""
        connection, decided = self._inside[lingerer]
        if not decided.done():  # else it has signed in or ended just now, and its place is free in a moment
            log.debug("ssh.displaced", source=lingerer.source)
            with suppress(OSError):  # the other end was faster
                connection.shutdown(socket.SHUT_RDWR)

    async def _host(self, connection: socket.socket, visitor: Visitor, decided: asyncio.Future[bool]) -> None:
        decided.add_done_callback(
            lambda future: self._release(visitor, has_failed=future.cancelled() or future.result())
        )
        try:
            await self._serve(connection, decided)
        except Exception:
            log.exception("ssh.connection-failed", source=visitor.source)
        finally:
            decided.cancel()

    def _release(self, visitor: Visitor, *, has_failed: bool) -> None:
        del self._inside[visitor]
        self._turnstile.leave(visitor, now=self._loop.time(), has_failed=has_failed)
        if self._is_open:
            self._turn()

    def _pause(self, error: OSError) -> None:
        """Accept nothing for a moment: there is no file to be had, and the socket stays readable."""
        log.warning("ssh.cannot-accept", reason=errno.errorcode.get(error.errno or 0, str(error)), waiting=self.waiting)
        self._loop.remove_reader(self._listening)
        self._loop.call_later(PAUSE, self._resume)

    def _resume(self) -> None:
        if self._is_open:
            self._loop.add_reader(self._listening, self._accept)


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        Misconfigured: ``ssh.port``, the address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setblocking(False)
            listening.bind(address)
            listening.listen(BACKLOG)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise Misconfigured(
            "ssh.port",
            f"The SSH server cannot listen on {host} port {port}: {error.strerror or error}.",
            "See who has it with: ss -ltnp. Or choose another one: [ssh] port.",
        ) from error
    return listening


def _room() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_WAITING if files == resource.RLIM_INFINITY else min(MOST_WAITING, files // 2)
