"""``resource:*``: how much memory and CPU the processes and the builds of an app may use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, TypeVar

import msgspec

from agent.commands.arguments import App, Option, quoted, read_process_type
from agent.commands.command import Command, Context
from agent.commands.replies import HEADING, INDENT, Done, Raw, Reply
from agent.commands.reports import AppOrEvery, Row, Rows, report
from agent.errors import UserError
from agent.lifecycle.resources import (
    BUILD,
    EVERY,
    Limits,
    clear_limits,
    clear_reserved,
    cpus_of,
    limits_of,
    memory_of,
    set_limits,
    told_memory,
)
from agent.state.apps import App as AppRow

T = TypeVar("T")

CLEAR = "clear"
"""In place of a value: unset it."""

OfType = Annotated[
    str | None,
    Option(names=("--process-type",), help="The process type, or build; all types if left out.", metavar="type"),
]


class ResourceLimit(Command, frozen=True, kw_only=True):
    """Limit what an app's processes, or its builds, may use; without a limit, print what is set.

    Processes get it when they are started next: ps:restart. Those that use more memory are ended; CPU is only slowed.
    Process type build is the app's builds: all steps of one together. The value clear unsets a limit.
    """

    name = "resource:limit"
    permission = "change"
    examples = (
        "resource:limit --memory 512m --cpu 1 blog",
        "resource:limit --process-type build --memory 2g blog",
        "resource:limit --process-type worker --memory clear blog",
    )

    app: App
    process: OfType = None
    memory: Annotated[
        str, Option(names=("--memory",), help="Bytes, with k, m or g; m if no unit is said.", metavar="size")
    ] = ""
    cpu: Annotated[str, Option(names=("--cpu",), help="Cores: 1, 0.5.", metavar="cores")] = ""

    async def run(self, ctx: Context) -> Reply:
        """Store the limits. What is started from then on has them."""
        process = _process(self.process)
        before = (await limits_of(ctx.database.read, ctx.app.id)).get(process, Limits())
        if not self.memory and not self.cpu:
            return _shown(ctx.app, process, _told(before), what="limits")
        after = msgspec.structs.replace(
            before,
            memory=_value(self.memory, memory_of, before.memory, 0, what="--memory"),
            cpu=_value(self.cpu, cpus_of, before.cpu, 0.0, what="--cpu"),
        )
        async with ctx.database.transaction() as tx:
            await set_limits(tx, app=ctx.app.id, process=process, limits=after)
        said = (f"{HEADING}Setting resource limits for {ctx.app.name}{_of(process)}", *_lines(_told(after)))
        return Done(said=said, facts={"process": process, "limits": _told(after)})


class ResourceLimitClear(Command, frozen=True, kw_only=True):
    """Forget the limits of one process type, or all limits of an app."""

    name = "resource:limit-clear"
    permission = "change"
    examples = ("resource:limit-clear blog", "resource:limit-clear --process-type build blog")

    app: App
    process: OfType = None

    async def run(self, ctx: Context) -> Reply:
        """Forget them. What runs keeps its own until it is started anew."""
        process = None if self.process is None else _process(self.process)
        async with ctx.database.transaction() as tx:
            await clear_limits(tx, app=ctx.app.id, process=process)
        said = f"{HEADING}Clearing resource limits for {ctx.app.name}{_of(process or EVERY)}"
        return Done(said=(said,), facts={"process": process})


class ResourceReserve(Command, frozen=True, kw_only=True):
    """Keep memory for an app's processes where it is scarce; without an amount, print what is kept.

    The kernel takes memory from processes above what is reserved for them first. It is no promise, and no limit; more
    than the limit counts as the limit. Processes get it when they are started next: ps:restart. clear unsets it.
    """

    name = "resource:reserve"
    permission = "change"
    examples = ("resource:reserve --memory 256m blog", "resource:reserve --process-type web --memory clear blog")

    app: App
    process: OfType = None
    memory: Annotated[
        str, Option(names=("--memory",), help="Bytes, with k, m or g; m if no unit is said.", metavar="size")
    ] = ""

    async def run(self, ctx: Context) -> Reply:
        """Store it. What is started from then on has it."""
        process = _process(self.process)
        if process == BUILD:
            message = "Nothing can be reserved for builds: they give way to apps."
            raise UserError("resource.build-reserve", message, "To limit them: resource:limit --process-type build")
        before = (await limits_of(ctx.database.read, ctx.app.id)).get(process, Limits())
        if not self.memory:
            return _shown(ctx.app, process, _reserved(before), what="reservation")
        reserved = _value(self.memory, memory_of, before.reserved, 0, what="--memory")
        after = msgspec.structs.replace(before, reserved=reserved)
        async with ctx.database.transaction() as tx:
            await set_limits(tx, app=ctx.app.id, process=process, limits=after)
        told = _reserved(after)
        said = (f"{HEADING}Setting resource reservation for {ctx.app.name}{_of(process)}", *_lines(told))
        return Done(said=said, facts={"process": process, "reserved": told})


class ResourceReserveClear(Command, frozen=True, kw_only=True):
    """Forget what is reserved for one process type, or for all of an app."""

    name = "resource:reserve-clear"
    permission = "change"
    examples = ("resource:reserve-clear blog",)

    app: App
    process: OfType = None

    async def run(self, ctx: Context) -> Reply:
        """Forget it. What runs keeps it until it is started anew."""
        process = None if self.process is None else _process(self.process)
        async with ctx.database.transaction() as tx:
            await clear_reserved(tx, app=ctx.app.id, process=process)
        said = f"{HEADING}Clearing resource reservation for {ctx.app.name}{_of(process or EVERY)}"
        return Done(said=(said,), facts={"process": process})


class ResourceReport(Command, frozen=True, kw_only=True):
    """Report the limits of an app's processes and builds, and what is reserved for processes."""

    name = "resource:report"
    permission = "read"
    examples = ("resource:report blog", "resource:report blog --resource-web.limit.memory")

    app: AppOrEvery = None
    row: Row = ""

    async def run(self, ctx: Context) -> Reply:
        """Answer from the database alone."""

        async def rows(app: AppRow | None) -> Rows:
            found = await limits_of(ctx.database.read, app.id) if app else {}
            limits = {
                f"resource-{process}.limit.{key}": value
                for process, limits in {EVERY: Limits(), **found}.items()
                for key, value in {"cpu": "", "memory": "", **_told(limits)}.items()
            }
            reserved = {
                f"resource-{process}.reserve.{key}": value
                for process, one in found.items()
                for key, value in _reserved(one).items()
            }
            return {**limits, **reserved}

        return await report(ctx, self, noun="resource", asked=self.row, rows=rows)


