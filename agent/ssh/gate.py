"""One connection: who is at the other end, and how much of everything they may have.

Identity is the key that signed, known by its SHA-256 fingerprint; a login name means nothing. A client may ask
whether key A would do and then sign with key B, so what counts is the key that was validated last: asyncssh
validates the key of a signed request once more, verifies the signature, and completes the login without letting
anything happen in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Protocol

import asyncssh
import structlog

from agent.ports.session import User
from agent.settings import SshSettings
from agent.ssh.acknowledging import acknowledge_at_once
from agent.ssh.channel import ByteChannel, Channel
from agent.ssh.hostkey import fingerprint_of
from proto.names import Fingerprint

log = structlog.get_logger(__name__)

REQUESTS_PER_TRY = 10
"""asyncssh asks us twice for each key that is offered, refused ones and bare questions included. A connection that
makes it ask far more often than its tries can explain only wants to keep us busy."""

_MAX_PACKET = 32_768
"""What asyncssh takes itself."""

LARGEST_PACKET = 4 * 1024 * 1024
"""Of one who has signed in: more than the longest command line that Linux passes on (2 MiB), so that it is us who
refuse it, in words. asyncssh ends the connection over 256 KiB."""

FindUser = Callable[[Fingerprint], Awaitable[User | None]]
"""Returns whose key it is, or `None`."""


class House(Protocol):
    """What a connection belongs to."""

    def entered(self, gate: Gate) -> None:
        """Note that the user of `gate` has signed in."""
        ...

    def left(self, gate: Gate) -> None:
        """Note that the connection of `gate` has ended."""
        ...

    def started(self, channel: Channel) -> None:
        """Run what the client asked for on `channel`."""
        ...


class Gate(asyncssh.SSHServer):
    """Lets known keys in. asyncssh makes one for each connection and calls it."""

    def __init__(self, house: House, find_user: FindUser, settings: SshSettings, decided: asyncio.Future[bool]) -> None:
        self.candidate: Fingerprint | None = None
        """The key that was offered last, from before it is looked up: its removal must not slip through."""
        self._house = house
        self._find_user = find_user
        self._settings = settings
        self._decided = decided
        self._connection: asyncssh.SSHServerConnection | None = None
        self._user: User | None = None
        self._has_signed_in = False
        self._refused = 0
        self._offers = 0
        self._requests = 0
        self._sessions = 0
        self._running: set[Channel] = set()
        """Those of them that were asked for something. A session that is only open keeps no connection."""
        self._idle: asyncio.TimerHandle | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._ended = asyncio.get_running_loop().create_future()

    async def ended(self) -> None:
        """Return once the connection has ended."""
        await asyncio.shield(self._ended)

    async def drained(self) -> None:
        """Return once the socket takes more, or the connection has ended."""
        await self._flowing.wait()

    def close(self, reason: str) -> None:
        """End the connection and all its sessions now. Repeating is harmless."""
        if self._connection is not None and not self._ended.done():
            self._connection.disconnect(asyncssh.DISC_BY_APPLICATION, reason)

    # What asyncssh calls.

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """See `asyncssh.SSHServer`."""
        self._connection = conn
        # asyncssh ignores its transport's wish for a pause. A client that opens a huge window and reads nothing would
        # make us hold all that it asked for.
        vars(conn).update(pause_writing=self._flowing.clear, resume_writing=self._flowing.set)
        acknowledge_at_once(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncssh.SSHServer`."""
        self._flowing.set()
        if self._idle is not None:
            self._idle.cancel()
        if not self._decided.done():
            self._decided.set_result(self._requests > 0)
        self._ended.set_result(None)
        self._house.left(self)

    def begin_auth(self, username: str) -> bool:
        """Require a key from everyone. Must not be a coroutine, nor return anything false (it would let them in)."""
        self._count_request()
        return True

    def public_key_auth_supported(self) -> bool:
        """Keys only. Also asked whenever asyncssh refuses a request, and so our only chance to count those."""
        self._count_request()
        return True

    def password_auth_supported(self) -> bool:
        """No passwords."""
        return False

    def kbdint_auth_supported(self) -> bool:
        """No passwords by another name."""
        return False

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Tell whether `key` is known here. Whether the client has its private half is asyncssh's to find out."""
        self._offers += 1
        # A good key is offered twice, once as a question and once with a signature.
        if self._refused >= self._settings.max_tries or self._offers > 2 * self._settings.max_tries:
            raise asyncssh.DisconnectError(asyncssh.DISC_PROTOCOL_ERROR, "Too many keys were offered")
        fingerprint = fingerprint_of(key)
        self._user = None
        self.candidate = fingerprint
        user = await self._find_user(fingerprint)
        if self.candidate != fingerprint:
            return False  # the client went on to another key meanwhile
        if user is None or (user.is_local and not self._is_from_here()):
            self._refused += 1
            return False
        self._user = user
        return True

    def auth_completed(self) -> None:
        """Fix who this is: the key that was validated last has signed."""
        assert self._user is not None and self._user.fingerprint == self.candidate
        self._has_signed_in = True
        # asyncssh raises this limit only with the largest packet of a channel's data, which is another thing.
        vars(self._connection).update(_max_recv_pktlen=LARGEST_PACKET)
        if not self._decided.done():
            self._decided.set_result(False)
        self._house.entered(self)
        self._set_idle()

    def session_requested(self) -> tuple[asyncssh.SSHServerChannel[bytes], asyncssh.SSHServerSession[bytes]]:
        """Open a session, unless there are too many on this connection."""
        assert self._connection is not None and self._user is not None and self._has_signed_in
        if self._sessions >= self._settings.max_sessions:
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_RESOURCE_SHORTAGE, f"At most {self._settings.max_sessions} sessions on one connection"
            )
        session = Channel(self._user, self, started=self._session_started, closed=self._session_closed)
        self._sessions += 1
        return ByteChannel(self._connection, max_packet=_MAX_PACKET), session

    def _session_started(self, channel: Channel) -> None:
        self._running.add(channel)
        self._set_idle()
        self._house.started(channel)

    def _session_closed(self, channel: Channel) -> None:
        self._sessions -= 1
        if channel in self._running:
            self._running.remove(channel)
            self._set_idle()

    def _set_idle(self) -> None:
        """Start the clock while nothing runs that was asked for, stop it while something does."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if not self._running and not self._ended.done():
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(self._settings.idle, self.close, "Nothing was asked for a long time")

    def _count_request(self) -> None:
        self._requests += 1
        if not self._has_signed_in and self._requests > REQUESTS_PER_TRY * self._settings.max_tries:
            self.close("Too many login requests")

    def _is_from_here(self) -> bool:
        """Tell whether the peer is on this machine: its address is loopback, or the one it connected to."""
        assert self._connection is not None
        peer = self._connection.get_extra_info("peername")
        own = self._connection.get_extra_info("sockname")
        return bool(peer and own) and (peer[0] == own[0] or ip_address(peer[0].partition("%")[0]).is_loopback)
