"""Fetches what lies at a URL, for those who may deploy from there.

Only http and https, no passwords in the URL (they would end up in lists of processes and commands), a few redirects,
and never the link-local addresses at which clouds tell a machine its secrets.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from agent import sanitise
from agent.errors import UserError
from agent.ports.remotes import is_link_local

CONNECT_SECONDS = 15.0
STALL_SECONDS = 60.0
"""Without a byte."""
MAX_REDIRECTS = 5
_CHUNK = 256 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)


class HttpDownloads:
    """Implements ``Downloads``."""

    async def fetch(self, url: str) -> AsyncGenerator[bytes, None]:
        """See ``Downloads.fetch``."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=STALL_SECONDS)
        # What a server calls an encoding is the archive's own compression: it is not for us to undo.
        connector = aiohttp.TCPConnector(resolver=_Resolver())
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
            place = _parsed(url)
            try:
                for _ in range(MAX_REDIRECTS + 1):
                    headers = {"Accept-Encoding": "identity"}
                    async with session.get(place, allow_redirects=False, headers=headers) as response:
                        if response.status in _REDIRECTS and "Location" in response.headers:
                            place = _parsed(str(place.join(URL(response.headers["Location"]))))
                            continue
                        if response.status != 200:
                            raise _failed(place, f"the server answers {response.status}")
                        async for chunk in response.content.iter_chunked(_CHUNK):
                            yield chunk
                        return
                raise _failed(place, f"it leads on more than {MAX_REDIRECTS} times")
            except aiohttp.InvalidURL as error:
                raise _invalid(url) from error
            except aiohttp.ClientError as error:
                raise _failed(place, _reason(error)) from error


def _parsed(url: str) -> URL:
    try:
        place = URL(url)
        is_usable = place.scheme in ("http", "https") and bool(place.host) and url.isprintable()
    except ValueError:
        is_usable = False
    if not is_usable:
        raise _invalid(url)
    if place.user is not None or place.password is not None:
        raise UserError(
            "download.has-password",
            "The address holds a user or password, which would end up in logs.",
            "Fetch it yourself and pass it on: curl … | ssh … git:from-archive APP",
        )
    _refuse_link_local(place.host or "")
    return place


class _Resolver(AbstractResolver):
    """Looks names up as the system does, and refuses those that mean a link-local address."""

    def __init__(self) -> None:
        self._system = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._system.resolve(host, port, family)
        for one in found:
            _refuse_link_local(one["host"])
        return found

    async def close(self) -> None:
        await self._system.close()


def _refuse_link_local(host: str) -> None:
    """Raise if `host` is such an address; names are looked at once they are resolved."""
    if is_link_local(host):
        message = f"{host} is an address that only this machine's own surroundings answer at."
        raise UserError("download.forbidden", message, "Use another one.")


def _invalid(url: str) -> UserError:
    message = f"{sanitise.without_query(url)[:200]!r} is not the address of an archive."
    return UserError("download.invalid", message, "Write it as: https://example.com/app.tar.gz")


def _reason(error: aiohttp.ClientError) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return "its certificate is not trusted"
        case aiohttp.ServerTimeoutError():
            return f"it sent nothing for {STALL_SECONDS:.0f} s"
        case aiohttp.ClientConnectorDNSError():
            return "there is no such host"
        case aiohttp.ClientConnectorError():
            return "nobody answers there"
        case _:
            return "the connection broke off"


def _failed(place: URL, reason: str) -> UserError:
    message = f"{sanitise.without_query(str(place))} cannot be fetched: {reason}."
    return UserError("download.failed", message, "Look whether it opens from this server.")
