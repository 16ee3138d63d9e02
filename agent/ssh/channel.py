"""One session's streams, as the port ``Session`` wants them, over an asyncssh channel.

asyncssh's own streams are not used: they tell a window's change as an exception of the next read, and drop the whole
connection for an exception in a handler. Here the channel's callbacks fill one buffer, and the client may send as much
again only as was read from it; writing waits while the client (or the network under all its channels) does not read.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import asyncssh
from asyncssh.constants import MSG_CHANNEL_WINDOW_ADJUST
from asyncssh.packet import UInt32

from agent.ports.session import User

WINDOW = 2 * 1024 * 1024
"""Bytes that a client may send before they are read, and so what one session holds at most. As OpenSSH's own: with less
a push over a long way would wait for the network."""

WRITE_AHEAD = 65_536
"""Bytes handed to asyncssh before a writer waits."""

SMALL = 1_024
"""Bytes up to which pieces are joined as they come: a window of single bytes would take fifty times its size."""

MAX_VALUE = 4_096
"""Bytes of an environment variable's value. Longer ones are left out."""

IGNORED_SECONDS = 0.5
"""How long a Ctrl-C may lie unread before it counts as meant for us."""

_ACCEPTED = re.compile(rb"LANG|LC_[A-Z]+|TZ|NO_COLOR|GIT_PROTOCOL|PUSHBOAT_[A-Z0-9_]+")
_DEFAULT_SIZE = (80, 24)
_CTRL_C = b"\x03"


class Link(Protocol):
    """The connection below: whether its socket takes more."""

    async def drained(self) -> None:
        """Return once the socket takes more, or the connection has ended."""
        ...


