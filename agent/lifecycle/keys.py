"""The moves of public keys."""

from __future__ import annotations

import re

from agent.errors import UserError
from agent.ports.session import LOCAL_NAME
from agent.sanitise import quoted
from agent.state.database import Transaction
from agent.state.keys import Key
from proto.events import KeyAdded, KeyRemoved
from proto.names import Fingerprint

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,62}")


async def add(tx: Transaction, *, name: str, public: str, fingerprint: Fingerprint) -> None:
    """Let a key sign in. `public`: type and base64, without a comment.

    Raises:
        UserError: ``key.invalid-name``, ``key.exists``, ``key.name-taken``.
    """
    check_name(name)
    if same := await tx.keys.get(fingerprint):
        raise UserError(
            "key.exists", f"That key is here already, as {same.name}.", f"Remove it first: ssh-keys:remove {same.name}"
        )
    if await tx.keys.by_name(name):
        raise UserError(
            "key.name-taken", f"There is already a key called {name}.", "Pick another name, or see: ssh-keys:list"
        )
    await tx.keys.add(Key(fingerprint=fingerprint, name=name, public=public, added_at=tx.now))
    await tx.emit(KeyAdded(name=name, fingerprint=fingerprint))


def check_name(name: str) -> None:
    """Return if a key may have this name.

    Raises:
        UserError: ``key.invalid-name``; also for what only root on this machine is called in the records.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            "key.invalid-name",
            f"{quoted(name)} cannot be the name of a key.",
            "Names have letters, digits and . _ @ + - ; 63 characters at most.",
        )
    if name.lower() == LOCAL_NAME:
        raise UserError(
            "key.invalid-name",
            f"A key cannot be called {name}: in the records that is root on the server itself.",
            "Name it after whose it is, such as ada or ada@laptop.",
        )


async def remove(tx: Transaction, *, key: Key) -> None:
    """Let the key sign in no more. Its sessions end once this is committed."""
    if await tx.keys.remove(key.fingerprint):
        await tx.emit(KeyRemoved(name=key.name, fingerprint=key.fingerprint))
