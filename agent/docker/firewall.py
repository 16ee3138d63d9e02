"""Keeps containers from this machine's own ports and from the cloud's metadata address.

A container reaches whatever listens on this machine through its bridge's gateway, and the metadata service (which hands
out the machine's credentials) through the machine's route, unless a rule forbids it. One chain of our own, named after
the address pool, holds the rules; the first line of INPUT and of DOCKER-USER sends it what comes from the pool. Docker
leaves DOCKER-USER alone when it starts, and goes through it before any rule of its own.

Build steps are not in the pool: BuildKit gives them the engine's default bridge and takes no other. That bridge may be
anybody's, so what comes from it is sent to the chain only where ``network.build_bridge`` says that it is ours alone.

What is allowed: answers to connections that this machine opened (the proxy's), questions to the name servers of
``/etc/resolv.conf``, should one of them be this machine or live at a link-local address, and what this machine serves
to everybody anyhow: the proxy's ports and the agent's ssh, where they listen at more than loopback. So an app calls
another, and itself, by a public domain, as the rest of the world does.

Changing rules needs root, which the agent has not. So this is a small program of its own, run by
``pushboat-firewall.service`` and by quickstart::

    python -m agent.docker.firewall apply|remove|check [--pool 10.213.0.0/16] [--build-bridge docker0]

It leaves a mark in /run, which goes when the rules go at a reboot, and by which the agent can tell which are there.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final, NamedTuple

from agent.errors import Misconfigured
from agent.settings import Settings, load

PARENTS: Final = ("INPUT", "DOCKER-USER")
"""To this machine itself, and through it."""
METADATA: Final = "169.254.0.0/16"
"""All link-local addresses: 169.254.169.254 of most clouds, and what some keep beside it."""
IPTABLES: Final = ("iptables", "--wait", "10")
"""Docker changes rules too: wait for the lock for up to ten seconds."""
RESOLV_CONFS: Final = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
"""Where containers' name servers come from: Docker takes the second where the first names only systemd-resolved."""
MARKS: Final = Path("/run")

_OPEN: Final = "open"
"""Begins the lines of a mark that name doors."""

HINT: Final = "Apply them as root: systemctl restart pushboat-firewall (or scripts/quickstart again)."


class FirewallError(Exception):
    """iptables refused, or is not there."""


class Door(NamedTuple):
    """A TCP port of this machine that everybody may reach, so apps too."""

    port: int
    address: str = ""
    """IPv4; empty: any of this machine's."""


def door(text: str) -> Door | None:
    """Return the door that something listens at which is bound to ``address:port``, or to a port alone.

    `None`: containers do not reach it by IPv4 in any case, as it is bound to loopback or to an IPv6 address; or it is
    no such text, which is no reason to do without the other rules.
    """
    address, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65_536:
        return None
    if address in ("", "*", "0.0.0.0", "[::]", "::"):
        return Door(int(port))
    if address.startswith("["):
        return None
    try:
        found = IPv4Address(address)
    except ValueError:
        return None
    return None if found.is_loopback else Door(int(port), str(found))


def doors_of(settings: Settings) -> list[Door]:
    """Return what this machine serves to everybody: proxy, ssh, and what ``network.open_ports`` adds."""
    texts = [*settings.http.binds, f"{settings.ssh.host}:{settings.ssh.port}", *settings.network.open_ports]
    return list(dict.fromkeys(found for text in texts if (found := door(text)) is not None))


def chain(pool: str) -> str:
    """Return the name of our chain. iptables allows 28 characters, the longest pool needs 27."""
    return f"PUSHBOAT-{IPv4Network(pool)}".replace("/", "-")


