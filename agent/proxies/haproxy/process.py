"""HAProxy's master as a process of this machine: started, recognised, watched and ended.

It goes into the background by itself (``-D``), into a session of its own, and outlives whoever started it. A process id
alone proves nothing (it is used again, and process 1 in a container may leave the dead as zombies that ``kill -0``
takes for living), so a master is known by process id, start time and boot.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from agent.errors import Misconfigured, UserError
from agent.proxies.haproxy.binds import Bind
from agent.proxies.haproxy.config import Layout
from agent.proxies.haproxy.control import CONNECT_SECONDS, Master, unavailable
from agent.proxies.haproxy.files import replace
from agent.proxies.haproxy.listeners import who_listens

START_SECONDS: Final = 15.0
"""For HAProxy to read its file, bind and go into the background: 0.15 s with a thousand apps."""
END_SECONDS: Final = 5.0
"""From SIGTERM to SIGKILL. HAProxy ends at once on SIGTERM."""

_TAKEN = "Address already in use"
_FORBIDDEN = "Permission denied"


class Identity(msgspec.Struct, frozen=True):
    """One process, unmistakably."""

    pid: int
    started: int
    """Clock ticks after boot."""
    boot: str
    """The kernel's id of this boot."""


def identify(pid: int) -> Identity | None:
    """Return who has that process id now, or `None` if nobody living has."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name may hold spaces and parentheses; what follows its last one are fields 3 (state) and on (proc(5)).
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    return Identity(pid, int(fields[19]), Path("/proc/sys/kernel/random/boot_id").read_text().strip())


def recall(layout: Layout) -> Identity | None:
    """Return the noted master if it still lives. Whoever wants to end it reads it here."""
    try:
        identity = msgspec.json.decode(layout.identity.read_bytes(), type=Identity)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return identity if identify(identity.pid) == identity else None


async def check(binary: str, config: Path) -> str | None:
    """Return why HAProxy would not take that file, or `None` if it would."""
    status, output = await _run(binary, "-c", "-q", "-f", str(config))
    return None if status == 0 else _complaint(output)


async def launch(binary: str, layout: Layout, binds: tuple[Bind, ...]) -> Identity:
    """Start HAProxy in the background; return its master, which listens and answers.

    Raises:
        Misconfigured: a port is taken (by whom, if that can be seen) or not allowed, the program is missing, or the
            file is wrong.
        Unavailable: it was started and does not answer.
    """
    sockets = ("-S", f"{layout.master_socket},mode,600,level,admin")
    status, output = await _run(binary, "-D", "-W", *sockets, "-f", str(layout.config))
    if status != 0:
        raise await asyncio.to_thread(_explain, output, binds)
    return await meet(layout)


async def meet(layout: Layout, *, patience: float = CONNECT_SECONDS) -> Identity:
    """Ask the master who it is, and note it. (Its own pid file is written only after its starter has returned.)

    Raises:
        Unavailable: nobody answers.
    """
    master = (await Master(layout.master_socket, patience=patience).processes()).master
    identity = identify(master)
    if identity is None:
        raise unavailable("it has just ended")
    if identity != recall(layout):
        replace(layout.identity, msgspec.json.encode(identity))
    return identity


async def ended(identity: Identity) -> None:
    """Return once that process has ended. Costs nothing meanwhile."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    loop.add_reader(descriptor, end.set)
    try:
        # Only now: had the process id changed hands before the descriptor was opened, it would be seen here.
        if identify(identity.pid) == identity:
            await end.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def end(identity: Identity) -> None:
    """End that process, gently and then not. Gone is fine."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if identify(identity.pid) != identity:
            return
        os.kill(identity.pid, number)
        try:
            async with asyncio.timeout(END_SECONDS):
                await ended(identity)
        except TimeoutError:
            continue


async def version(binary: str) -> tuple[int, int] | None:
    """Return HAProxy's version, or `None` if the program cannot be run."""
    try:
        _, output = await _run(binary, "-v")
    except Misconfigured:
        return None
    match = re.search(r"version (\d+)\.(\d+)", output)
    return (int(match[1]), int(match[2])) if match else None


async def _run(binary: str, *arguments: str) -> tuple[int, str]:
    """Run HAProxy's program to its end; return its exit status and what it said.

    Its words go to a file: a pipe would not end before the HAProxy that went into the background, if that inherited it.
    """
    with tempfile.TemporaryFile() as output:
        try:
            program = await asyncio.create_subprocess_exec(
                binary,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except OSError as error:
            raise Misconfigured(
                "proxy.no-program", f"{binary} cannot be run: {error.strerror}.", "Install it: apt-get install haproxy"
            ) from error
        try:
            async with asyncio.timeout(START_SECONDS):
                status = await program.wait()
        except TimeoutError:
            program.kill()
            await program.wait()
            return 1, f"No answer within {START_SECONDS:.0f} s."
        output.seek(0)
        return status, output.read().decode(errors="replace")


def _explain(output: str, binds: tuple[Bind, ...]) -> UserError:
    if _TAKEN in output:
        holders = [(bind, holder) for bind in binds if (holder := who_listens(bind))]
        told = " ".join(f"{bind} is held by {holder}." for bind, holder in holders)
        return Misconfigured(
            "proxy.port-taken",
            f"The proxy cannot listen on {', '.join(map(str, binds))}: the port is taken. {told}".rstrip(),
            "Stop that program, or set another address in http.binds.",
        )
    if _FORBIDDEN in output:
        return Misconfigured(
            "proxy.port-forbidden",
            f"The proxy may not listen on {', '.join(map(str, binds))}: {_complaint(output)}",
            "Ports below 1024 need root or CAP_NET_BIND_SERVICE; set http.binds to others without it.",
        )
    return Misconfigured("proxy.not-started", f"HAProxy does not start: {_complaint(output)}", "Run doctor.")


def _complaint(output: str) -> str:
    """Return the alerts among what HAProxy said, or else all of it, on one line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    alerts = [line.partition(") : ")[2] or line for line in lines if line.startswith("[ALERT]")]
    return " ".join(alerts or lines)[:1000]
