"""A process that can die at any step, and whose calls of the world go as fate wants.

What is dead does nothing more: its transaction is rolled back, as SQLite does when the next process opens the file,
and no call of a port has an effect. A call gives way before and after its effect, so that a step ends there.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from agent.ports.logs import LogLine, RawLines
from agent.state.sql import InlineSql, Rows, Sql, Value
from proto.names import AppId, ReplicaId
from tests.fakes.log_source import FakeLogSource
from tests.simulation.stored import SmallStore
from tests.simulation.virtual import Death

Act = Callable[[], Awaitable[Any]]


class Fate(Protocol):
    """Decides how calls of the world go."""

    async def call(self, port: str, method: str, act: Act) -> Any:
        """Make the call, or not; answer, or raise what the port may raise."""
        ...

    async def statement(self, text: str, act: Act) -> Any:
        """Run the statement, or raise what the disk may make of it."""
        ...

    async def writing(self, act: Act) -> Any:
        """Write to the disk, or raise what the log store makes of one that is full."""
        ...


class Kind:
    """Lets everything go well."""

    async def call(self, port: str, method: str, act: Act) -> Any:
        return await act()

    async def statement(self, text: str, act: Act) -> Any:
        return await act()

    async def writing(self, act: Act) -> Any:
        return await act()


class Process:
    """What the agent's core holds of the world while it lives."""

    def __init__(self, fate: Fate | None = None) -> None:
        self.is_dead = False
        self.effects = 0
        """Commits and calls of ports so far. While it stays the same, so does everything outside the process."""
        self.write_under_way: _Write | None = None
        """Lines that are in the kernel, or half of them: who wrote them does not know it yet."""
        self._fate = fate or Kind()
        self._connections: list[Sql] = []

    def require_alive(self) -> None:
        """Raises: Death."""
        if self.is_dead:
            raise Death

    async def open(self, path: Path) -> Sql:
        """An ``Opener`` whose connections die with the process."""
        self.require_alive()
        connection = await InlineSql.open(path)
        self._connections.append(connection)
        return _MortalSql(connection, self, self._fate)

    def reach(self, port: Any) -> Any:
        """Return the port as the process sees it."""
        if isinstance(port, FakeLogSource):
            return _MortalSource(port, self, self._fate)
        if isinstance(port, SmallStore):
            return _MortalStore(port, self, self._fate)
        return _MortalPort(port, self, self._fate)

    def die(self, folder: Path) -> None:
        """Do nothing more from here on. What was not committed is undone, and `folder` is free for the next one."""
        self.is_dead = True
        if self.write_under_way is not None:
            self.write_under_way.tear()
        for lock in folder.glob("*.lock"):
            lock.unlink()
        for connection in self._connections:
            # Its one step has no await in it.
            try:
                connection.close().send(None)  # type: ignore[attr-defined]
            except StopIteration:
                continue


class _MortalPort:
    def __init__(self, port: Any, process: Process, fate: Fate) -> None:
        self._port = port
        self._process = process
        self._fate = fate
        self._name = type(port).__name__.removeprefix("Fake").strip("_").lower()

    def __getattr__(self, name: str) -> Any:
        self._process.require_alive()
        found = getattr(self._port, name)
        if not inspect.iscoroutinefunction(found) or name == "watch":
            return found

        async def call(*arguments: Any, **more: Any) -> Any:
            if (self._name, name) == ("proxy", "apply"):
                # The adapter knows of a table from the call on, however long it is on its way.
                self._port.expect(*arguments)
            await asyncio.sleep(0)
            self._process.require_alive()
            self._process.effects += 1
            answer = await self._fate.call(self._name, name, lambda: found(*arguments, **more))
            self._process.effects += 1
            await asyncio.sleep(0)
            return answer

        return call


class _MortalSource:
    """What the engine tells of output. Streams break, stall and come late as fate wants, and end with the process."""

    def __init__(self, source: FakeLogSource, process: Process, fate: Fate) -> None:
        self._source = source
        self._process = process
        self._fate = fate

    async def follow(self, replica: ReplicaId, *, since: int) -> AsyncGenerator[RawLines, None]:
        await asyncio.sleep(0)
        self._process.require_alive()
        async with aclosing(self._source.follow(replica, since=since)) as batches:
            async for batch in batches:
                self._process.require_alive()
                yield await self._fate.call("source", "follow", _giving(batch))


def _giving(batch: RawLines) -> Act:
    async def give() -> RawLines:
        return batch

    return give


class _MortalStore:
    """The store of lines, which is a part of the process: nothing of it fails but the disk below."""

    def __init__(self, store: SmallStore, process: Process, fate: Fate) -> None:
        self._store = store
        self._process = process
        self._fate = fate

    async def append(self, app: AppId, replica: ReplicaId, lines: Sequence[LogLine]) -> None:
        await asyncio.sleep(0)
        self._process.require_alive()
        self._process.effects += 1
        before = _sizes(self._store.folder / app)
        await self._fate.writing(lambda: self._store.append(app, replica, lines))
        self._process.write_under_way = _Write(self._store.folder / app, before)
        self._process.effects += 1
        await asyncio.sleep(0)
        self._process.write_under_way = None

    def __getattr__(self, name: str) -> Any:
        self._process.require_alive()
        found = getattr(self._store, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*arguments: Any, **more: Any) -> Any:
            self._process.require_alive()
            answer = await found(*arguments, **more)
            self._process.effects += name == "remove"
            return answer

        return call


class _Write(NamedTuple):
    """The last write to an app's lines."""

    folder: Path
    before: Mapping[str, int]
    """Sizes of its files."""

    def tear(self) -> None:
        """Leave half of it, as a process does that is killed while it writes."""
        for path in sorted(self.folder.glob("*.log")):
            grown = path.stat().st_size - self.before.get(path.name, 0)
            if grown > 1:
                os.truncate(path, path.stat().st_size - grown // 2)


def _sizes(folder: Path) -> Mapping[str, int]:
    return {path.name: path.stat().st_size for path in folder.glob("*.log")}


class _MortalSql:
    """A connection that the process takes with it."""

    def __init__(self, sql: Sql, process: Process, fate: Fate) -> None:
        self._sql = sql
        self._process = process
        self._fate = fate

    async def run(self, statement: str, parameters: Sequence[Value] = ()) -> Rows:
        self._process.require_alive()
        rows: Rows = await self._fate.statement(statement, lambda: self._sql.run(statement, parameters))
        self._process.effects += statement == "COMMIT"
        return rows

    async def run_many(self, statement: str, rows: Iterable[Sequence[Value]]) -> int:
        self._process.require_alive()
        count: int = await self._fate.statement(statement, lambda: self._sql.run_many(statement, rows))
        return count

    async def script(self, text: str) -> None:
        self._process.require_alive()
        await self._sql.script(text)

    async def roll_back(self) -> None:
        self._process.require_alive()
        await self._sql.roll_back()

    async def close(self) -> None:
        if not self._process.is_dead:
            await self._sql.close()
