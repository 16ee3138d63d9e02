"""Which checks a replica has to pass, and for which process types they are off.

As Dokku has it, users say so per process type. ``skipped``: nothing is waited for but the start. ``disabled``: that,
and replicas of the old release end before those of the new one start, for what must never run twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal

import msgspec

from agent.errors import UserError
from agent.lifecycle.properties import set_property
from agent.ports.scheduler import CheckSpec
from agent.state.database import Tables, Transaction
from agent.state.releases import Release
from agent.state.replicas import Replica
from proto.names import AppId, ProcessType

Mode = Literal["enabled", "skipped", "disabled"]

ALL: Final = "_all_"
"""In place of process types."""

UPTIME_SECONDS: Final = 1.0
"""How long a process without a port must stay up to count as ready. Doubled for each loss."""
LONGEST_UPTIME_SECONDS: Final = 30.0


class Modes(msgspec.Struct, frozen=True):
    """How an app's process types are checked. Each set holds types, or `ALL` alone."""

    skipped: frozenset[str] = frozenset()
    disabled: frozenset[str] = frozenset()

    def of(self, process: ProcessType) -> Mode:
        """Return the mode of one process type; what names it counts more than `ALL`."""
        if process in self.disabled:
            return "disabled"
        if process in self.skipped:
            return "skipped"
        if ALL in self.disabled:
            return "disabled"
        return "skipped" if ALL in self.skipped else "enabled"


async def modes_of(tables: Tables, app: AppId) -> Modes:
    """Return how the process types of an app are checked."""
    return modes_in(await tables.properties.of_app(app))


def modes_in(properties: Mapping[str, str]) -> Modes:
    """Return what an app's properties say of how its process types are checked."""
    return Modes(
        skipped=_listed(properties.get("checks.skipped")),
        disabled=_listed(properties.get("checks.disabled")),
    )


async def set_mode(tx: Transaction, *, app: AppId, mode: Mode, types: Collection[ProcessType]) -> Modes:
    """Check these process types (none: all) in this mode from the next deploy on; return all that holds now.

    Raises:
        UserError: ``checks.all-together``, some are to be enabled where all of them are not.
    """
    old = await modes_of(tx, app)
    if mode == "enabled" and types and ALL in old.skipped | old.disabled:
        raise UserError(
            "checks.all-together",
            "The checks of all process types together are off, so that they can only come back together.",
            "Leave the process types out, and then name those whose checks are to be off.",
        )
    named: frozenset[str] = frozenset(types) or frozenset({ALL})
    new = Modes(
        skipped=_changed(old.skipped, named, mode == "skipped"),
        disabled=_changed(old.disabled, named, mode == "disabled"),
    )
    for name, value in (("checks.skipped", new.skipped), ("checks.disabled", new.disabled)):
        if value != _listed(await tx.properties.get(app, name)):
            await set_property(tx, app=app, name=name, value=",".join(sorted(value)) or None)
    return new


def due(release: Release, row: Replica, *, start_seconds: float) -> Sequence[CheckSpec]:
    """Return what a replica has to pass: its image's HEALTHCHECK and app.json's checks, or the default.

    The default is a connection to its port for ``web``, and staying up for a moment for the others. `start_seconds`:
    how long a web process may take until it listens, if app.json says nothing else.
    """
    plan = release.plan.process(row.process)
    checks = list(plan.checks) if plan else []
    if release.plan.has_healthcheck:
        seconds = max(start_seconds, release.plan.health_seconds)
        checks.append(CheckSpec(name="image", kind="image", uptime=seconds))
    if checks:
        return checks
    if row.port:
        return (CheckSpec(name="port", kind="connect", uptime=start_seconds),)
    seconds = min(UPTIME_SECONDS * 2**row.losses, LONGEST_UPTIME_SECONDS)
    return (CheckSpec(name="uptime", kind="uptime", uptime=seconds),)


def _changed(old: frozenset[str], named: frozenset[str], is_added: bool) -> frozenset[str]:
    if named == {ALL}:
        return named if is_added else frozenset()
    return (old | named if ALL not in old else old) if is_added else old - named


def _listed(stored: str | None) -> frozenset[str]:
    return frozenset(filter(None, (stored or "").split(",")))
