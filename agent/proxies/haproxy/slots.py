"""Which backend of HAProxy's file serves which app.

HAProxy cannot make backends at run time. So its file holds *slots*: backends that differ in nothing but their name and
balance, most of them empty. A new app takes an empty slot, and its replicas and its domains come in through the runtime
API, without a reload. When the slots run out their number about doubles, by one reload.

An app keeps its slot for as long as it has a deployed route. A slot that was given up can be taken only by a later
table than the one that freed it: between the writing of the configuration file and of the map, a crash may pair the new
file with the old map, and then a freed slot must be empty, not somebody else's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from agent.ports.proxy import Balance, Route, Upstream
from proto.names import SERVER, AppId

FREE: Final = SERVER
"""Stands for "no app" in a slot."""


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """A backend of the file, taken or free."""

    name: str
    app: AppId = FREE
    balance: Balance = "roundrobin"
    upstreams: tuple[Upstream, ...] = ()


def assign(former: Sequence[Slot], routes: Mapping[AppId, Route], *, spares: int) -> tuple[Slot, ...]:
    """Return the slots for `routes`: kept where they were, new apps in free ones, `spares` more when they run out.

    A free slot that has the app's balance already is preferred, since balance is what only a reload can change.
    """
    deployed = {app: route for app, route in routes.items() if route.is_deployed}
    slots = list(former)
    housed = {slot.app for slot in slots}
    homeless = [app for app in sorted(deployed) if app not in housed]
    missing = len(homeless) - sum(slot.app == FREE for slot in slots)
    if missing > 0 or not slots:
        slots += _more(len(slots), max(len(slots), missing + spares))
    free = [index for index, slot in enumerate(slots) if slot.app == FREE]
    owners = {index: slot.app for index, slot in enumerate(slots)}
    for app in homeless:
        owners[_take(free, slots, deployed[app].balance)] = app
    return tuple(_fill(slot, deployed.get(owners[index])) for index, slot in enumerate(slots))


def _more(count: int, more: int) -> list[Slot]:
    return [Slot(name=f"slot{number:04d}") for number in range(count + 1, count + more + 1)]


def _take(free: list[int], slots: Sequence[Slot], balance: Balance) -> int:
    place = next((place for place, index in enumerate(free) if slots[index].balance == balance), 0)
    return free.pop(place)


def _fill(slot: Slot, route: Route | None) -> Slot:
    if route is None:
        return Slot(name=slot.name, balance=slot.balance)
    return Slot(name=slot.name, app=route.app, balance=route.balance, upstreams=route.upstreams)
