"""Where HAProxy listens and whom it trusts, read strictly: these words go into its configuration file."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

import msgspec

from agent.errors import Misconfigured

_BIND = re.compile(r"(?P<host>\*|[0-9.]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")


class Bind(msgspec.Struct, frozen=True):
    """One address to listen on. ``host`` is an IP address without brackets; ``*`` was turned into ``0.0.0.0``."""

    host: str
    port: int

    @property
    def variable(self) -> str:
        """The variable of HAProxy's environment that names an open socket in its place (``fd@3``), where it has one."""
        return f"PUSHBOAT_AT_{re.sub(r'[^0-9a-z]', '_', str(self))}"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_binds(texts: Sequence[str]) -> tuple[Bind, ...]:
    """Return ``address:port`` texts as binds; IPv6 addresses stand in brackets.

    Raises:
        Misconfigured: there are none, or one is not an address and a port.
    """
    if not texts:
        raise Misconfigured("proxy.no-binds", "The proxy has no address to listen on.", "Set http.binds.")
    return tuple(_parse_bind(text) for text in texts)


def leaves_ipv4_alone(bind: Bind, binds: Sequence[Bind]) -> bool:
    """Tell whether ``[::]``, which would take IPv4's port as well, must not, since that has a line of its own."""
    return bind.host == "::" and any(":" not in other.host and other.port == bind.port for other in binds)


def parse_networks(texts: Sequence[str]) -> tuple[str, ...]:
    """Return networks in canonical CIDR form; a single address is a network of one.

    Raises:
        Misconfigured: one is not an IP address or network.
    """
    return tuple(_parse_network(text) for text in texts)


def _parse_bind(text: str) -> Bind:
    match = _BIND.fullmatch(text)
    host = match["host"].strip("[]") if match else ""
    try:
        address = ipaddress.ip_address("0.0.0.0" if host == "*" else host)
    except ValueError:
        address = None
    port = int(match["port"]) if match else 0
    if address is None or not 1 <= port <= 65535:
        raise Misconfigured(
            "proxy.bind-invalid",
            f"The proxy cannot listen on {text!r}.",
            "Write an IP address and a port, as in 0.0.0.0:80 or [::]:80, in http.binds.",
        )
    return Bind(str(address), port)


def _parse_network(text: str) -> str:
    try:
        if "%" in text:
            raise ValueError("a scope has no meaning here")
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError as error:
        raise Misconfigured(
            "proxy.trusted-invalid",
            f"{text!r} is not a network that can be trusted: {error}.",
            "Write addresses or networks, as in 10.0.0.0/8, in http.trusted_proxies.",
        ) from error
