"""One look at whether a replica is ready, with a reason that its owner can act on if it is not."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path
from typing import Final, assert_never

import aiohttp
from yarl import URL

from agent.docker.containers import Containers
from agent.docker.engine import Engine, Faulted, Refused
from agent.docker.execs import Execs
from agent.docker.frames import FrameReader, OutputStream
from agent.errors import Unavailable, UserError
from agent.ports.scheduler import CheckSpec, ReplicaStatus
from agent.schedulers.listeners import Listener, read_table, why_unreachable

BODY_LIMIT: Final = 1 << 20
"""Bytes of an HTTP answer that are searched for the expected content."""
OUTPUT_LIMIT: Final = 4_096
"""Bytes of a command's output that are kept, the last ones: enough for the line that says what is wrong."""


class DockerProber:
    """Fulfils ``agent.ports.scheduler.Prober``."""

    def __init__(self, engine: Engine) -> None:
        self._containers = Containers(engine)
        self._execs = Execs(engine)

    async def probe(self, check: CheckSpec, status: ReplicaStatus, *, port: int, host: str) -> str | None:
        """See ``Prober``."""
        try:
            async with asyncio.timeout(check.timeout):
                return await self._ask(check, status, port=check.port or port, host=host)
        except TimeoutError:
            return f"No answer within {check.timeout:g} s."
        except Unavailable:
            raise
        except UserError as error:
            return error.message
        except Refused as refusal:
            return f"Docker refused: {refusal.message}"

    async def _ask(self, check: CheckSpec, status: ReplicaStatus, *, port: int, host: str) -> str | None:
        match check.kind:
            case "connect":
                return await self._connect(status, port=port)
            case "listening":
                listeners = await self._listeners(status)
                return why_unreachable(listeners, port=port, own_address=status.address)
            case "path":
                return await self._request(check, status, port=port, host=host)
            case "command":
                return await self._run(check, status)
            case "image":
                return await self._health(status)
            case "uptime":
                return None
            case other:
                assert_never(other)

    async def _connect(self, status: ReplicaStatus, *, port: int) -> str | None:
        try:
            _, writer = await asyncio.open_connection(status.address, port)
        except OSError as error:
            reason = why_unreachable(await self._listeners(status), port=port, own_address=status.address)
            return reason or f"Port {port} cannot be reached: {error.strerror or error}."
        writer.close()
        return None

    async def _listeners(self, status: ReplicaStatus) -> set[Listener]:
        """Return what the replica listens on.

        Raises:
            UserError: it does not run.
        """
        detail = await self._containers.inspect(status.container)
        if detail is None or not detail.state.pid:
            raise _not_running()
        try:
            tables = await asyncio.to_thread(_kernel_tables, detail.state.pid)
        except OSError:
            # An agent in a container of its own, or a hardened /proc, does not see the process: ask from inside.
            _, printed = await self._output(
                status.container, ("cat", "/proc/net/tcp", "/proc/net/tcp6"), limit=BODY_LIMIT
            )
            tables = printed["stdout"].decode(errors="replace")
        return read_table(tables)

    async def _request(self, check: CheckSpec, status: ReplicaStatus, *, port: int, host: str) -> str | None:
        url = request_url(check, address=status.address, port=port)
        headers = {"Host": host or status.address, "Accept": "*/*", "User-Agent": "pushboat"} | dict(check.headers)
        try:
            async with (
                aiohttp.ClientSession(auto_decompress=True) as session,
                # Certificates inside are the app's own affair; where it redirects to may be anybody's.
                session.get(url, headers=headers, ssl=False, allow_redirects=False) as answer,
            ):
                body = await _read_up_to(answer.content, BODY_LIMIT) if check.content else b""
                return judge(check, status=answer.status, body=body)
        except aiohttp.ClientSSLError as error:
            return f"GET {check.path} got no HTTPS answer: {error.strerror or error}"
        except aiohttp.ClientConnectorError:
            return await self._connect(status, port=port) or f"GET {check.path} could not connect."
        except (aiohttp.ClientError, ValueError, OSError) as error:
            return f"GET {check.path} got no HTTP answer: {error}"

    async def _run(self, check: CheckSpec, status: ReplicaStatus) -> str | None:
        code, printed = await self._output(status.container, check.command, limit=OUTPUT_LIMIT)
        if code == 0:
            return None
        last = (printed["stderr"] or printed["stdout"]).decode(errors="replace").strip().rpartition("\n")[2].strip()
        return f"{shlex.join(check.command)} ended with status {code}" + (f": {last}" if last else ".")

    async def _health(self, status: ReplicaStatus) -> str | None:
        detail = await self._containers.inspect(status.container)
        health = detail.state.health if detail else None
        if detail is None or not detail.is_running:
            return "It does not run."
        if health is None or health.status in ("none", ""):
            return "The image has no HEALTHCHECK."
        if health.status == "healthy":
            return None
        last = (health.log or [])[-1:]
        words = last[0].output.strip() if last else ""
        return f"The image's HEALTHCHECK says {health.status}" + (f": {words}" if words else ".")

    async def _output(
        self, container: str, command: tuple[str, ...], *, limit: int
    ) -> tuple[int | None, dict[OutputStream, bytes]]:
        """Run a command in the replica; return its exit status and the last `limit` bytes of each of its streams.

        Raises:
            UserError: it does not run.
        """
        try:
            return await self._ran(container, command, limit=limit)
        except Faulted:
            # The engine calls it a fault of its own (500) if the replica has ended since it was looked at.
            detail = await self._containers.inspect(container)
            if detail is None or not detail.is_running:
                raise _not_running() from None
            raise

    async def _ran(
        self, container: str, command: tuple[str, ...], *, limit: int
    ) -> tuple[int | None, dict[OutputStream, bytes]]:
        exec_id = await self._execs.create(container, command)
        frames = FrameReader()
        printed: dict[OutputStream, bytes] = {"stdout": b"", "stderr": b""}
        async with self._execs.open(exec_id) as stream:
            while data := await stream.read():
                for source, payload in frames.feed(data):
                    printed[source] = (printed[source] + payload)[-limit:]
        return await self._execs.exit_code(exec_id), printed


def _not_running() -> UserError:
    return UserError("replica.not-running", "It does not run.")


def _kernel_tables(pid: int) -> str:
    folder = Path(f"/proc/{pid}/net")
    v6 = folder / "tcp6"
    return (folder / "tcp").read_text() + (v6.read_text() if v6.exists() else "")


def request_url(check: CheckSpec, *, address: str, port: int) -> URL:
    """Return what a ``path`` check asks for. The path is sent as written, percent signs and query included."""
    path = check.path if check.path.startswith("/") else f"/{check.path}"
    return URL(f"{check.scheme}://{address}:{port}{path}", encoded=True)


def judge(check: CheckSpec, *, status: int, body: bytes) -> str | None:
    """Return why an HTTP answer does not pass a ``path`` check, or `None` if it does (200 to 399, content included)."""
    if not 200 <= status < 400:
        return f"GET {check.path} was answered with status {status}."
    if check.content and check.content.encode() not in body:
        return f"GET {check.path} was answered without {check.content!r} in it."
    return None


async def _read_up_to(content: aiohttp.StreamReader, limit: int) -> bytes:
    body = b""
    async for chunk in content.iter_any():
        body += chunk
        if len(body) >= limit:
            break
    return body[:limit]
