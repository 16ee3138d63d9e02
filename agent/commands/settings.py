"""``<noun>:set``, ``<noun>:report``: what can be set for an app or for the server.

The commands of a noun that has nothing but properties are made here, one pair for each noun of
``agent.lifecycle.properties``; nouns with more to report have a module of their own and use `property_rows`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from agent.commands.arguments import GLOBAL, AppOrGlobal, Argument, quoted
from agent.commands.command import Command, Context
from agent.commands.replies import HEADING, Done, Reply
from agent.commands.reports import AppOrEvery, Row, Rows, report
from agent.errors import UserError
from agent.lifecycle.properties import PROPERTIES, Property, checked, known, set_property
from agent.state.apps import App as AppRow
from agent.state.properties import Layers
from proto.names import SERVER

ABOUT = {
    "app-json": "Where an app's app.json is.",
    "builder-dockerfile": "How Dockerfiles are built.",
    "builder-pack": "How buildpacks build.",
    "proxy": "How requests reach apps.",
}
"""What each noun is for."""


class SetCommand(Command, frozen=True, kw_only=True):
    """Sets one property of a noun. Subclasses say which noun."""

    permission = "change"
    noun: ClassVar[str]

    app: AppOrGlobal
    key: Annotated[str, Argument(help="What to set.", metavar="property")]
    value: Annotated[str | None, Argument(help="Its value; left out, it is unset.")] = None

    @classmethod
    def further(cls) -> Sequence[tuple[str, str]]:
        """Return what can be set."""
        return [(property.key, property.help) for property in of_noun(cls.noun)]

    async def run(self, ctx: Context) -> Reply:
        """Store the value. What reads it acts by itself."""
        found = property_of(self.noun, self.key)
        if found.is_of_apps and self.app == GLOBAL:
            raise UserError(
                "property.not-global",
                f"{found.key} cannot be set for the whole server.",
                f"Name an app: {self.noun}:set <app> {found.key} …",
            )
        value = self.value if self.value or (self.value is not None and found.may_be_empty) else None
        stored = None if value is None else checked(found.name, value)
        async with ctx.database.transaction() as tx:
            await set_property(tx, app=ctx.target, name=found.name, value=stored)
        await self.stored(ctx, found, stored)
        said = f"Unsetting {found.key}" if stored is None else f"Setting {found.key} to {stored}"
        return Done(said=(f"{HEADING}{said}",), facts={"property": found.key, "value": stored})

    async def stored(self, ctx: Context, property: Property, value: str | None) -> None:
        """Do what must follow at once. Nothing, for most."""


class ReportCommand(Command, frozen=True, kw_only=True):
    """Reports the properties of a noun. Subclasses say which noun."""

    permission = "read"
    noun: ClassVar[str]

    app: AppOrEvery = None
    row: Row = ""

    async def run(self, ctx: Context) -> Reply:
        """Answer from the database alone."""

        async def rows(app: AppRow | None) -> Rows:
            return {**await property_rows(ctx, app, noun=self.noun), **self.further_rows(ctx, app)}

        return await report(ctx, self, noun=self.noun, asked=self.row, rows=rows)

    @staticmethod
    def further_rows(ctx: Context, app: AppRow | None) -> Rows:
        """Return what there is to tell besides properties. Nothing, for most."""
        return {}


def property_of(noun: str, key: str) -> Property:
    """Return the property of a noun that users call `key`.

    Raises:
        UserError: ``property.unknown``.
    """
    found = known(f"{noun}.{key}")
    if found is None or found.is_hidden:
        keys = ", ".join(property.key for property in of_noun(noun))
        raise UserError("property.unknown", f"{quoted(key)} cannot be set with {noun}:set.", f"What can be set: {keys}")
    return found


def of_noun(noun: str) -> list[Property]:
    """Return what can be set with ``<noun>:set``."""
    return [property for property in PROPERTIES.values() if property.noun == noun and not property.is_hidden]


async def property_rows(ctx: Context, app: AppRow | None, *, noun: str) -> dict[str, str]:
    """Return the rows of a noun's properties: as set for the app, as set for the server, and what holds."""
    layers = await ctx.database.read.properties.layers(app.id if app else SERVER)
    return rows_of(ctx, layers, noun=noun, is_of_app=app is not None)