def _process(text: str | None) -> str:
    return EVERY if text in (None, EVERY) else read_process_type(text or "")


def _value(text: str, read: Callable[[str], T], before: T, unset: T, *, what: str) -> T:
    if not text:
        return before
    if text == CLEAR:
        return unset
    try:
        return read(text)
    except ValueError as error:
        raise UserError("resource.invalid", f"{quoted(text)} is no value for {what}.", f"Give {error}.") from error


def _shown(app: AppRow, process: str, told: Mapping[str, str], *, what: str) -> Reply:
    of = "defaults" if process == EVERY else process
    lines = [f"{HEADING}resource {what} {app.name} information [{of}]", *_lines(told)]
    return Raw(text="".join(f"{line}\n" for line in lines), data=told)


def _lines(told: Mapping[str, str]) -> list[str]:
    return [f"{INDENT}{key}: {value}" for key, value in told.items()]


def _told(limits: Limits) -> dict[str, str]:
    told = {"cpu": f"{limits.cpu:g}", "memory": told_memory(limits.memory)}
    return {key: told[key] for key in told if key in msgspec.to_builtins(limits)}


def _reserved(limits: Limits) -> dict[str, str]:
    return {"memory": told_memory(limits.reserved)} if limits.reserved else {}


def _of(process: str) -> str:
    return "" if process == EVERY else f" ({'builds' if process == BUILD else process})"
