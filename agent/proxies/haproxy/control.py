"""HAProxy's master socket: who runs, reload, and a conversation with any one worker, old ones too.

Everything goes through the master, never through the worker's own socket: during a reload the old and the new worker
both accept there, and one cannot tell whom one got.

The protocol (management guide 9.4): ``show proc`` and ``reload`` go to the master itself, one per connection, and end
with it. ``prompt`` and then ``@!<pid>`` make the connection a conversation with that worker: each answer ends with the
prompt ``<pid>>``. HAProxy reports failures as text; `Worker.order` knows the few texts that mean success.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import structlog

from agent.errors import Unavailable

T = TypeVar("T")

CONNECT_SECONDS: Final = 2.0
"""For the socket to accept: it refuses for some milliseconds after a start and during a reload."""
ANSWER_SECONDS: Final = 5.0
"""For one answer. A thousand servers are listed in 10 ms; more than a second means that HAProxy hangs."""
CONNECT_PAUSE: Final = 0.02
"""Seconds between two tries to connect."""
MAX_ANSWER: Final = 64 * 1024 * 1024
"""Bytes of one answer; a server or a map entry takes about 150."""

_DONE = ("New server registered.", "Server deleted.", "IP changed from", "port changed from", "no need to change")
_UPTIME = re.compile(r"(\d+)d(\d+)h(\d+)m(\d+)s")
_HINT = "See whether HAProxy runs: systemctl status pushboat-proxy, or run doctor."


log = structlog.get_logger()


class OrderRefused(Exception):
    """The worker answered an order with something other than success."""

    def __init__(self, order: str, answer: str) -> None:
        super().__init__(f"{order}: {answer}")
        self.order = order
        self.answer = answer


class Process(msgspec.Struct, frozen=True):
    """A worker."""

    pid: int
    reloads: int
    """How many reloads it has lived through."""
    uptime: int
    """Whole seconds since it was started."""


class Processes(msgspec.Struct, frozen=True, kw_only=True):
    """What ``show proc`` tells."""

    master: int
    reloads: int
    """Of the master, failed ones included."""
    failed: int
    """How many of the last reloads in a row failed; the former worker goes on meanwhile."""
    current: Process
    old: tuple[Process, ...]
    """Workers that were replaced and still have connections."""


def unavailable(detail: str) -> Unavailable:
    """Return the error for a HAProxy that does not answer as it should."""
    return Unavailable("proxy.unavailable", f"The proxy does not answer: {detail}.", _HINT)


def parse_processes(text: str) -> Processes | None:
    """Return what ``show proc`` tells, or `None` if no master and worker are in it: it is about to start or to end."""
    masters: list[list[str]] = []
    workers: list[Process] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 4 and words[1] == "master":
            masters.append(words)
        elif len(words) >= 4 and words[1] == "worker":
            workers.append(Process(int(words[0]), int(words[2]), _seconds(words[3])))
    if not masters or not workers:
        return None
    workers.sort(key=lambda worker: (worker.reloads, worker.uptime))
    failed = re.search(r"\[failed: (\d+)\]", text)
    return Processes(
        master=int(masters[0][0]),
        reloads=int(masters[0][2]),
        failed=int(failed[1]) if failed else 0,
        current=workers[0],
        old=tuple(workers[1:]),
    )


def _seconds(uptime: str) -> int:
    match = _UPTIME.fullmatch(uptime)
    if not match:
        return 0
    days, hours, minutes, seconds = map(int, match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


class Worker:
    """A conversation with one worker. Made by `Master.worker`."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self._reader = reader
        self._writer = writer

    async def ask(self, question: str) -> str:
        """Return the answer to one command, without the blank lines around it.

        Raises:
            Unavailable: no answer in time, or the worker ended.
        """
        self._writer.write(question.encode("ascii") + b"\n")
        return await self._answer()

    async def order(self, *orders: str) -> None:
        """Give commands that change something, one after the other.

        Raises:
            OrderRefused: one failed; those before it were carried out.
            Unavailable: no answer in time, or the worker ended.
        """
        for order in orders:
            answer = await self.ask(order)
            if answer and not answer.startswith(_DONE):
                raise OrderRefused(order, answer)

    async def greet(self) -> None:
        """Begin the conversation: the master prompts, then the worker.

        Raises:
            Unavailable: there is no such worker, or no answer.
            OSError, IncompleteReadError: the master starts or reloads; the same again will do.
        """
        self._writer.write(b"prompt\n")
        async with _deadline():
            await self._reader.readuntil(b"master> ")
            self._writer.write(f"@!{self.pid}\n".encode("ascii"))
            answer = await self._reader.readuntil(b"> ")
        if not answer.endswith(f"{self.pid}> ".encode("ascii")):
            raise unavailable(f"it has no worker {self.pid}")

    async def _answer(self) -> str:
        end = f"\n{self.pid}> ".encode("ascii")
        try:
            async with _deadline():
                text = await self._reader.readuntil(end)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise unavailable(_reason(error)) from error
        return text[: -len(end)].decode("ascii", "replace").strip("\n")


