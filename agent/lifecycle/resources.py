"""Limits of an app's processes and builds: what users set, and what holds for one process type.

They are one hidden property of the app, an object in JSON: ``{"web": {"memory": 536870912, "cpu": 1.5}}``. What is set
for every type stands under `EVERY`, what is set for builds under `BUILD`. Setting them restarts nothing: containers
that are made from then on have them, and so has the next build.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from agent.lifecycle.properties import RESOURCE_LIMITS as PROPERTY
from agent.lifecycle.properties import set_property
from agent.ports.scheduler import Resources
from agent.state.database import Tables, Transaction
from proto.names import AppId

EVERY = "_default_"
"""In place of a process type: all that have none of their own. Dokku's word."""
BUILD = "build"
"""In place of a process type: builds. What is set for every type does not hold for them."""

LEAST_MEMORY = 6 << 20
"""Bytes: Docker starts nothing with less."""
MOST_MEMORY = 1 << 46
"""Bytes: no machine has so much, and a typing error does."""
LEAST_CPUS = 0.01
MOST_CPUS = 1024.0

_SIZE = re.compile(r"([0-9]{1,15})([bkmg]?)")
_UNITS = {"": 1 << 20, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_CPUS = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,3})?")


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one process type, or a build, may use."""

    memory: int = 0
    """Bytes; 0: not set."""
    cpu: float = 0.0
    """Cores; 0: not set."""
    reserved: int = 0
    """Bytes of memory that are kept for it where memory is scarce; 0: not set."""


def memory_of(text: str) -> int:
    """Return the bytes of ``512m``, ``1g``, or ``512``, which are MiB as in Dokku.

    Raises:
        ValueError: it is none, or out of range; the text says what would be right.
    """
    found = _SIZE.fullmatch(text.lower())
    size = int(found[1]) * _UNITS[found[2]] if found else 0
    if not LEAST_MEMORY <= size <= MOST_MEMORY:
        raise ValueError("an amount of at least 6m, such as 512m or 2g")
    return size


def cpus_of(text: str) -> float:
    """Return the cores of ``1`` or ``0.5``.

    Raises:
        ValueError: it is none, or out of range; the text says what would be right.
    """
    cores = float(text) if _CPUS.fullmatch(text) else 0.0
    if not LEAST_CPUS <= cores <= MOST_CPUS:
        raise ValueError("a number of cores, such as 1 or 0.5")
    return cores


def told_memory(size: int) -> str:
    """Return bytes as users would write them: in the largest unit that divides them."""
    for unit in "gmk":
        if size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return f"{size}b"


async def limits_of(tables: Tables, app: AppId) -> Mapping[str, Limits]:
    """Return what is set for an app, by process type, `EVERY` and `BUILD` among them."""
    stored = await tables.properties.get(app, PROPERTY)
    return msgspec.json.decode(stored, type=dict[str, Limits]) if stored else {}


async def set_limits(tx: Transaction, *, app: AppId, process: str, limits: Limits) -> None:
    """Set the limits of one process type; empty ones are forgotten."""
    found = {**await limits_of(tx, app), process: limits}
    kept = {name: one for name, one in sorted(found.items()) if one != Limits()}
    await _store(tx, app, kept)


async def clear_limits(tx: Transaction, *, app: AppId, process: str | None) -> None:
    """Forget the limits of one process type, of all for `None`; what is reserved stays."""
    for name, one in (await limits_of(tx, app)).items():
        if process in (None, name):
            await set_limits(tx, app=app, process=name, limits=Limits(reserved=one.reserved))


async def clear_reserved(tx: Transaction, *, app: AppId, process: str | None) -> None:
    """Forget what is reserved for one process type, or for all; limits stay."""
    for name, one in (await limits_of(tx, app)).items():
        if process in (None, name):
            await set_limits(tx, app=app, process=name, limits=msgspec.structs.replace(one, reserved=0))


async def resources(tables: Tables, *, app: AppId, process: str, defaults: Resources) -> Resources:
    """Return what a container of `process` may use: its own limits, else those of every type, else `defaults`."""
    found = await limits_of(tables, app)
    own, every = found.get(process, Limits()), found.get(EVERY, Limits())
    return msgspec.structs.replace(
        defaults,
        memory_bytes=own.memory or every.memory or defaults.memory_bytes,
        cpus=own.cpu or every.cpu or defaults.cpus,
        reserved_bytes=own.reserved or every.reserved or defaults.reserved_bytes,
    )


async def _store(tx: Transaction, app: AppId, found: Mapping[str, Limits]) -> None:
    await set_property(tx, app=app, name=PROPERTY, value=msgspec.json.encode(found).decode() if found else None)
