"""How the replicas of a new release take the place of those before them, one process type at a time.

``rolling``, unless told otherwise: a batch of new ones beside the old; as each is ready it takes the place of an old
one, which drains; when those are gone the next batch starts. The last old batch stays until the whole deploy switches,
so that an app with one replica of a type is switched as by ``all-at-once``: all new ones beside all old ones, and no
request to a new one before all are ready. ``stop-first``: the old ones end before the new ones start.

Whose turn it is, is derived from the rows of the replicas each time; nothing remembers how far a rollout is. So it goes
on after a crash, and goes back in the same way: the release that is to serve is then the live one again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from agent.lifecycle import checks
from agent.state.database import Tables
from agent.state.plans import Plan, ProcessPlan, Strategy
from agent.state.properties import Layers
from agent.state.releases import Release
from agent.state.replicas import WANTED, Replica
from proto.names import AppId, ProcessType

PROPERTY: Final = "ps.strategy"
"""With a dot and a process type behind it, it is about that one alone."""
DEFAULT: Final[Strategy] = "rolling"
Reason = Literal["its turn", "the old ones"]

BATCH: Final = 4
"""A batch is the count divided by this, but at least one: so much more memory than usual does a deploy need."""


class Strategies(msgspec.Struct, frozen=True):
    """What the properties of an app, and of the server, tell of its process types; checks that are off count too."""

    layers: Layers

    def of(self, process: ProcessType) -> Strategy:
        """Return the strategy of one process type; what names it counts more, and what the app says more than that."""
        if checks.modes_in(self.layers.own).of(process) == "disabled":
            return "stop-first"
        for properties in (self.layers.own, self.layers.server):
            for name in (f"{PROPERTY}.{process}", PROPERTY):
                if name in properties:
                    return _strategy(properties[name])
        return DEFAULT


class Turn(msgspec.Struct, frozen=True):
    """A replica of one process type that should run, or is to when its turn has come."""

    release: int
    number: int
    waits_for: Reason | None = None
    """Why it is not to be started yet."""
    is_replaced: bool = False
    """Whether it is one that another of the same release and number takes the place of: its type is restarted."""


async def told(tables: Tables, app: AppId) -> Strategies:
    """Return what holds for an app now."""
    return Strategies(await tables.properties.layers(app))


async def fixed(tables: Tables, *, app: AppId, plan: Plan) -> Plan:
    """Return the plan with the strategies that hold now: a deploy ends as it began, whatever is set meanwhile."""
    strategies = await told(tables, app)
    processes = tuple(
        msgspec.structs.replace(process, strategy=strategies.of(process.type)) for process in plan.processes
    )
    return msgspec.structs.replace(plan, processes=processes)


def turns(
    process: ProcessType,
    holders: Sequence[Release],
    rows: Sequence[Replica],
    *,
    strategy: Strategy,
    live: int | None,
    count: int,
) -> list[Turn]:
    """Return which replicas of one process type should run, and which wait.

    `holders`: the generations that have the type, the live one first; `rows`: all replicas of the type, in any state;
    `strategy`: as it is told now; `live`: the live release, unless it is stopped; `count`: how many are wanted.
    """
    new = holders[-1].version
    plan = holders[-1].plan.process(process)
    is_deploy = new != live
    others = [row for row in rows if row.release != new]
    before = [row for row in rows if row.release != new or row.is_replaced]
    if strategy == "stop-first" or (is_deploy and plan and plan.strategy == "stop-first"):
        return _all(rows, release=new, count=count, waits_for="the old ones" if before else None)
    if plan is None or live is None:
        return _all(rows, release=new, count=count)
    if len(holders) > 1 and plan.strategy == "all-at-once":
        beside = turns(process, holders[:1], others, strategy=strategy, live=live, count=count)
        return [*beside, *_all(rows, release=new, count=count)]
    return _rolling(rows, new=new, live=live, count=count, batch=batch(plan, count))


def stand_ins(rows: Sequence[Replica], *, release: int, live: int, count: int) -> Sequence[Replica]:
    """Return which replicas of a release that is given up go on until the live one has its full count again.

    `rows`: all of one process type.
    """
    serving = [row for row in rows if row.state == "ready"]
    lacking = max(0, count - sum(row.release == live for row in serving))
    return [row for row in serving if row.release == release][:lacking]


def batch(plan: ProcessPlan, count: int) -> int:
    """Return how many replicas above `count` may run while this plan's take the place of others."""
    if plan.strategy != "rolling" or plan.max_parallel < 0:
        return count
    return min(count, plan.max_parallel or max(1, count // BATCH))


def _strategy(stored: str) -> Strategy:
    match stored:
        case "rolling" | "all-at-once" | "stop-first":
            return stored
    raise ValueError(f"{stored!r} is no strategy")


def _rolling(rows: Sequence[Replica], *, new: int, live: int, count: int, batch: int) -> list[Turn]:
    """Return whose turn it is while `new` takes the place of others; or, if it is `live`, takes it back.

    Of the others those stay that are needed for `count` ready ones, and the last batch until the switch. The next
    batch starts when the one before is ready and there is room: `count` and a batch are never exceeded.
    """
    is_deploy = new != live
    mine, others = _divided(rows, release=new, count=count)
    may_stay = [row for row in others if row.state == "ready" or (is_deploy and row.release == live)]
    if all(row.release == new and not row.is_replaced for row in may_stay):
        return _all(rows, release=new, count=count)
    ready = sum(row.state == "ready" for row in mine)
    # Those that serve, those of the live release, the highest numbers: new ones begin with the lowest.
    may_stay.sort(key=lambda row: (row.state != "ready", row.release != live, -row.number))
    stay = max(count - ready, min(batch, count) if is_deploy else 0)
    room = 0 if is_deploy and ready < len(mine) else max(0, count + batch - len(rows))
    there = {row.number for row in mine}
    missing = [number for number in range(1, count + 1) if number not in there]
    waiting = set(missing[room:])
    return [
        *(Turn(row.release, row.number, is_replaced=row.is_replaced) for row in may_stay[:stay]),
        *(Turn(new, number, "its turn" if number in waiting else None) for number in range(1, count + 1)),
    ]


def _all(rows: Sequence[Replica], *, release: int, count: int, waits_for: Reason | None = None) -> list[Turn]:
    """Return all replicas of a release, and those above its count that serve for one that does not: it is lost, say.

    What is waited for does not stay.
    """
    mine, others = _divided(rows, release=release, count=count)
    above = [row for row in others if row.release == release and row.state == "ready"]
    above = [row for row in above if not (row.is_replaced and waits_for)]
    lacking = count - sum(row.state == "ready" for row in mine)
    return [
        *(Turn(release, number, waits_for) for number in range(1, count + 1)),
        *(Turn(release, row.number, is_replaced=row.is_replaced) for row in above[: max(0, lacking)]),
    ]


def _divided(rows: Sequence[Replica], *, release: int, count: int) -> tuple[list[Replica], list[Replica]]:
    """Return the replicas that a release is to have, as far as they are there, and all others that were wanted."""
    wanted = [row for row in rows if row.state in WANTED]
    mine = [row for row in wanted if row.release == release and row.number <= count and not row.is_replaced]
    return mine, [row for row in wanted if row not in mine]
