"""The pages that HAProxy answers by itself, as it wants them: whole HTTP responses, one file each.

Two of them are 503. An app without a release is not "bad gateway" (no upstream misbehaved) and not "not found" (the
domain is known, and a search engine should come again): the service is unavailable, for now.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Final

ERRORS: Final[Mapping[int, str]] = {
    502: "bad-gateway",
    503: "not-ready",
    504: "gateway-timeout",
}
"""Pages for what HAProxy itself finds wrong, by status. 503 comes when no replica is ready, or none can be reached.

There are none for 400 and 408: HAProxy 2.6 answers what is not HTTP before it knows of any page."""

UNKNOWN_HOST: Final = "unknown-host"
"""404: no app has the domain."""

NO_RELEASE: Final = "no-release"
"""503: the app was never deployed."""


def load_pages() -> dict[str, bytes]:
    """Return every page by name, ready to be written to ``<name>.http``."""
    folder = resources.files(__package__)
    return {
        name: _with_length((folder / f"{name}.http").read_bytes())
        for name in (*ERRORS.values(), UNKNOWN_HOST, NO_RELEASE)
    }


def _with_length(response: bytes) -> bytes:
    """Complete a response with CRLF line ends and its Content-Length, without which a connection could not be kept."""
    head, body = response.split(b"\n\n", 1)
    lines = [*head.split(b"\n"), b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
