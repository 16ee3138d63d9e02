"""The moves of public keys."""

from __future__ import annotations

from agent.errors import UserError
from agent.state.database import Transaction
from agent.state.keys import Key
from proto.events import KeyAdded, KeyRemoved
from proto.names import Fingerprint


async def add(tx: Transaction, *, name: str, public: str, fingerprint: Fingerprint) -> None:
    """Let a key sign in. `public`: type and base64, without a comment.

    Raises:
        UserError: ``key.exists``, ``key.name-taken``.
    """
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


async def remove(tx: Transaction, *, key: Key) -> None:
    """Let the key sign in no more. Its sessions end once this is committed."""
    if await tx.keys.remove(key.fingerprint):
        await tx.emit(KeyRemoved(name=key.name, fingerprint=key.fingerprint))
