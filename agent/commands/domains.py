"""``domains:*``: the names under which apps answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from agent.commands.arguments import App, Argument, quoted
from agent.commands.command import Command, Context
from agent.commands.replies import Done, Reply
from agent.commands.reports import AppOrEvery, Row, Rows, flag, report
from agent.errors import UserError
from agent.lifecycle import domains
from agent.lifecycle.domains import WITHOUT_DEFAULT
from agent.state.apps import App as AppRow
from proto.names import domain_name

Domains = Annotated[tuple[str, ...], Argument(help="Domains; *.example.com is all names below.", metavar="domain")]


class DomainsAdd(Command, frozen=True, kw_only=True):
    """Give an app domains. They hold at once, without a deploy."""

    name = "domains:add"
    permission = "change"
    examples = ("domains:add blog blog.example.com www.example.com",)

    app: App
    domains: Domains

    async def run(self, ctx: Context) -> Reply:
        """Add all of them, or none."""
        async with ctx.database.transaction() as tx:
            added = await domains.add(tx, app=ctx.app, domains=self.domains)
            now = await domains.of_app(tx, ctx.app)
        said = [f"Added {domain} to {ctx.app.name}" for domain in added]
        said += [f"Skipping: {domain} already added to {ctx.app.name}" for domain in _others(self.domains, added)]
        return Done(said=tuple(said), facts={"added": added, "domains": now})


class DomainsRemove(Command, frozen=True, kw_only=True):
    """Take domains from an app."""

    name = "domains:remove"
    permission = "change"
    examples = ("domains:remove blog www.example.com",)

    app: App
    domains: Domains

    async def run(self, ctx: Context) -> Reply:
        """Remove those that it has.

        Raises:
            UserError: ``domain.not-found``, it has none of them.
        """
        async with ctx.database.transaction() as tx:
            removed = await domains.remove(tx, app=ctx.app, domains=self.domains)
            now = await domains.of_app(tx, ctx.app)
        if not removed:
            raise UserError(
                "domain.not-found",
                f"{ctx.app.name} has no domain {' or '.join(map(quoted, self.domains[:3]))}.",
                f"It has: {' '.join(now) or 'none'}",
            )
        said = tuple(f"Removed {domain} from {ctx.app.name}" for domain in removed)
        return Done(said=said, facts={"removed": removed, "domains": now})


class DomainsSet(Command, frozen=True, kw_only=True):
    """Give an app just these domains, and none of the default ones."""

    name = "domains:set"
    permission = "change"
    examples = ("domains:set blog blog.example.com",)

    app: App
    domains: Domains

    async def run(self, ctx: Context) -> Reply:
        """Replace all of them at once."""
        async with ctx.database.transaction() as tx:
            now = await domains.set_all(tx, app=ctx.app, domains=self.domains)
        return Done(said=(f"Set {' '.join(now)} for {ctx.app.name}",), facts={"domains": now})


class DomainsClear(Command, frozen=True, kw_only=True):
    """Take every domain from an app, the default ones too, so that nobody reaches it."""

    name = "domains:clear"
    aliases = ("domains:disable",)
    permission = "change"
    examples = ("domains:clear blog",)

    app: App

    async def run(self, ctx: Context) -> Reply:
        """Remove all of them at once."""
        async with ctx.database.transaction() as tx:
            await domains.clear(tx, app=ctx.app)
        return Done(said=(f"Cleared domains in {ctx.app.name}",), facts={"domains": []})


class DomainsReset(Command, frozen=True, kw_only=True):
    """Give an app its default domains, under the global ones, and no others."""

    name = "domains:reset"
    aliases = ("domains:enable",)
    permission = "change"
    examples = ("domains:reset blog",)

    app: App

    async def run(self, ctx: Context) -> Reply:
        """Replace all of them at once."""
        async with ctx.database.transaction() as tx:
            await domains.reset(tx, app=ctx.app)
            now = await domains.of_app(tx, ctx.app)
        return Done(said=(f"Reset domains of {ctx.app.name}: {' '.join(now)}",), facts={"domains": now})


class DomainsAddGlobal(Command, frozen=True, kw_only=True):
    """Add domains under which every app answers by its name."""

    name = "domains:add-global"
    permission = "admin"
    examples = ("domains:add-global apps.example.com",)

    domains: Domains

    async def run(self, ctx: Context) -> Reply:
        """Add all of them, or none."""
        async with ctx.database.transaction() as tx:
            added = await domains.add_global(tx, domains=self.domains)
            now = await tx.domains.global_ones()
        said = [f"Added {domain}" for domain in added]
        said += [f"Skipping: {domain} already added" for domain in _others(self.domains, added)]
        return Done(said=tuple(said), facts={"added": added, "domains": now})


class DomainsRemoveGlobal(Command, frozen=True, kw_only=True):
    """Remove global domains. The names that apps have under them go."""

    name = "domains:remove-global"
    permission = "admin"
    examples = ("domains:remove-global apps.example.com",)

    domains: Domains

    async def run(self, ctx: Context) -> Reply:
        """Remove those that are there.

        Raises:
            UserError: ``domain.not-found``, none of them is.
        """
        async with ctx.database.transaction() as tx:
            removed = await domains.remove_global(tx, domains=self.domains)
            now = await tx.domains.global_ones()
        if not removed:
            raise UserError(
                "domain.not-found",
                f"There is no global domain {' or '.join(map(quoted, self.domains[:3]))}.",
                f"There are: {' '.join(now) or 'none'}",
            )
        return Done(said=tuple(f"Removed {domain}" for domain in removed), facts={"removed": removed, "domains": now})


class DomainsSetGlobal(Command, frozen=True, kw_only=True):
    """Have just these global domains."""

    name = "domains:set-global"
    permission = "admin"
    examples = ("domains:set-global apps.example.com",)

    domains: Domains

    async def run(self, ctx: Context) -> Reply:
        """Replace all of them at once."""
        async with ctx.database.transaction() as tx:
            now = await domains.set_global(tx, domains=self.domains)
        return Done(said=(f"Set {' '.join(now)}",), facts={"domains": now})


class DomainsClearGlobal(Command, frozen=True, kw_only=True):
    """Remove every global domain."""

    name = "domains:clear-global"
    permission = "admin"
    examples = ("domains:clear-global",)

    async def run(self, ctx: Context) -> Reply:
        """Remove all of them at once."""
        async with ctx.database.transaction() as tx:
            await domains.clear_global(tx)
        return Done(said=("Cleared global domains",), facts={"domains": []})


class DomainsReport(Command, frozen=True, kw_only=True):
    """Report the domains of an app, of the server, or of all apps."""

    name = "domains:report"
    permission = "read"
    examples = ("domains:report blog", "domains:report blog --domains-app-vhosts", "domains:report --global")

    app: AppOrEvery = None
    row: Row = ""

    async def run(self, ctx: Context) -> Reply:
        """Answer from the database alone."""
        read = ctx.database.read
        global_ones = await read.domains.global_ones()

        async def rows(app: AppRow | None) -> Rows:
            server = {
                "domains-global-enabled": flag(bool(global_ones)),
                "domains-global-vhosts": " ".join(global_ones),
            }
            if app is None:
                return server
            names = await domains.of_app(read, app)
            return {
                **server,
                "domains-app-enabled": flag(bool(names)),
                "domains-app-vhosts": " ".join(names),
                "domains-app-default": flag(not await read.properties.get(app.id, WITHOUT_DEFAULT)),
            }

        return await report(ctx, self, noun="domains", asked=self.row, rows=rows)


def _others(given: Sequence[str], added: Sequence[str]) -> list[str]:
    """Return the given domains, as they are stored, that were there already."""
    return [name for name in dict.fromkeys(domain_name(text) for text in given) if name not in added]
