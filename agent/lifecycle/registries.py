"""The moves of registries: who Pushboat is to them, and what a release is called there.

Logins are one secret property for each app and one for the server, sealed as a whole. An app's own login of a registry
comes before the server's.
"""

from __future__ import annotations

from typing import Final

import msgspec

from agent.lifecycle.properties import REGISTRY_LOGINS, set_property
from agent.ports.registries import Login
from agent.state.apps import App
from agent.state.database import Tables, Transaction
from proto.names import SERVER, AppId

TEMPLATE: Final = "{{ .AppName }}"
"""What stands for the app's name in ``image-repo-template``, as Dokku writes it."""
DEFAULT_TEMPLATE: Final = f"pushboat/{TEMPLATE}"


async def logins_of(tables: Tables, app: AppId) -> dict[str, Login]:
    """Return the logins of just this app, or of the server, by registry."""
    stored = await tables.properties.get(app, REGISTRY_LOGINS)
    return {login.server: login for login in msgspec.json.decode(stored, type=list[Login])} if stored else {}


async def logins(tables: Tables, app: AppId) -> dict[str, Login]:
    """Return the logins that hold for an app: the server's, and its own above them."""
    return {**await logins_of(tables, SERVER), **await logins_of(tables, app)}


async def log_in(tx: Transaction, *, app: AppId, login: Login) -> None:
    """Keep a login, which the registry has accepted. One that was kept before is replaced."""
    await _store(tx, app, {**await logins_of(tx, app), login.server: login})


async def log_out(tx: Transaction, *, app: AppId, server: str) -> bool:
    """Forget the login at a registry. Return false if there is none."""
    known = await logins_of(tx, app)
    if known.pop(server, None) is None:
        return False
    await _store(tx, app, known)
    return True


async def is_pushed(tables: Tables, app: AppId) -> bool:
    """Tell whether the releases of an app go to a registry."""
    return await tables.properties.effective(app, "registry.push-on-release") == "true"


async def repository(tables: Tables, app: App) -> str:
    """Return what the app's images are called in its registry, without tag and server."""
    if own := await tables.properties.get(app.id, "registry.image-repo"):
        return own
    template = await tables.properties.effective(app.id, "registry.image-repo-template") or DEFAULT_TEMPLATE
    return template.replace(TEMPLATE, app.name)


async def names_of(tables: Tables, app: App, *, release: int) -> tuple[str, ...]:
    """Return what a release is called in its registry: the numbered name first. Empty if nobody said which registry."""
    server = await tables.properties.effective(app.id, "registry.server")
    if not server:
        return ()
    extra = await tables.properties.effective(app.id, "registry.push-extra-tags") or ""
    prefix = f"{server}/{await repository(tables, app)}"
    return tuple(f"{prefix}:{tag}" for tag in dict.fromkeys((str(release), *filter(None, extra.split(",")))))


async def _store(tx: Transaction, app: AppId, known: dict[str, Login]) -> None:
    rows = [known[server] for server in sorted(known)]
    value = msgspec.json.encode(rows).decode() if rows else None
    await set_property(tx, app=app, name=REGISTRY_LOGINS, value=value)