def rules(pool: str, *, resolvers: Sequence[str], doors: Sequence[Door] = ()) -> list[list[str]]:
    """Return the rules of our chain, in order, as arguments of ``iptables``."""
    reject = ["-j", "REJECT", "--reject-with", "icmp-port-unreachable"]
    allowed = [["-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "RETURN"]]
    for resolver in resolvers:
        for protocol in ("udp", "tcp"):
            allowed.append(["-d", f"{resolver}/32", "-p", protocol, "-m", protocol, "--dport", "53", "-j", "RETURN"])
    refused = [["-d", METADATA, *reject]]
    for port, address in doors:
        to = ["-d", f"{address}/32"] if address else []
        local = ["-m", "addrtype", "--dst-type", "LOCAL"]
        refused.append([*to, "-p", "tcp", "-m", "tcp", "--dport", str(port), *local, "-j", "RETURN"])
    for kind in ("LOCAL", "BROADCAST", "MULTICAST"):
        refused.append(["-m", "addrtype", "--dst-type", kind, *reject])
    return [["-A", chain(pool), *rule] for rule in (*allowed, *refused)]


def restore_document(pool: str, *, resolvers: Sequence[str], doors: Sequence[Door] = ()) -> str:
    """Return what ``iptables-restore --noflush`` needs to make or refill our chain in one step, and touch no other."""
    lines = (" ".join(rule) for rule in rules(pool, resolvers=resolvers, doors=doors))
    return "\n".join(["*filter", f":{chain(pool)} - [0:0]", *lines, "COMMIT", ""])


def sources(pool: str, *, build_bridge: str) -> list[list[str]]:
    """Return what goes through our chain, each as a match of ``iptables``. `build_bridge`: empty for none."""
    return [["-s", str(IPv4Network(pool))], *([["-i", build_bridge]] if build_bridge else [])]


def jump(action: str, parent: str, *, pool: str, source: Sequence[str]) -> list[str]:
    """Return the command that inserts (``-I``), deletes (``-D``) or looks for (``-C``) a way into our chain."""
    return [*IPTABLES, action, parent, *source, "-j", chain(pool)]


def resolvers_of(resolv_conf: str) -> list[str]:
    """Return the IPv4 name servers that a ``resolv.conf`` names, loopback left out: containers cannot mean those."""
    found = []
    for line in resolv_conf.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            address = IPv4Address(words[1])
        except ValueError:
            continue
        if not address.is_loopback:
            found.append(str(address))
    return found


def name_servers() -> list[str]:
    """Return the name servers that containers of this machine ask, each once."""
    found = [resolver for path in RESOLV_CONFS if path.exists() for resolver in resolvers_of(path.read_text())]
    return list(dict.fromkeys(found))


def apply(pool: str, *, build_bridge: str = "", doors: Sequence[Door] = ()) -> None:
    """Put the rules in place, and no others. Repeating is harmless; while it does, the rules of before hold.

    Raises:
        FirewallError: iptables refused.
    """
    # Docker makes this chain when it starts, and uses one that is already there.
    _succeeds([*IPTABLES, "-N", "DOCKER-USER"])
    document = restore_document(pool, resolvers=name_servers(), doors=doors)
    _run(["iptables-restore", "--noflush", "--wait", "10"], document=document)
    wanted = sources(pool, build_bridge=build_bridge)
    for parent in PARENTS:
        for source in _sources_now(parent, pool=pool):
            if source not in wanted:
                _run(jump("-D", parent, pool=pool, source=source))
        for source in wanted:
            if not _succeeds(jump("-C", parent, pool=pool, source=source)):
                _run(jump("-I", parent, pool=pool, source=source))
    mark = _mark(pool)
    lines = [" ".join(source) for source in wanted] + [f"{_OPEN} {port} {address}" for port, address in doors]
    mark.write_text("".join(f"{line}\n" for line in lines))
    mark.chmod(0o644)


def remove(pool: str) -> None:
    """Take the rules away, those for a build bridge too. Repeating is harmless.

    Raises:
        FirewallError: iptables refused.
    """
    _mark(pool).unlink(missing_ok=True)
    for parent in PARENTS:
        for source in _sources_now(parent, pool=pool):
            _run(jump("-D", parent, pool=pool, source=source))
    if _succeeds([*IPTABLES, "-S", chain(pool)]):
        _run([*IPTABLES, "-F", chain(pool)])
        _run([*IPTABLES, "-X", chain(pool)])


def missing(pool: str, *, build_bridge: str = "", doors: Sequence[Door] | None = None) -> str | None:
    """Return what is missing of the rules, or `None`. Asks iptables; without root it goes by the mark alone.

    `doors`: `None` for those that were opened when the rules were applied.
    """
    wanted = sources(pool, build_bridge=build_bridge)
    mark = _mark(pool)
    marked = mark.read_text().splitlines() if mark.exists() else []
    if os.geteuid() != 0:
        lacking = [source for source in wanted if " ".join(source) not in marked]
        return f"the firewall rules for {lacking[0][1]} are not in place" if lacking else None
    for parent in PARENTS:
        for source in wanted:
            if not _succeeds(jump("-C", parent, pool=pool, source=source)):
                return f"the firewall rule in {parent} for {source[1]} is missing"
    if doors is None:
        opened = [line.split(" ") for line in marked if line.startswith(f"{_OPEN} ")]
        doors = [Door(int(port), address) for _, port, address in opened]
    listed = _run([*IPTABLES, "-S", chain(pool)]).splitlines()
    expected = rules(pool, resolvers=name_servers(), doors=doors)
    is_whole = sum(line.startswith("-A") for line in listed) == len(expected)
    if not is_whole or not all(_succeeds([*IPTABLES, "-C", *rule[1:]]) for rule in expected):
        return f"the firewall chain {chain(pool)} is not as it should be"
    return None


def _sources_now(parent: str, *, pool: str) -> list[list[str]]:
    """Return what `parent` sends to our chain, as `sources` writes it; a doubled rule is there twice."""
    if not _succeeds([*IPTABLES, "-S", parent]):
        return []
    start, end = ["-A", parent], ["-j", chain(pool)]
    lines = [line.split() for line in _run([*IPTABLES, "-S", parent]).splitlines()]
    return [words[2:-2] for words in lines if words[:2] == start and words[-2:] == end]


def _mark(pool: str) -> Path:
    return MARKS / f"{chain(pool).lower()}.applied"


def _succeeds(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError as error:
        raise FirewallError(f"{command[0]} cannot be run: {error.strerror}") from error


def _run(command: Sequence[str], *, document: str | None = None) -> str:
    try:
        return subprocess.run(command, input=document, capture_output=True, check=True, text=True).stdout
    except OSError as error:
        raise FirewallError(f"{command[0]} cannot be run: {error.strerror}") from error
    except subprocess.CalledProcessError as error:
        raise FirewallError(f"{' '.join(command)}: {str(error.stderr).strip()}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 done or in place, 1 not."""
    parser = argparse.ArgumentParser(prog="agent.docker.firewall", description=__doc__.partition("\n")[0])
    parser.add_argument("action", choices=("apply", "remove", "check"))
    parser.add_argument("--pool", help="addresses of the containers, with nothing open (default: the agent's settings)")
    parser.add_argument("--build-bridge", help="interface that builds use (default, without --pool: the settings')")
    options = parser.parse_args(arguments)
    try:
        configured = Settings() if options.pool else _configured()
        pool = options.pool or configured.network.pool
        bridge = configured.network.build_bridge if options.build_bridge is None else options.build_bridge
        doors = [] if options.pool else doors_of(configured)
        if options.action == "apply":
            apply(pool, build_bridge=bridge, doors=doors)
        elif options.action == "remove":
            remove(pool)
        elif found := missing(pool, build_bridge=bridge, doors=doors):
            raise FirewallError(f"{found}. {HINT}")
    except (FirewallError, Misconfigured, OSError, ValueError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command line of its own
        return 1
    return 0


def _configured() -> Settings:
    config = os.environ.get("PUSHBOAT_CONFIG")
    path = Path(config) if config else None
    return load(path if path and path.exists() else None, os.environ)


if __name__ == "__main__":
    sys.exit(main())
