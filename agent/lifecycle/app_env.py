"""Config that an app's app.json wants it to have: what is missing, and what a release made of a push takes from it.

As with Dokku and Heroku the file speaks at the app's first deploy alone, since from then on config belongs to those who
set it; except for keys with ``sync``, which each deploy from source sets anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from agent.errors import UserError
from agent.lifecycle import config
from agent.manifests.app_env import EnvVariable
from agent.state.apps import App
from agent.state.database import Tables, Transaction
from agent.state.deploys import OF_SOURCE
from proto.names import DeployId

SECRET_BYTES: Final = 32
"""Of a secret that is made up: 64 hexadecimal digits, as Heroku's and Dokku's are."""


async def require(tables: Tables, *, app: App, variables: Sequence[EnvVariable]) -> None:
    """Return if everything that is required has a value, or will get one.

    Raises:
        UserError: ``config.required``; it names all that are missing.
    """
    known = await tables.configs.merged(app.id)
    missing = [
        variable
        for variable in _speaking(variables, app)
        if variable.is_required and variable.key not in known and variable.value is None and not variable.is_generated
    ]
    if missing:
        told = ", ".join(f"{one.key} ({one.description})" if one.description else one.key for one in missing)
        words = " ".join(f"{one.key}=…" for one in missing)
        raise UserError(
            "config.required",
            f"app.json requires config that has no value: {told}.",
            f"Set it and push again: config:set {app.name} {words}",
        )


async def take(tx: Transaction, *, deploy: DeployId, token: Callable[[int], bytes]) -> list[str]:
    """Put into the draft what the plan of a deploy that was just built wants there; return the keys that changed.

    `token`: see ``agent.ports.world.Ids.token``.
    """
    row = await tx.deploys.get(deploy)
    app = await tx.apps.get(row.app) if row else None
    if row is None or app is None or row.plan is None or row.status != "built" or row.kind not in OF_SOURCE:
        return []
    known = await tx.configs.merged(app.id)
    values: dict[str, str] = {}
    for variable in _speaking(row.plan.env, app):
        if variable.key in known and not (variable.is_synced and variable.value is not None):
            continue
        if variable.value is not None:
            values[variable.key] = variable.value
        elif variable.is_generated:
            values[variable.key] = token(SECRET_BYTES).hex()
    return await config.set_values(tx, app=app.id, values=values) if values else []


def _speaking(variables: Sequence[EnvVariable], app: App) -> list[EnvVariable]:
    """Return those that count for a deploy of `app` now."""
    return [variable for variable in variables if variable.is_synced or app.live_release is None]
