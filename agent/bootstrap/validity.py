"""What settings may not say beyond their types, asked of those who act on them, before anything is started."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_network

from agent.errors import Misconfigured
from agent.proxies.haproxy.binds import parse_binds, parse_networks
from agent.settings import Settings
from proto.names import domain_name


def check(settings: Settings) -> None:
    """Return if an agent could start with these settings; repeating is harmless.

    Raises:
        Misconfigured: one has a value that nothing could be done with; the message names it.
    """
    parse_binds(settings.http.binds)
    _check_trusted(settings)
    socket = settings.engine.socket
    if not socket.removeprefix("unix://").startswith("/"):
        raise Misconfigured(
            "settings.invalid", f"engine.socket {socket!r} is no socket.", "Write it as unix:///var/run/docker.sock."
        )
    if settings.domains.default:
        try:
            domain_name(settings.domains.default)
        except (ValueError, UnicodeError) as error:
            raise Misconfigured(
                "settings.invalid",
                f"domains.default {settings.domains.default!r} is not a domain name.",
                "Write it as apps.example.com.",
            ) from error


def _check_trusted(settings: Settings) -> None:
    """Refuse networks that hold nobody but apps. One that holds others too is right: apps are left out of it."""
    pool = IPv4Network(settings.network.pool)
    for text in parse_networks(settings.http.trusted_proxies):
        network = ip_network(text)
        if isinstance(network, IPv4Network) and network.subnet_of(pool):
            raise Misconfigured(
                "proxy.trusted-apps",
                f"http.trusted_proxies names {text}, where apps have their addresses (network.pool {pool}).",
                "Name the addresses of your proxies: what an app says about visitors is never believed.",
            )
