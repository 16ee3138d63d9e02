"""Has systemd hold the proxy's addresses, so that HAProxy itself needs no right to ports below 1024.

``pushboat-proxy.socket`` listens at them and passes the open sockets on to HAProxy, whose file names each by a
variable, and by its address for where there is no such variable (``bind "${PUSHBOAT_AT_0_0_0_0_80-0.0.0.0:80}"``).
Which address is which socket stands in two drop-ins for systemd, made from the settings by ``scripts/install``. An
address that was set later is HAProxy's own to open, until that is run again: below 1024 it may not.

    python -m agent.proxies.haproxy.sockets /etc/systemd/system
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from agent.errors import Misconfigured
from agent.proxies.haproxy.binds import Bind, leaves_ipv4_alone, parse_binds
from agent.settings import load

_FIRST: Final = 3
"""The first descriptor that systemd passes on (sd_listen_fds(3))."""


def drop_ins(binds: Sequence[Bind]) -> Mapping[str, str]:
    """Return what the drop-ins say, by their paths below the folder of units.

    Raises:
        Misconfigured: ``[::]`` is to take IPv4's port as well at one port and not at another: systemd has one word for
            all.
    """
    wide = {bind: leaves_ipv4_alone(bind, binds) for bind in binds if bind.host == "::"}
    if len(set(wide.values())) > 1:
        raise Misconfigured(
            "proxy.bind-mixed",
            "Some of http.binds are [::] with 0.0.0.0 beside it at the same port, and some are [::] alone.",
            "Write 0.0.0.0 beside each of them.",
        )
    family = "ipv6-only" if any(wide.values()) else "both"
    listens = "".join(f"ListenStream={bind}\n" for bind in binds)
    named = "".join(f"Environment={bind.variable}=fd@{number}\n" for number, bind in enumerate(binds, _FIRST))
    return {
        "pushboat-proxy.socket.d/addresses.conf": f"[Socket]\nBindIPv6Only={family}\nListenStream=\n{listens}",
        "pushboat-proxy.service.d/addresses.conf": f"[Service]\n{named}",
    }


def main(arguments: Sequence[str]) -> int:
    """Write the drop-ins below the folder that is given; print whether that changed anything."""
    config = os.environ.get("PUSHBOAT_CONFIG")
    path = Path(config) if config else None
    try:
        settings = load(path if path and path.exists() else None, os.environ)
        wanted = drop_ins(parse_binds(settings.http.binds))
    except Misconfigured as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command line of its own
        return 1
    has_changed = False
    for name, text in wanted.items():
        target = Path(arguments[0]) / name
        if not target.exists() or target.read_text() != text:
            has_changed = True
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    print("changed" if has_changed else "unchanged")  # noqa: T201 - a command line of its own
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
