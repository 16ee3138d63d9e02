"""``buildpacks:*``: which builder image buildpacks come from."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agent.commands import settings
from agent.commands.arguments import quoted
from agent.commands.command import Command, Context
from agent.commands.replies import Reply
from agent.commands.reports import AppOrEvery, Row, Rows, report
from agent.commands.settings import property_rows
from agent.errors import UserError
from agent.state.apps import App as AppRow

STACK = "stack"
"""What Dokku calls the builder image."""
BUILDER_IMAGE = "builder-image"
"""What ``builder:set`` calls it."""


class BuildpacksSetProperty(settings.SetCommand, frozen=True, kw_only=True):
    """Set the builder image that buildpacks come from, by the name that Dokku has for it: stack.

    It is the same as: builder:set blog builder-image heroku/builder:24
    """

    name = "buildpacks:set-property"
    noun = "builder"
    examples = ("buildpacks:set-property blog stack heroku/builder:24",)

    @classmethod
    def further(cls) -> Sequence[tuple[str, str]]:
        """Return what can be set."""
        return [(STACK, settings.property_of(cls.noun, BUILDER_IMAGE).help)]

    async def run(self, ctx: Context) -> Reply:
        """Set what it is called here."""
        if self.key != STACK:
            raise UserError(
                "property.unknown",
                f"{quoted(self.key)} cannot be set with {self.name}.",
                f"What can be set: {STACK}. Buildpacks are named in the app's project.toml.",
            )
        return await settings.SetCommand.run(msgspec.structs.replace(self, key=BUILDER_IMAGE), ctx)


class BuildpacksReport(Command, frozen=True, kw_only=True):
    """Report which builder image buildpacks come from."""

    name = "buildpacks:report"
    permission = "read"
    examples = ("buildpacks:report blog", "buildpacks:report blog --buildpacks-computed-stack")

    app: AppOrEvery = None
    row: Row = ""

    async def run(self, ctx: Context) -> Reply:
        """Answer from the database alone."""

        async def rows(app: AppRow | None) -> Rows:
            found = await property_rows(ctx, app, noun="builder")
            return {
                key.replace(BUILDER_IMAGE, STACK).replace("builder-", "buildpacks-", 1): value
                for key, value in found.items()
                if key.endswith(BUILDER_IMAGE)
            }

        return await report(ctx, self, noun="buildpacks", asked=self.row, rows=rows)
