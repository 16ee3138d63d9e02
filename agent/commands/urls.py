"""``url``, ``urls``: where an app answers."""

from __future__ import annotations

from collections.abc import Iterable

from agent.commands.arguments import App
from agent.commands.command import Command, Context, ServerFacts
from agent.commands.replies import Raw, Reply
from agent.errors import UserError
from agent.lifecycle import domains

HTTP_PORT = 80
"""The port that a URL need not name (RFC 9110, 4.2.1)."""


class Urls(Command, frozen=True, kw_only=True):
    """List the URLs of an app.

    They are known before the first deploy. Wildcard domains are left out.
    """

    name = "urls"
    permission = "read"
    examples = ("urls blog",)

    app: App

    async def run(self, ctx: Context) -> Reply:
        """Answer with one URL a line and no heading."""
        urls = await urls_of(ctx)
        return Raw(text="".join(f"{url}\n" for url in urls), data=urls)


class Url(Command, frozen=True, kw_only=True):
    """Print the first URL of an app."""

    name = "url"
    permission = "read"
    examples = ("url blog",)

    app: App

    async def run(self, ctx: Context) -> Reply:
        """Answer with one line."""
        urls = await urls_of(ctx)
        if not urls:
            raise UserError(
                "domain.none",
                f"{ctx.app.name} has no domain, so it has no URL.",
                f"Give it one: domains:add {ctx.app.name} <domain>",
            )
        return Raw(text=f"{urls[0]}\n", data=urls[0])


async def urls_of(ctx: Context) -> list[str]:
    """Return the URLs of the command's app."""
    return in_urls(await domains.of_app(ctx.database.read, ctx.app), server=ctx.server)


def in_urls(names: Iterable[str], *, server: ServerFacts) -> list[str]:
    """Return the URL of each domain that is one, wildcards left out."""
    port = "" if server.http_port == HTTP_PORT else f":{server.http_port}"
    return [f"http://{name}{port}" for name in names if not name.startswith("*.")]
