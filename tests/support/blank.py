"""A database as it is before the first app: migrated once in each process of the tests, and copied from then on."""

from __future__ import annotations

from collections.abc import Coroutine
from functools import cache
from pathlib import Path

from agent.state.schema import migrate, prepare_writer
from agent.state.sql import InlineSql
from tests.support.places import in_memory, silence


def lay(path: Path) -> None:
    """Have such a database at `path`, unless there is one."""
    if not path.exists():
        path.write_bytes(_blank())


@cache
def _blank() -> bytes:
    with in_memory() as folder, silence():
        path = folder / "state.db"
        _run(_make(path))
        return path.read_bytes()


async def _make(path: Path) -> None:
    sql = await InlineSql.open(path)
    await prepare_writer(sql)
    await migrate(sql, path=path)
    await sql.close()


def _run(coroutine: Coroutine[None, None, None]) -> None:
    """Run what waits for nothing, within a loop or without, so that no loop counts its steps."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration:
        return
