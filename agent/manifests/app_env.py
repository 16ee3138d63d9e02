"""``env`` of an app.json: config that the app wants to have, with a default, a secret to be made up, or none."""

from __future__ import annotations

from typing import Final

import msgspec

from agent.manifests.reader import Reader, plain
from proto.names import is_config_key

MAX_VALUE: Final = 100_000
"""Characters. Linux gives no longer ones to a process."""
_KEYS: Final = ("description", "generator", "required", "sync", "value")


class EnvVariable(msgspec.Struct, frozen=True, kw_only=True):
    """One key of ``env``. Stored: add fields with defaults only."""

    key: str
    value: str | None = None
    description: str = ""
    is_generated: bool = False
    """A secret is to be made up for it."""
    is_required: bool = True
    is_synced: bool = False
    """Each deploy sets it anew, whatever was set by hand."""


def read_env(env: Reader) -> tuple[EnvVariable, ...]:
    """Return what the object says, in its order.

    Raises:
        UserError: ``manifest.invalid``.
    """
    return tuple(_variable(env, key) for key in env.values)


def _variable(env: Reader, key: str) -> EnvVariable:
    if not is_config_key(key):
        raise env.wrong(plain(key), "is no name of a variable")
    if not isinstance(env.values[key], dict):
        return EnvVariable(key=key, value=_value(env, key))
    one = env.inner(key)
    one.only(_KEYS)
    generator = one.text("generator", default="")
    if generator not in ("", "secret"):
        raise one.wrong("generator", 'must be "secret"')
    return EnvVariable(
        key=key,
        value=_value(one, "value") if "value" in one.values else None,
        description=one.text("description", default="")[:1_000],
        is_generated=bool(generator),
        is_required=one.flag("required") if "required" in one.values else True,
        is_synced=one.flag("sync"),
    )


def _value(one: Reader, key: str) -> str:
    value = one.text(key, default="")
    if "\0" in value or len(value) > MAX_VALUE:
        raise one.wrong(key, f"must be at most {MAX_VALUE} characters without NUL")
    return value
