"""A process that can die at any point: before or after any SQL statement and any call of a port.

What is dead does nothing more. Its open transaction is rolled back, as SQLite does when the next process opens the
file.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from agent.state.sql import InlineSql, Rows, Sql, Value


class Death(BaseException):
    """The process is gone. Nobody may catch this."""


class Mortal:
    """Counts the points that a process passes, and ends it at one of them."""

    def __init__(self, *, dies_at: int | None) -> None:
        """`dies_at`: the point, from 1; `None`: it lives."""
        self.points = 0
        self.is_dead = False
        self._dies_at = dies_at
        self._connections: list[Sql] = []

    def point(self) -> None:
        """Pass a point, or die at it."""
        if not self.is_dead:
            self.points += 1
            self.is_dead = self.points == self._dies_at
        if self.is_dead:
            raise Death

    async def open(self, path: Path) -> Sql:
        """An ``Opener`` whose connections die with the process."""
        connection = await InlineSql.open(path)
        self._connections.append(connection)
        return _MortalSql(connection, self)

    async def bury(self) -> None:
        """Close what the dead process had open."""
        for connection in self._connections:
            await connection.close()

    def reach(self, port: Any) -> Any:
        """Return the port with a point before and after each of its calls."""
        return _MortalPort(port, self)


class _MortalPort:
    def __init__(self, port: Any, mortal: Mortal) -> None:
        self._port = port
        self._mortal = mortal

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*arguments: Any, **more: Any) -> Any:
            self._mortal.point()
            answer = await found(*arguments, **more)
            self._mortal.point()
            return answer

        return call


class _MortalSql:
    """A connection that the process takes with it."""

    def __init__(self, sql: Sql, mortal: Mortal) -> None:
        self._sql = sql
        self._mortal = mortal

    async def run(self, statement: str, parameters: Sequence[Value] = ()) -> Rows:
        self._mortal.point()
        rows = await self._sql.run(statement, parameters)
        self._mortal.point()
        return rows

    async def run_many(self, statement: str, rows: Iterable[Sequence[Value]]) -> int:
        self._mortal.point()
        count = await self._sql.run_many(statement, rows)
        self._mortal.point()
        return count

    async def script(self, text: str) -> None:
        await self._sql.script(text)

    async def roll_back(self) -> None:
        self._mortal.point()
        await self._sql.roll_back()

    async def close(self) -> None:
        if not self._mortal.is_dead:
            await self._sql.close()
