"""Git servers elsewhere: logins, the keys of ssh servers, and each app's own key.

Passwords and private keys are sealed with the key file, as config is, each bound to its host or app.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agent.ports.remotes import Login
from agent.state.sql import Sql
from agent.vault import Vault
from proto.names import AppId


class DeployKey(msgspec.Struct, frozen=True, array_like=True):
    """A row of ``deploy_keys``, without what is secret."""

    app: AppId
    public: str
    """Type and base64."""
    created_at: float


class Logins:
    """Rows of ``logins``."""

    def __init__(self, sql: Sql, vault: Vault) -> None:
        self._sql = sql
        self._vault = vault

    async def users(self) -> dict[str, str]:
        """Return who signs in, by host."""
        rows = await self._sql.run("SELECT host, user FROM logins ORDER BY host")
        return {str(host): str(user) for host, user in rows.rows}

    async def all(self) -> dict[str, Login]:
        """Return every login by host, passwords included."""
        rows = await self._sql.run("SELECT host, user, sealed FROM logins")
        return {
            str(host): Login(str(user), self._vault.unseal(sealed, context=_login_context(host)).decode())
            for host, user, sealed in rows.rows
        }

    async def set(self, host: str, login: Login) -> None:
        """Store a login in place of the host's last one."""
        sealed = self._vault.seal(login.password.encode(), context=_login_context(host))
        await self._sql.run(
            "INSERT INTO logins (host, user, sealed) VALUES (?, ?, ?)"
            " ON CONFLICT (host) DO UPDATE SET user = excluded.user, sealed = excluded.sealed",
            (host, login.user, sealed),
        )

    async def remove(self, host: str) -> bool:
        """Forget a host's login. Return false if there was none."""
        rows = await self._sql.run("DELETE FROM logins WHERE host = ?", (host,))
        return rows.changed == 1

    async def unopened(self) -> tuple[int, list[str]]:
        """Return how many logins there are, and where those belong that do not open with the key at hand."""
        rows = await self._sql.run("SELECT host, sealed FROM logins")
        return len(rows.rows), self._vault.unopened((_login_context(host), sealed) for host, sealed in rows.rows)


class HostKeys:
    """Rows of ``host_keys``."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    async def all(self) -> dict[str, tuple[str, ...]]:
        """Return the keys (type and base64) of every host."""
        rows = await self._sql.run("SELECT host, public FROM host_keys ORDER BY host, public")
        found: dict[str, tuple[str, ...]] = {}
        for host, public in rows.rows:
            found[str(host)] = (*found.get(str(host), ()), str(public))
        return found

    async def replace(self, host: str, keys: Sequence[str]) -> None:
        """Know a host by just these keys."""
        await self._sql.run("DELETE FROM host_keys WHERE host = ?", (host,))
        for public in sorted(set(keys)):
            await self._sql.run("INSERT INTO host_keys (host, public) VALUES (?, ?)", (host, public))


class DeployKeys:
    """Rows of ``deploy_keys``."""

    def __init__(self, sql: Sql, vault: Vault) -> None:
        self._sql = sql
        self._vault = vault

    async def get(self, app: AppId) -> DeployKey | None:
        """Return the app's key without its private half, or `None`."""
        rows = await self._sql.run("SELECT app, public, created_at FROM deploy_keys WHERE app = ?", (app,))
        return msgspec.convert(rows.rows[0], DeployKey) if rows.rows else None

    async def private(self, app: AppId) -> str:
        """Return the app's private key in OpenSSH's format; empty if it has none."""
        rows = await self._sql.run("SELECT sealed FROM deploy_keys WHERE app = ?", (app,))
        if not rows.rows:
            return ""
        sealed = rows.rows[0][0]
        assert isinstance(sealed, bytes)
        return self._vault.unseal(sealed, context=_key_context(app)).decode()

    async def set(self, key: DeployKey, *, private: str) -> None:
        """Store a key in place of the app's last one."""
        sealed = self._vault.seal(private.encode(), context=_key_context(key.app))
        await self._sql.run(
            "INSERT INTO deploy_keys (app, public, sealed, created_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (app) DO UPDATE"
            " SET public = excluded.public, sealed = excluded.sealed, created_at = excluded.created_at",
            (key.app, key.public, sealed, key.created_at),
        )

    async def unopened(self) -> tuple[int, list[str]]:
        """Return how many deploy keys there are, and where those belong that do not open with the key at hand."""
        rows = await self._sql.run("SELECT app, sealed FROM deploy_keys")
        return len(rows.rows), self._vault.unopened((_key_context(app), sealed) for app, sealed in rows.rows)


def _login_context(host: object) -> str:
    return f"login:{host}"


def _key_context(app: str) -> str:
    return f"app:{app}/deploy-key"
