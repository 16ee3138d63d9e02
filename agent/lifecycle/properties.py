"""The moves of properties: what users set with ``<noun>:set``, for one app or for the server."""

from __future__ import annotations

from agent.state.database import Transaction
from proto.events import PropertyChanged
from proto.names import AppId


async def set_property(tx: Transaction, *, app: AppId, name: str, value: str | None) -> None:
    """Set the property ``noun.property`` of an app (or of ``SERVER``); `None` unsets it. The value is valid already."""
    if value is None:
        await tx.properties.unset(app, name)
    else:
        await tx.properties.set(app, name, value)
    await tx.emit(PropertyChanged(app=app, name=name, value=value))