class Master:
    """The master socket. Every call connects anew, so nothing is held while nothing is asked.

    While HAProxy starts and reloads, its master starts itself anew and for some milliseconds refuses or cuts
    connections: within `patience` seconds everything but a reload is tried again.
    """

    def __init__(self, socket: Path, *, patience: float = CONNECT_SECONDS) -> None:
        self._socket = socket
        self._patience = patience

    async def processes(self) -> Processes:
        """Return who runs.

        Raises:
            Unavailable: HAProxy does not answer, or has no worker.
        """
        return await self._patiently(self._show_processes)

    async def reload(self) -> None:
        """Order a reload. The master answers nothing: see `processes` for how it went.

        Raises:
            Unavailable: HAProxy does not answer.
        """
        reader, writer = await self._patiently(self._connect)
        try:
            await self._tell("reload", reader, writer)
        except ConnectionError as error:
            # As good as its usual answer: it starts itself anew at once.
            log.debug("proxy.reload-cut", reason=_reason(error))
        finally:
            writer.close()

    @asynccontextmanager
    async def worker(self, pid: int) -> AsyncIterator[Worker]:
        """Talk to the worker with that process id.

        Raises:
            Unavailable: HAProxy does not answer, or has no such worker.
        """
        worker, writer = await self._patiently(lambda: self._greet(pid))
        try:
            yield worker
        finally:
            writer.close()

    async def _show_processes(self) -> Processes:
        reader, writer = await self._connect()
        try:
            processes = parse_processes(await self._tell("show proc", reader, writer))
        finally:
            writer.close()
        if processes is None:
            raise ConnectionError("it has no worker")
        return processes

    async def _greet(self, pid: int) -> tuple[Worker, asyncio.StreamWriter]:
        reader, writer = await self._connect()
        worker = Worker(pid, reader, writer)
        try:
            await worker.greet()
        except BaseException:
            writer.close()
            raise
        return worker, writer

    async def _tell(self, order: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        async with _deadline():
            writer.write(order.encode("ascii") + b"\n")
            # Without a half-close the master waits for more.
            writer.write_eof()
            return (await reader.read()).decode("ascii", "replace")

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with _deadline():
            return await asyncio.open_unix_connection(self._socket, limit=MAX_ANSWER)

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        deadline = asyncio.get_running_loop().time() + self._patience
        while True:
            try:
                return await attempt()
            except (OSError, asyncio.IncompleteReadError) as error:
                if asyncio.get_running_loop().time() >= deadline:
                    raise unavailable(_reason(error)) from error
            await asyncio.sleep(CONNECT_PAUSE)


@asynccontextmanager
async def _deadline() -> AsyncIterator[None]:
    """Bound one answer. A master that hangs is not tried again: it accepts, and would hang again."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            yield
    except TimeoutError as error:
        raise unavailable("no answer in time") from error


def _reason(error: Exception) -> str:
    match error:
        case asyncio.IncompleteReadError():
            return "it ended in mid-conversation"
        case OSError():
            return error.strerror or str(error)
        case _:
            return "its answer is malformed"


def lines_of(answer: str) -> Sequence[str]:
    """Return the lines of a table, without its version number, its header and blank lines."""
    return [line for line in answer.splitlines() if line and not line.startswith("#") and " " in line]
