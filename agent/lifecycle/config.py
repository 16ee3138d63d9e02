"""The moves of the draft: config that users set, until a release takes a copy of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from agent.errors import UserError
from agent.state.database import Transaction
from proto.events import DraftChanged
from proto.names import AppId, is_config_key

MAX_CONFIG_BYTES = 4 << 20
"""Keys and values of one app together. Linux gives all arguments and environment of a process 2 to 6 MB."""

MAX_VALUE_BYTES = 128 << 10
"""One ``KEY=value``. Linux refuses to start a process with a longer string (MAX_ARG_STRLEN, execve(2))."""

_MEANT_AS_KEY = re.compile(r"[A-Za-z0-9_.-]{1,40}")
"""What is shown when it is no valid key: a name with a mistake in it, not the middle of a value."""

MAX_PORT = 65_535


async def set_values(tx: Transaction, *, app: AppId, values: Mapping[str, str], replace: bool = False) -> list[str]:
    """Set config in the draft; with `replace`, also unset what `values` does not name. Return the keys that changed.

    Raises:
        UserError: ``config.invalid-key``, ``config.invalid-value``, ``config.too-large`` or
            ``config.rollback-under-way``.
    """
    for number, (key, value) in enumerate(values.items(), 1):
        _refuse_invalid(key, value, number=number)
    old = await tx.configs.get(app)
    new = dict(values) if replace else {**old, **values}
    if sum(len(key) + len(value.encode()) for key, value in new.items()) > MAX_CONFIG_BYTES:
        raise UserError(
            "config.too-large",
            f"The config would have more than {MAX_CONFIG_BYTES >> 20} MiB in all.",
            "Put large values into a file or a service.",
        )
    return await _store(tx, app=app, old=old, new=new)


async def unset(tx: Transaction, *, app: AppId, keys: Sequence[str]) -> list[str]:
    """Unset config in the draft. Return the keys that were there.

    Raises:
        UserError: ``config.invalid-key``, ``config.rollback-under-way``.
    """
    for number, key in enumerate(keys, 1):
        _refuse_no_key(key, number=number)
    old = await tx.configs.get(app)
    return await _store(tx, app=app, old=old, new={key: value for key, value in old.items() if key not in keys})


async def _store(tx: Transaction, *, app: AppId, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    if changed:
        await _refuse_during_rollback(tx, app)
        await tx.configs.put(app, new)
        await tx.emit(DraftChanged(app=app, keys=tuple(changed)))
    return changed


async def _refuse_during_rollback(tx: Transaction, app: AppId) -> None:
    """Keep a value from being acknowledged that the end of a rollback would undo: it replaces the draft."""
    row = await tx.apps.get(app)
    for deploy in await tx.deploys.under_way(app):
        if row and deploy.kind == "rollback" and not deploy.is_code_only:
            raise UserError(
                "config.rollback-under-way",
                f"A rollback to v{deploy.from_release} is under way, and will set the config to what it was then.",
                f"Try again when it is over, or end it first: deploys:cancel {row.name} {deploy.id}",
            )


def _refuse_no_key(key: str, *, number: int) -> None:
    """Refuse what cannot be set. With its value behind it, it would stand in the deploy's reason, for everybody."""
    if is_config_key(key):
        return
    name = key.partition("=")[0]
    shown = repr(name) if _MEANT_AS_KEY.fullmatch(name) else f"Word {number} after the app"
    is_pair = "=" in key
    raise UserError(
        "config.invalid-key",
        f"{shown} is given with a value, and only its key is wanted." if is_pair else f"{shown} is not a config key.",
        "Give keys alone, such as: DEBUG" if is_pair else "Keys are letters, digits and _; the first is no digit.",
    )


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= MAX_PORT


def _refuse_invalid(key: str, value: str, *, number: int) -> None:
    if not is_config_key(key):
        # A line of a private key in a file without quotes looks like a key, too, if it ends with an `=`.
        shown = repr(key) if _MEANT_AS_KEY.fullmatch(key) else f"What stands before the = of value {number}"
        raise UserError(
            "config.invalid-key",
            f"{shown} is not a config key.",
            "Keys are letters, digits and _, and do not begin with a digit.",
        )
    if key == "PORT" and value and not _is_port(value):
        raise UserError(
            "config.invalid-value", "The value of PORT is not a port.", f"Give a number from 1 to {MAX_PORT}."
        )
    if "\0" in value:
        raise UserError(
            "config.invalid-value", f"The value of {key} has a NUL character.", "Encode binary values, say in base64."
        )
    if len(key) + 1 + len(value.encode()) >= MAX_VALUE_BYTES:
        raise UserError(
            "config.too-large",
            f"The value of {key} is longer than {MAX_VALUE_BYTES >> 10} KiB, which Linux gives to no process.",
            "Put large values into a file or a service.",
        )