def rows_of(ctx: Context, layers: Layers, *, noun: str, is_of_app: bool) -> dict[str, str]:
    """Return the rows of a noun's properties out of what is set."""
    own, server = layers.own, layers.server
    rows = {}
    for property in _set_or_known(noun, server, own):
        if not property.is_of_apps:
            rows[f"{noun}-global-{property.key}"] = server.get(property.name, "")
        if is_of_app:
            rows[f"{noun}-{property.key}"] = own.get(property.name, "")
            rows[f"{noun}-computed-{property.key}"] = own.get(
                property.name, server.get(property.name, _default(ctx, property))
            )
    return rows


def _set_or_known(noun: str, *stored: Mapping[str, str]) -> list[Property]:
    """Return the properties of a noun, and those of single process types that are set."""
    names = {name for properties in stored for name in properties if name not in PROPERTIES}
    special = [found for name in sorted(names) if (found := known(name)) and found.noun == noun]
    return of_noun(noun) + special


def _default(ctx: Context, property: Property) -> str:
    match property.name:
        case "ps.stop-timeout-seconds":
            return f"{ctx.server.stop_seconds:g}"
        case "ps.task-timeout-seconds":
            return f"{ctx.server.task_seconds:g}"
        case "builder.timeout-seconds":
            return f"{ctx.server.build_seconds:g}"
        case "checks.wait-to-retire":
            return f"{ctx.server.drain_seconds:g}"
    return property.default


class AppJsonSet(SetCommand, frozen=True, kw_only=True):
    """Set where an app's app.json is. The next deploy of a commit or an image follows it.

    One that is set for an app has to be there; one that is set for all is read where it is.
    """

    name = "app-json:set"
    noun = "app-json"
    examples = ("app-json:set blog appjson-path deploy/app.json",)


class AppJsonReport(ReportCommand, frozen=True, kw_only=True):
    """Report where apps' app.json are."""

    name = "app-json:report"
    noun = "app-json"
    examples = ("app-json:report blog",)


class DockerfileSet(SetCommand, frozen=True, kw_only=True):
    """Set how a Dockerfile is built. The next build follows it."""

    name = "builder-dockerfile:set"
    noun = "builder-dockerfile"
    examples = ("builder-dockerfile:set blog dockerfile-path deploy/Dockerfile",)


class DockerfileReport(ReportCommand, frozen=True, kw_only=True):
    """Report how Dockerfiles are built."""

    name = "builder-dockerfile:report"
    noun = "builder-dockerfile"
    examples = ("builder-dockerfile:report blog",)


class PackSet(SetCommand, frozen=True, kw_only=True):
    """Set how buildpacks build. The next build follows it."""

    name = "builder-pack:set"
    noun = "builder-pack"
    examples = ("builder-pack:set blog projecttoml-path deploy/project.toml",)


class PackReport(ReportCommand, frozen=True, kw_only=True):
    """Report how buildpacks build."""

    name = "builder-pack:report"
    noun = "builder-pack"
    examples = ("builder-pack:report blog",)


class ProxySet(SetCommand, frozen=True, kw_only=True):
    """Set how requests reach an app. It holds at once."""

    name = "proxy:set"
    noun = "proxy"
    examples = ("proxy:set blog balance leastconn",)


class ProxyReport(ReportCommand, frozen=True, kw_only=True):
    """Report how requests reach apps."""

    name = "proxy:report"
    noun = "proxy"
    examples = ("proxy:report blog", "proxy:report blog --proxy-balance")

    @staticmethod
    def further_rows(ctx: Context, app: AppRow | None) -> Rows:
        """Return what is so for each app: the proxy stands before it, at the server's port."""
        if app is None:
            return {}
        port = str(ctx.server.http_port)
        return {"proxy-enabled": "true", "proxy-computed-disabled": "false", "proxy-computed-proxy-port": port}
