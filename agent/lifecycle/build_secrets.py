"""The moves of build secrets: what ``RUN --mount=type=secret,id=…`` gets.

They are one secret property for each app and one for the server, sealed as a whole; an app's own come first. They are
apart from config, which is for the processes that run: what a build may see, and what stays out of an image, is said
by name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from agent.errors import UserError
from agent.lifecycle.properties import BUILD_SECRETS, set_property
from agent.state.database import Tables, Transaction
from proto.names import SERVER, AppId

MAX_SECRET_BYTES: Final = 500 * 1024
"""Of one value: what BuildKit takes (moby/buildkit, ``session/secrets``)."""
MAX_TOTAL_BYTES: Final = 2 << 20
"""Of all values of one app."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def checked_name(name: str) -> str:
    """Return `name`, by which a Dockerfile may ask.

    Raises:
        UserError: ``secret.invalid-name``.
    """
    if not _NAME.fullmatch(name):
        # Not shown: a value in the wrong place is as likely as a typing error.
        raise UserError(
            "secret.invalid-name",
            "That is not the name of a build secret.",
            "Names have letters, digits, _, . and - in them, such as NPM_TOKEN.",
        )
    return name


async def of(tables: Tables, app: AppId) -> dict[str, str]:
    """Return what is set for just this app, or for the server."""
    stored = await tables.properties.get(app, BUILD_SECRETS)
    return msgspec.json.decode(stored, type=dict[str, str]) if stored else {}


async def merged(tables: Tables, app: AppId) -> dict[str, str]:
    """Return what builds of the app get: the server's, and the app's own above them."""
    return {**await of(tables, SERVER), **await of(tables, app)}


async def set_values(tx: Transaction, *, app: AppId, values: Mapping[str, str]) -> list[str]:
    """Set secrets; return the names whose values changed. Other secrets stay.

    Raises:
        UserError: ``secret.invalid-name``, ``secret.too-large``.
    """
    for name, value in values.items():
        checked_name(name)
        if len(value.encode()) > MAX_SECRET_BYTES:
            raise UserError(
                "secret.too-large",
                f"The value of {name} has more than {MAX_SECRET_BYTES >> 10} KiB, which builds cannot be given.",
                "Have the build fetch it, with a token as the secret.",
            )
    known = await of(tx, app)
    after = {**known, **values}
    if sum(len(value.encode()) for value in after.values()) > MAX_TOTAL_BYTES:
        raise UserError(
            "secret.too-large",
            f"All build secrets together would have more than {MAX_TOTAL_BYTES >> 20} MiB.",
            "Unset some, or have the build fetch what is large.",
        )
    changed = [name for name in values if known.get(name) != values[name]]
    if changed:
        await _store(tx, app, after)
    return changed


async def unset(tx: Transaction, *, app: AppId, names: Collection[str]) -> list[str]:
    """Unset secrets; return those that were set."""
    known = await of(tx, app)
    gone = [name for name in names if name in known]
    if gone:
        await _store(tx, app, {name: value for name, value in known.items() if name not in gone})
    return gone


async def _store(tx: Transaction, app: AppId, values: Mapping[str, str]) -> None:
    text = msgspec.json.encode(dict(sorted(values.items()))).decode() if values else None
    await set_property(tx, app=app, name=BUILD_SECRETS, value=text)
