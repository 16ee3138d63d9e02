"""Config: the environment of an app's processes, sealed with the key file.

One sealed document per app and release, bound to both, so that a copied row opens nowhere else. Release 0 is the
draft: what users set. A release's own copy is made once, when the release is, and never changes.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from agent.state.sql import Sql
from agent.vault import Vault
from proto.names import SERVER, AppId

DRAFT = 0
"""In place of a release's number."""


class Configs:
    """Rows of ``configs``."""

    def __init__(self, sql: Sql, vault: Vault) -> None:
        self._sql = sql
        self._vault = vault

    async def get(self, app: AppId, *, release: int = DRAFT) -> dict[str, str]:
        """Return the config of a release, or the draft; empty if there is none."""
        rows = await self._sql.run("SELECT sealed FROM configs WHERE app = ? AND release = ?", (app, release))
        if not rows.rows:
            return {}
        sealed = rows.rows[0][0]
        assert isinstance(sealed, bytes)
        body = self._vault.unseal(sealed, context=_context(app, release))
        return msgspec.json.decode(body, type=dict[str, str])

    async def put(self, app: AppId, values: Mapping[str, str], *, release: int = DRAFT) -> None:
        """Store the whole config of a release, or the draft."""
        sealed = self._vault.seal(msgspec.json.encode(values), context=_context(app, release))
        await self._sql.run(
            "INSERT INTO configs (app, release, sealed) VALUES (?, ?, ?)"
            " ON CONFLICT (app, release) DO UPDATE SET sealed = excluded.sealed",
            (app, release, sealed),
        )

    async def verify(self) -> None:
        """Return if what is stored opens with the key at hand; one row tells.

        Raises:
            Misconfigured: ``key.wrong``.
        """
        rows = await self._sql.run("SELECT app, release, sealed FROM configs LIMIT 1")
        for app, release, sealed in rows.rows:
            self._vault.unseal(sealed, context=_context(app, release))

    async def unopened(self) -> tuple[int, list[str]]:
        """Return how many configs there are, and where those belong that do not open with the key at hand."""
        rows = await self._sql.run("SELECT app, release, sealed FROM configs")
        return len(rows.rows), self._vault.unopened(
            (_context(app, release), sealed) for app, release, sealed in rows.rows
        )

    async def merged(self, app: AppId) -> dict[str, str]:
        """Return the server's config overlaid with the app's draft: what a release made now would get."""
        return {**await self.get(SERVER), **await self.get(app)}


def _context(app: AppId, release: int) -> str:
    return f"app:{app}/release:{release}"
