"""Apps, their scale, and facts of the server."""

from __future__ import annotations

import msgspec

from agent.state.sql import Sql
from proto.names import AppId, AppName, ProcessType

_COLUMNS = "id, name, created_at, created_by, live_release, is_stopped, destroyed_at"


class App(msgspec.Struct, frozen=True, array_like=True):
    """A row of ``apps``."""

    id: AppId
    name: AppName
    created_at: float
    created_by: str
    live_release: int | None
    is_stopped: bool
    destroyed_at: float | None


class Apps:
    """Rows of ``apps``. Reading methods leave out destroyed apps unless they say otherwise."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    async def add(self, app: AppId, *, name: AppName, by: str, at: float) -> None:
        """Add an app. Fails (a bug) if the name is taken: look first, in the same transaction."""
        await self._sql.run(
            "INSERT INTO apps (id, name, created_at, created_by) VALUES (?, ?, ?, ?)", (app, name, at, by)
        )

    async def get(self, app: AppId) -> App | None:
        """Return the app, destroyed or not, or `None` once nothing of it is left."""
        rows = await self._sql.run(f"SELECT {_COLUMNS} FROM apps WHERE id = ?", (app,))
        return _app(rows.rows[0]) if rows.rows else None

    async def by_name(self, name: str) -> App | None:
        """Return the app that answers to `name`, or `None`."""
        rows = await self._sql.run(f"SELECT {_COLUMNS} FROM apps WHERE name = ? AND destroyed_at IS NULL", (name,))
        return _app(rows.rows[0]) if rows.rows else None

    async def all(self) -> list[App]:
        """Return every app, by name."""
        rows = await self._sql.run(f"SELECT {_COLUMNS} FROM apps WHERE destroyed_at IS NULL ORDER BY name")
        return msgspec.convert(rows.rows, list[App], strict=False)

    async def names(self) -> list[AppName]:
        """Return the name of every app, in order."""
        rows = await self._sql.run("SELECT name FROM apps WHERE destroyed_at IS NULL ORDER BY name")
        return [AppName(name) for (name,) in rows.rows]

    async def destroyed(self) -> list[App]:
        """Return the apps that are being removed."""
        rows = await self._sql.run(f"SELECT {_COLUMNS} FROM apps WHERE destroyed_at IS NOT NULL")
        return msgspec.convert(rows.rows, list[App], strict=False)

    async def rename(self, app: AppId, *, name: AppName) -> None:
        """Give the app another name. Fails (a bug) if it is taken."""
        await self._sql.run("UPDATE apps SET name = ? WHERE id = ?", (name, app))

    async def destroy(self, app: AppId, *, at: float) -> bool:
        """Mark the app destroyed. Return false if it was already."""
        rows = await self._sql.run("UPDATE apps SET destroyed_at = ? WHERE id = ? AND destroyed_at IS NULL", (at, app))
        return rows.changed == 1

    async def set_stopped(self, app: AppId, *, is_stopped: bool) -> bool:
        """Say whether the app should run nothing. Return false if that was so already."""
        rows = await self._sql.run(
            "UPDATE apps SET is_stopped = ? WHERE id = ? AND is_stopped <> ?", (is_stopped, app, is_stopped)
        )
        return rows.changed == 1

    async def set_live(self, app: AppId, *, release: int) -> None:
        """Make `release` the one that serves."""
        await self._sql.run("UPDATE apps SET live_release = ? WHERE id = ?", (release, app))

    async def take_release(self, app: AppId) -> int:
        """Return the app's next release number; no other caller gets it again."""
        rows = await self._sql.run(
            "UPDATE apps SET next_release = next_release + 1 WHERE id = ? RETURNING next_release - 1", (app,)
        )
        version = rows.rows[0][0]
        assert isinstance(version, int)
        return version

    async def erase(self, app: AppId) -> None:
        """Delete every row of a destroyed app but its events. The order is that of the references."""
        of_deploys = ("replicas", "tasks", "pulls", "pushes", "releases", "deploys")
        for table in (*of_deploys, "arrivals", "domains", "scales", "configs", "properties", "deploy_keys"):
            await self._sql.run(f"DELETE FROM {table} WHERE app = ?", (app,))
        await self._sql.run("DELETE FROM apps WHERE id = ?", (app,))


class Scales:
    """Rows of ``scales``: how many replicas of each process type are wanted."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    async def of_app(self, app: AppId) -> dict[ProcessType, int]:
        """Return the quantities that are set, by process type."""
        rows = await self._sql.run("SELECT process, quantity FROM scales WHERE app = ? ORDER BY process", (app,))
        return {ProcessType(str(process)): int(quantity or 0) for process, quantity in rows.rows}

    async def set(self, app: AppId, *, process: ProcessType, quantity: int) -> None:
        """Want `quantity` replicas of `process`."""
        await self._sql.run(
            "INSERT INTO scales (app, process, quantity) VALUES (?, ?, ?)"
            " ON CONFLICT (app, process) DO UPDATE SET quantity = excluded.quantity",
            (app, process, quantity),
        )


class Server:
    """Rows of ``server``: facts of this instance."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    async def get(self, name: str) -> str | None:
        """Return the fact, or `None`."""
        rows = await self._sql.run("SELECT value FROM server WHERE name = ?", (name,))
        return str(rows.rows[0][0]) if rows.rows else None

    async def set(self, name: str, value: str) -> None:
        """Store the fact, in place of an older one."""
        await self._sql.run(
            "INSERT INTO server (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )

    async def forget(self, name: str) -> None:
        """Remove the fact. Repeating is harmless."""
        await self._sql.run("DELETE FROM server WHERE name = ?", (name,))


def _app(row: tuple[object, ...]) -> App:
    return msgspec.convert(row, App, strict=False)