class Channel(asyncssh.SSHServerSession[bytes]):
    """Implements ``Session``. `started`: the client has said what it wants to run; `closed`: the session has ended."""

    def __init__(
        self, user: User, link: Link, *, started: Callable[[Channel], None], closed: Callable[[Channel], None]
    ) -> None:
        self._user = user
        self._link = link
        self._started = started
        self._closed = closed
        self._channel: ByteChannel | None = None
        self._input: deque[bytes] = deque()
        self._was_read = False
        self._is_ended = False
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._gone = asyncio.Event()
        self._is_lost = False
        self._size: tuple[int, int] = _DEFAULT_SIZE
        self._resized = asyncio.Event()
        self._ignored: asyncio.TimerHandle | None = None

    # What asyncssh calls.

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """See `asyncssh.SSHServerSession`."""
        assert isinstance(chan, ByteChannel)  # the gate makes both
        self._channel = chan
        chan.set_write_buffer_limits(high=WRITE_AHEAD)
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncssh.SSHServerSession`."""
        self._is_lost = self._is_ended = True
        if self._ignored is not None:
            self._ignored.cancel()
        for event in (self._gone, self._changed, self._writable, self._resized):
            event.set()
        self._closed(self)

    def pty_requested(
        self, term_type: str, term_size: tuple[int, int, int, int], term_modes: Mapping[int, int]
    ) -> bool:
        """See `asyncssh.SSHServerSession`."""
        self._size = _plausible(term_size[0], term_size[1])
        return True

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        """See `asyncssh.SSHServerSession`."""
        self._size = _plausible(width, height)
        self._resized.set()

    def shell_requested(self) -> bool:
        """See `asyncssh.SSHServerSession`."""
        return True

    def exec_requested(self, command: str) -> bool:
        """See `asyncssh.SSHServerSession`."""
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        """Refuse: there is no sftp here, and no other subsystem."""
        return False

    def session_started(self) -> None:
        """See `asyncssh.SSHServerSession`."""
        self._started(self)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """See `asyncssh.SSHServerSession`."""
        if self._input and len(self._input[-1]) + len(data) <= SMALL:
            self._input[-1] += data
        else:
            self._input.append(data)
        if self.is_tty and _CTRL_C in data:
            self._note_ctrl_c()
        self._changed.set()

    def eof_received(self) -> bool:
        """Note the end of input; the other direction stays open."""
        self._is_ended = True
        self._changed.set()
        return True

    def signal_received(self, signal: str) -> None:
        """Take the signals that end a program as leaving (RFC 4254, 6.9)."""
        if signal in ("HUP", "INT", "KILL", "QUIT", "TERM"):
            self._gone.set()

    def break_received(self, msec: int) -> bool:
        """Take a break (RFC 4335) as Ctrl-C."""
        self._gone.set()
        return True

    def pause_writing(self) -> None:
        """See `asyncssh.SSHServerSession`."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """See `asyncssh.SSHServerSession`."""
        self._writable.set()

    # The port.

    @property
    def user(self) -> User:
        """See ``Session.user``."""
        return self._user

    @property
    def environment(self) -> dict[str, str]:
        """See ``Session.environment``."""
        sent = self._open_channel.get_environment_bytes() if self._channel else {}
        return {
            name.decode("ascii"): value.decode("utf-8", "replace")
            for name, value in sent.items()
            if _ACCEPTED.fullmatch(name) and len(value) <= MAX_VALUE and b"\0" not in value
        }

    @property
    def is_tty(self) -> bool:
        """See ``Terminal.is_tty``."""
        return self._channel is not None and self._channel.get_terminal_type() is not None

    @property
    def term(self) -> str:
        """See ``Terminal.term``."""
        return (self._channel.get_terminal_type() or "") if self._channel else ""

    @property
    def command(self) -> str | None:
        """The command line, `None` for a session without one. Bytes that are no UTF-8 are lone surrogates in it."""
        return self._open_channel.get_command()

    def size(self) -> tuple[int, int]:
        """See ``Terminal.size``."""
        return self._size

    async def resized(self) -> tuple[int, int]:
        """See ``Terminal.resized``. Waits for ever once the other end has gone."""
        while True:
            await self._resized.wait()
            if self._is_lost:
                await asyncio.get_running_loop().create_future()
            self._resized.clear()
            return self._size

    async def read(self, size: int = 65_536) -> bytes:
        """See ``Terminal.read``. Cancelling it loses nothing. One reader at a time."""
        self._was_read = True
        while not self._input and not self._is_ended:
            self._changed.clear()
            await self._changed.wait()
        if self._ignored is not None:
            self._ignored.cancel()
            self._ignored = None
        data = self._take(size)
        if data and not self._is_lost:
            self._open_channel.consumed(len(data))
        return data

    async def write(self, data: bytes) -> None:
        """See ``Terminal.write``."""
        await self._write(data, None)

    async def write_error(self, data: bytes) -> None:
        """See ``Terminal.write_error``."""
        await self._write(data, asyncssh.EXTENDED_DATA_STDERR)

    async def gone(self) -> None:
        """See ``Terminal.gone``."""
        await self._gone.wait()

    def say_last(self, lines: Sequence[str]) -> None:
        """Write lines of our own to standard error without waiting for the reader, as the last thing. Never raises."""
        if not self._is_lost and not self._open_channel.is_closing():
            end = "\r\n" if self.is_tty else "\n"
            text = "".join(line + end for line in lines)
            self._open_channel.write(text.encode(), asyncssh.EXTENDED_DATA_STDERR)

    def exit(self, status: int) -> None:
        """Tell the client the exit status and close, after all that was written. Harmless if it has gone."""
        if not self._is_lost:
            self._open_channel.exit(status)

    async def _write(self, data: bytes, datatype: int | None) -> None:
        for start in range(0, len(data), WRITE_AHEAD):
            await self._writable.wait()
            await self._link.drained()
            if self._is_lost:
                raise ConnectionResetError("the other end has gone")
            self._open_channel.write(data[start : start + WRITE_AHEAD], datatype)

    def _take(self, size: int) -> bytes:
        """Return up to `size` bytes of what came, in one piece: each costs whoever looks through a pack."""
        pieces: list[bytes] = []
        while self._input and size:
            piece = self._input.popleft()
            if len(piece) > size:
                self._input.appendleft(piece[size:])
                piece = piece[:size]
            size -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _note_ctrl_c(self) -> None:
        # With a pty the client sends Ctrl-C as a byte. A command that reads gets it; nobody else would.
        if not self._was_read:
            self._gone.set()
        elif self._ignored is None:
            self._ignored = asyncio.get_running_loop().call_later(IGNORED_SECONDS, self._gone.set)

    @property
    def _open_channel(self) -> ByteChannel:
        assert self._channel is not None  # asyncssh calls connection_made first
        return self._channel


class ByteChannel(asyncssh.SSHServerChannel[bytes]):
    """asyncssh's channel, with two things of it put right.

    A client may send as much more as was read. asyncssh grants a whole window whenever it delivers anything, so that
    what waits for a slow reader has no bound: fifty pushes of 10 MB at once held all that git had not taken yet.

    And a command that is no UTF-8 reaches us, so that we can say what is wrong.
    """

    def __init__(self, connection: asyncssh.SSHServerConnection, *, max_packet: int) -> None:
        super().__init__(
            connection, asyncio.get_running_loop(), True, False, False, 0, 0, None, "strict", WINDOW, max_packet
        )
        self._consumed = 0

    def consumed(self, size: int) -> None:
        """Let the client send as much more, once that is worth a packet."""
        self._consumed += size
        if self._consumed >= WINDOW // 2 and not self.is_closing():
            self.send_packet(MSG_CHANNEL_WINDOW_ADJUST, UInt32(self._consumed))
            self._recv_window += self._consumed
            self._consumed = 0

    def _deliver_data(self, data: bytes, datatype: int | None) -> None:
        if self._session is not None:
            self._session.data_received(data, datatype)

    def _process_exec_request(self, packet: asyncssh.packet.SSHPacket) -> bool:
        command = packet.get_string()
        packet.check_end()
        return self._start_session(command=command.decode("utf-8", "surrogateescape"))


def _plausible(width: int, height: int) -> tuple[int, int]:
    """Return the size that the client claims, or the usual one where it makes no sense (0 is "unknown")."""
    columns = width if 0 < width <= 10_000 else _DEFAULT_SIZE[0]
    rows = height if 0 < height <= 10_000 else _DEFAULT_SIZE[1]
    return columns, rows
