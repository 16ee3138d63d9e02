"""The text of HAProxy's configuration file and maps, and their reading back. Pure: nothing here touches a disk.

The file has two parts. The *frame* (global, defaults, frontend, the names and balance of the slots) can change only by
a reload; its digest stands in ``description``, so that a running HAProxy can be asked which frame it has. The *servers*
change at run time; the same function writes them here and in ``add server``, since a server added at run time ignores
``default-server``.

A worker that was replaced can no longer be told of new replicas, but its clients may still ask. From the moment it is
told to stop (HAProxy's ``stopping``) it passes every further request on, as it came, to the current worker by a socket
of the two: whoever asks, and however late, is served by the routes of now.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from agent.ports.proxy import Upstream
from agent.proxies.haproxy.binds import Bind, leaves_ipv4_alone
from agent.proxies.haproxy.pages import ERRORS, NO_RELEASE, UNKNOWN_HOST
from agent.proxies.haproxy.plan import Maps
from agent.proxies.haproxy.slots import FREE, Slot
from proto.names import AppId

FRAME: Final = "pushboat-frame"
"""Marks the digest in ``description``."""

HANDOVER: Final = "handover"
"""The backend that is the current worker, for those it replaced."""
CURRENT: Final = "current"
"""Its only server."""

MAX_REQUEST_ID: Final = 128
"""Characters of an X-Request-Id that is taken over from a trusted proxy."""

_DIGEST = "@DIGEST@"
_KEPT_ALIVE = "pool-max-conn -1 pool-purge-delay 200ms"
"""Idle connections to replicas: no limit on their number, and none idle for more than about 2 s, since Node closes its
own after 5 s and a POST on a dying connection would be lost. The default delay of 5 s let them grow 35 s old."""


class Layout(msgspec.Struct, frozen=True):
    """Where everything is, below one absolute folder."""

    folder: Path

    @property
    def config(self) -> Path:
        """What HAProxy is started with (``-f``)."""
        return self.folder / "haproxy.cfg"

    @property
    def exact_map(self) -> Path:
        """Domain to backend."""
        return self.folder / "hosts.map"

    @property
    def wildcard_map(self) -> Path:
        """Domain suffix to backend, longest first."""
        return self.folder / "wildcard.map"

    @property
    def pages(self) -> Path:
        """Folder of HAProxy's own answers."""
        return self.folder / "pages"

    @property
    def sockets(self) -> Path:
        """Folder of the sockets, 0700."""
        return self.folder / "sockets"

    @property
    def master_socket(self) -> Path:
        """Where the master process takes orders (``-S``), and passes on those for a worker, old workers included."""
        return self.sockets / "master.sock"

    @property
    def admin_socket(self) -> Path:
        """The worker's own, through which a new worker gets the listening sockets from the old."""
        return self.sockets / "admin.sock"

    @property
    def handover_socket(self) -> Path:
        """Where the current worker takes requests from those it replaced, if they may enter the folder."""
        return self.sockets / "handover.sock"

    @property
    def identity(self) -> Path:
        """Process id, start time and boot of the master, once it was started without systemd."""
        return self.folder / "haproxy.process"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the frame depends on beside the slots."""

    binds: tuple[Bind, ...]
    trusted: tuple[str, ...] = ()
    """Networks whose X-Forwarded-* and X-Request-Id are believed."""
    apps: str = ""
    """Network that replicas have their addresses of. It is never believed, also where a trusted one holds it."""
    max_connections: int = 20_000
    server_seconds: float = 3600.0
    """For an app to answer, and between two pieces of an answer. It may be long in coming (a report, an event stream);
    the app has the better idea of when to give up."""
    tunnel_seconds: float = 86_400.0
    """That a websocket may be silent. Most send something every minute."""
    keep_alive_seconds: float = 15.0
    """That an idle client connection stays open."""
    request_seconds: float = 15.0
    """For a client to send a whole request head. Browsers need one; an attacker who drips bytes gets no more."""
    user: str = ""
    """Whom the workers become, if HAProxy starts as root; empty: nobody else."""

    @property
    def idle_seconds(self) -> float:
        """How long a client connection of a replaced worker may still bring a request."""
        return max(self.keep_alive_seconds, self.request_seconds)


def server_words(upstream: Upstream) -> str:
    """Return what follows ``server`` in the file and ``add server <backend>/`` at run time."""
    host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    return f"{upstream.name} {host}:{upstream.port} {_KEPT_ALIVE}"


def render_config(options: Options, layout: Layout, slots: Sequence[Slot]) -> str:
    """Return the configuration file."""
    frame = [
        *_global(options, layout),
        *_defaults(options, layout),
        *_frontend(options, layout),
        *_own_backends(layout),
        *_handover(options, layout),
    ]
    digest = hashlib.sha256("\n".join((*frame, *(f"{s.name} {s.balance}" for s in slots))).encode()).hexdigest()[:32]
    lines = [line.replace(_DIGEST, digest) for line in frame]
    for slot in slots:
        lines += _backend(slot)
    return "\n".join(lines) + "\n"


def frame_of(text: str) -> str:
    """Return the digest of the frame that stands in a configuration file, or in HAProxy's ``description``; or empty."""
    match = re.search(rf"{FRAME}=([0-9a-f]{{32}})", text)
    return match[1] if match else ""


