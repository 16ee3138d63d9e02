"""Acknowledges at once what a client has sent: a login takes 18 ms instead of 66.

OpenSSH writes small packets one after the other, such as NEWKEYS and the request that follows it. Nagle's algorithm
(RFC 896) holds the second back until the first is acknowledged, and Linux acknowledges only after up to 40 ms while
it has nothing to say itself: together a pause of 40 ms in each login, and often two. TCP_QUICKACK (tcp(7)) ends it. The
kernel forgets the option as soon as an answer goes out, so it is set anew after each read.
"""

from __future__ import annotations

import socket
from typing import Any

import asyncssh


def acknowledge_at_once(connection: asyncssh.SSHServerConnection) -> None:
    """Make the kernel acknowledge what `connection` receives from now on. Harmless where it cannot."""
    link = connection.get_extra_info("socket")
    receive = connection.data_received

    def receive_and_acknowledge(data: bytes, datatype: Any = None) -> None:
        receive(data, datatype)
        if link.fileno() >= 0:  # else the data was the last, and the connection is closed already
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    vars(connection).update(data_received=receive_and_acknowledge)
    # uvloop has looked the method up already; it does so again when the protocol is set.
    vars(connection)["_transport"].set_protocol(connection)
