"""Connections that are opened and never say a word."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from itertools import islice

from scripts.house.addresses import LOOPBACK

AT_ONCE = 100
"""Below what sshd lets the kernel hold for it (128): past that a connection is half there, and nobody holds it."""
CONNECT_SECONDS = 5.0


class Crowd:
    """A number of silent connections from several of loopback's addresses."""

    def __init__(self, port: int, *, size: int, sources: int) -> None:
        """`sources`: how many addresses they come from; 0: from that of the good logins."""
        self._port = port
        self._open: dict[int, socket.socket] = {}
        self._poll = select.epoll()
        addresses = list(islice(_addresses(), sources)) or [LOOPBACK]
        self._unconnected: set[int] = set()
        for number in range(size):
            self._knock(addresses[number % len(addresses)])
            if number % AT_ONCE == AT_ONCE - 1:
                self._until_connected()

    def __enter__(self) -> Crowd:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close what is left."""
        for connection in self._open.values():
            connection.close()
        self._poll.close()

    @property
    def size(self) -> int:
        """How many the server has not closed."""
        while self._look(0.0):
            pass
        return len(self._open)

    def until_freed(self, *, seconds: float) -> None:
        """Return when the server has closed all of them, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while self._open and time.monotonic() < deadline:
            self._look(0.05)

    def _until_connected(self) -> None:
        deadline = time.monotonic() + CONNECT_SECONDS
        while self._unconnected and time.monotonic() < deadline:
            self._look(0.05)

    def _knock(self, address: str) -> None:
        connection = socket.socket()
        connection.setblocking(False)
        connection.bind((address, 0))
        connection.connect_ex((LOOPBACK, self._port))
        self._open[connection.fileno()] = connection
        self._unconnected.add(connection.fileno())
        self._poll.register(connection, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)

    def _look(self, seconds: float) -> bool:
        happened = self._poll.poll(seconds)
        for number, event in happened:
            self._unconnected.discard(number)
            if event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                self._read(number)
        return bool(happened)

    def _read(self, number: int) -> None:
        connection = self._open[number]
        try:
            while connection.recv(4_096):  # the server's greeting
                pass
        except BlockingIOError:
            return
        except OSError:
            pass  # a reset is an end as well
        del self._open[number]
        connection.close()


def _addresses() -> Iterator[str]:
    """Yield loopback's addresses, that of the good logins left out."""
    for number in range(256, 65_536):
        yield f"127.9.{number >> 8}.{number & 255}"