def render_map(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a map file: a key and a value a line."""
    return "".join(f"{key} {value}\n" for key, value in pairs)


def read_map(text: str) -> list[tuple[str, str]]:
    """Return the pairs of a map file; lines that are not pairs are skipped (the next apply writes the file anew)."""
    return [(words[0], words[1]) for line in text.splitlines() if len(words := line.split()) == 2]


def read_maps(exact: str, wildcards: str) -> Maps:
    """Return what the two map files say."""
    return Maps(dict(read_map(exact)), tuple(read_map(wildcards)))


def read_slots(text: str) -> tuple[Slot, ...]:
    """Return the slots of a configuration file that `render_config` wrote."""
    slots: list[Slot] = []
    for line in text.splitlines():
        match line.split():
            case ["backend", name] if name.startswith("slot"):
                slots.append(Slot(name=name))
            case ["#", "app", app] if slots:
                slots[-1] = msgspec.structs.replace(slots[-1], app=AppId(app))
            case ["balance", ("roundrobin" | "leastconn") as balance] if slots:
                slots[-1] = msgspec.structs.replace(slots[-1], balance=balance)
            case ["server", name, address, *_] if slots:
                host, _, port = address.rpartition(":")
                upstream = Upstream(name, host.strip("[]"), int(port) if port.isdigit() else 0)
                slots[-1] = msgspec.structs.replace(slots[-1], upstreams=(*slots[-1].upstreams, upstream))
    return tuple(slots)


def _global(options: Options, layout: Layout) -> list[str]:
    user = [f"    user {options.user}"] if options.user else []
    return [
        "# Written by Pushboat, and overwritten at the next change: edit its settings instead.",
        "global",
        "    master-worker",
        f"    description {FRAME}={_DIGEST}",
        f"    maxconn {options.max_connections}",
        # With fewer file descriptors than that, serve fewer clients rather than none.
        "    no strict-limits",
        # Else a second HAProxy on these ports would silently get half of the connections.
        "    noreuseport",
        f"    stats socket {layout.admin_socket} mode 600 level admin expose-fd listeners",
        "    stats timeout 1h",
        # A worker that was replaced this often is ended, with all that is in flight there. A websocket must not be cut
        # because others were changed often; `problems` tells of workers that are held (about 8 MB each).
        "    mworker-max-reloads 10000",
        *user,
    ]


def _defaults(options: Options, layout: Layout) -> list[str]:
    return [
        "defaults",
        "    mode http",
        # Seconds that an idle client connection lives; drains wait as long after a reload.
        f"    timeout http-keep-alive {round(options.keep_alive_seconds * 1000)}ms",
        f"    timeout http-request {round(options.request_seconds * 1000)}ms",
        # A client that neither reads nor sends while it should. Waiting for the app does not count.
        "    timeout client 60s",
        "    timeout client-fin 30s",
        "    timeout connect 5s",
        "    timeout queue 30s",
        f"    timeout server {round(options.server_seconds * 1000)}ms",
        f"    timeout tunnel {round(options.tunnel_seconds * 1000)}ms",
        "    option http-keep-alive",
        # In an old worker: let a client's next request come and answer it, then close; never just close.
        "    option idle-close-on-response",
        # A browser that connects ahead and then sends nothing gets no error page.
        "    option http-ignore-probes",
        # Server-sent events and progress bars arrive when they are sent.
        "    option http-no-delay",
        # X_Forwarded_For and X-Forwarded-For are the same to many apps; only one of them is checked here.
        "    option http-restrict-req-hdr-names delete",
        # Only what surely never reached the app is tried again, elsewhere if there is an elsewhere.
        "    retries 3",
        "    retry-on conn-failure",
        "    option redispatch 1",
        *(f"    errorfile {status} {layout.pages / name}.http" for status, name in ERRORS.items()),
    ]


def _frontend(options: Options, layout: Layout) -> list[str]:
    return [
        "frontend http",
        *(f"    bind {_bind_words(bind, options.binds)}" for bind in options.binds),
        f"    bind {_handover_address(options, layout)} mode 600 accept-proxy",
        # As it came: the current worker applies the rules below, and knows the client by the PROXY protocol.
        f"    http-request set-var(txn.backend) str({HANDOVER}) if {{ stopping }}",
        "    http-request allow if { var(txn.backend) -m found }",
        "    http-request set-var(txn.host) req.hdr(host),host_only,lower,rtrim(.)",
        f"    http-request set-var(txn.backend) var(txn.host),map_str({layout.exact_map})",
        "    http-request set-var(txn.backend)"
        f" var(txn.host),map_end({layout.wildcard_map}) if !{{ var(txn.backend) -m found }}",
        *_headers(options.trusted, apps=options.apps),
        "    use_backend %[var(txn.backend)] if { var(txn.backend) -m found }",
        f"    default_backend {UNKNOWN_HOST}",
    ]


def _bind_words(bind: Bind, binds: Sequence[Bind]) -> str:
    """Return an address to listen on, or the open socket that stands for it: see `sockets`."""
    address = f'"${{{bind.variable}-{bind}}}"'
    return f"{address} v6only" if leaves_ipv4_alone(bind, binds) else address


def _headers(trusted: Sequence[str], *, apps: str) -> list[str]:
    """Return the rules that tell the app who asks. A peer that is not trusted cannot tell it anything else."""
    unless = (" unless is_trusted" + (" !is_an_app" if apps else "")) if trusted else ""
    rules = [f"    acl is_trusted src {network}" for network in trusted]
    rules += [f"    acl is_an_app src {apps}"] if apps and trusted else []
    rules += [
        # No pattern that would have to be compiled: HAProxy makes machine code of those, which its unit forbids.
        f"    http-request del-header x-forwarded- -m beg{unless}",
        f"    http-request del-header forwarded{unless}",
        f"    http-request del-header x-real-ip{unless}",
        f"    http-request del-header x-request-id{unless}",
        # CGI turns it into HTTP_PROXY, which HTTP clients obey (CVE-2016-5385 and its kin).
        "    http-request del-header proxy",
        "    acl has_source req.hdr(x-forwarded-for) -m found",
        "    acl has_proto req.hdr(x-forwarded-proto) -m found",
        "    acl has_port req.hdr(x-forwarded-port) -m found",
        '    http-request set-header X-Forwarded-For "%[req.fhdr(x-forwarded-for)], %[src]" if has_source',
        "    http-request set-header X-Forwarded-For %[src] unless has_source",
        "    http-request set-header X-Forwarded-Port 443 if !has_port { req.hdr(x-forwarded-proto) https }",
        "    http-request set-header X-Forwarded-Port %[dst_port] unless has_port",
        "    http-request set-header X-Forwarded-Proto http unless has_proto",
        "    http-request set-header X-Forwarded-Host %[req.hdr(host)] unless { req.hdr(x-forwarded-host) -m found }",
        # An id is letters, digits and -._~, which an encoding for URLs leaves as they are.
        "    http-request set-var(txn.told) req.hdr(x-request-id)",
        "    http-request set-var(txn.told_encoded) var(txn.told),url_enc",
        f"    acl is_id_short var(txn.told),length 1:{MAX_REQUEST_ID}",
        "    acl is_id_plain var(txn.told),strcmp(txn.told_encoded) 0",
        "    http-request set-var(txn.id) var(txn.told) if is_id_short is_id_plain",
        "    http-request set-var(txn.id) uuid() if !{ var(txn.id) -m found }",
        "    http-request set-header X-Request-Id %[var(txn.id)]",
        "    http-request set-header X-Request-Start t=%[date(0,ms)]",
        # A replaced worker leaves the one that the current worker gave.
        "    http-after-response set-header X-Request-Id %[var(txn.id)] if { var(txn.id) -m found }",
    ]
    return rules


def _own_backends(layout: Layout) -> list[str]:
    return [
        f"backend {UNKNOWN_HOST}",
        f"    http-request return status 404 errorfile {layout.pages / UNKNOWN_HOST}.http",
        f"backend {NO_RELEASE}",
        f"    http-request return status 503 errorfile {layout.pages / NO_RELEASE}.http",
    ]


def _handover(options: Options, layout: Layout) -> list[str]:
    # A connection for each request: a kept one might lead to a worker that was replaced meanwhile.
    return [
        f"backend {HANDOVER}",
        f"    server {CURRENT} {handover_words(options, layout)}",
    ]


def handover_words(options: Options, layout: Layout) -> str:
    """Return what follows the server of the handover, in the file and at run time."""
    return f"{_handover_address(options, layout)} send-proxy-v2 pool-max-conn 0"


def _handover_address(options: Options, layout: Layout) -> str:
    if not options.user:
        return f"unix@{layout.handover_socket}"
    # Workers that gave up root's rights cannot enter the folder, so it is a name of this network namespace.
    return f"abns@pushboat-{hashlib.sha256(bytes(layout.folder)).hexdigest()[:32]}"


def _backend(slot: Slot) -> list[str]:
    owner = [] if slot.app == FREE else [f"    # app {slot.app}"]
    servers = [f"    server {server_words(upstream)}" for upstream in slot.upstreams]
    return [f"backend {slot.name}", *owner, f"    balance {slot.balance}", *servers]
