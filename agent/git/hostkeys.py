"""Asks an ssh server for its keys, by OpenSSH's ssh-keyscan. Nothing of the answer is verified: a person compares."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Final

from agent.errors import UserError
from agent.git.process import GitFailed, output
from agent.ports.remotes import HostKey

SECONDS: Final = 10
_TYPES: Final = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
_LINE: Final = re.compile(r"\S+ (\S+) ([A-Za-z0-9+/=]+)")
_MOST: Final = 64 * 1024


async def scan(place: str) -> list[HostKey]:
    """Return the keys that the server at `place` (``host`` or ``host:port``) shows.

    Raises:
        UserError: ``git.unreachable``.
    """
    host, port = _parts(place)
    command = ["ssh-keyscan", "-T", str(SECONDS), "-p", port, "-t", "ed25519,ecdsa,rsa", "--", host]
    try:
        answer = await output(command, limit=_MOST, seconds=3.0 * SECONDS)
    except GitFailed:
        answer = b""
    keys = read_keys(answer.decode("utf-8", "replace"))
    if not keys:
        raise UserError("git.unreachable", f"No ssh server answers at {place}.", "Look at the name and the port.")
    return keys


def read_keys(text: str) -> list[HostKey]:
    """Return the keys in lines of a known_hosts file. Lines that are none are left out."""
    found = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match and match[1] in _TYPES:
            try:
                blob = base64.b64decode(match[2], validate=True)
            except binascii.Error:
                continue
            digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
            found.append(HostKey(public=f"{match[1]} {match[2]}", fingerprint=f"SHA256:{digest}"))
    return sorted(found, key=lambda key: _TYPES.index(key.public.partition(" ")[0]))


def _parts(place: str) -> tuple[str, str]:
    if place.startswith("["):
        host, _, port = place[1:].partition("]")
        return host, port.removeprefix(":") or "22"
    host, _, port = place.partition(":")
    return host, port or "22"
