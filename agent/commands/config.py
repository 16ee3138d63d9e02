"""``config:*``: the environment that an app's processes get."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Literal

from agent.commands import deploying, envfile
from agent.commands.arguments import GLOBAL, AppOrGlobal, Argument, Flag, Option, quoted
from agent.commands.command import Command, Context
from agent.commands.deploying import Wish
from agent.commands.replies import INDENT, Done, Ended, Pairs, Raw, Reply
from agent.commands.screen import read_all
from agent.errors import UserError
from agent.lifecycle import config
from agent.state.database import Transaction
from agent.state.deploys import Deploy
from proto.wire import Exit

MAX_IMPORT_BYTES = 8 << 20
"""Twice what one app's config may have: quotes and JSON take room too."""

NoRestart = Annotated[bool, Flag(names=("--no-restart",), help="Only note it; the next deploy or restart takes it.")]
Merged = Annotated[bool, Flag(names=("--merged",), help="With the server's own config below the app's.")]

Change = Callable[[Transaction], Awaitable[list[str]]]
"""Changes the draft; returns the keys that changed."""

Changed = tuple[list[str], Deploy | None]
"""The keys that changed, and the deploy that takes them."""


class ConfigSet(Command, frozen=True, kw_only=True):
    """Set config, and deploy a release that has it.

    Each change is a release of its own, so it can be rolled back. Values are never printed. They do stand in the
    command line, though; config:import reads them from standard input instead.
    """

    name = "config:set"
    permission = "change"
    examples = ("config:set blog TITLE='My blog' DEBUG=0", "config:set --no-restart blog TOKEN=abc")

    app: AppOrGlobal
    pairs: Annotated[tuple[str, ...], Argument(help="What to set.", metavar="KEY=value")]
    is_encoded: Annotated[bool, Flag(names=("--encoded",), help="The values are in base64.")] = False
    is_draft: NoRestart = False

    async def run(self, ctx: Context) -> Reply:
        """Set the draft and take on its deploy in one transaction."""
        values = dict(_pair(text, number=number) for number, text in enumerate(self.pairs, 1))
        if self.is_encoded:
            values = {key: _decoded(key, value) for key, value in values.items()}

        async def change(tx: Transaction) -> list[str]:
            return await config.set_values(tx, app=ctx.target, values=values)

        changed = await _change(ctx, change, why=f"Set {', '.join(values)}", is_draft=self.is_draft)
        return await _told(ctx, changed, verb="Setting", none="Nothing changed: the values are those that were set.")


class ConfigUnset(Command, frozen=True, kw_only=True):
    """Unset config, and deploy a release without it."""

    name = "config:unset"
    permission = "change"
    examples = ("config:unset blog DEBUG",)

    app: AppOrGlobal
    keys: Annotated[tuple[str, ...], Argument(help="What to unset.", metavar="KEY")]
    is_draft: NoRestart = False

    async def run(self, ctx: Context) -> Reply:
        """Unset the draft's keys and take on the deploy in one transaction."""

        async def change(tx: Transaction) -> list[str]:
            return await config.unset(tx, app=ctx.target, keys=self.keys)

        changed = await _change(ctx, change, why=f"Unset {', '.join(self.keys)}", is_draft=self.is_draft)
        for key in self.keys:
            if key not in changed[0]:
                await ctx.progress(f"-----> Skipping {key}, which is not set")
        return await _told(ctx, changed, verb="Unsetting", none="")


class ConfigClear(Command, frozen=True, kw_only=True):
    """Unset all of an app's config, and deploy a release without it."""

    name = "config:clear"
    permission = "change"
    examples = ("config:clear blog",)

    app: AppOrGlobal
    is_draft: NoRestart = False

    async def run(self, ctx: Context) -> Reply:
        """Empty the draft and take on the deploy in one transaction."""

        async def change(tx: Transaction) -> list[str]:
            return await config.set_values(tx, app=ctx.target, values={}, replace=True)

        changed = await _change(ctx, change, why="Cleared the config", is_draft=self.is_draft)
        return await _told(ctx, changed, verb="Unsetting", none="There is no config to clear.")


class ConfigImport(Command, frozen=True, kw_only=True):
    """Set config from standard input, where no process list shows it, and deploy a release that has it."""

    name = "config:import"
    permission = "change"
    examples = ("config:import blog < .env", "config:import blog --format json --replace < config.json")

    app: AppOrGlobal
    file: Annotated[str, Argument(help="A dash, for standard input; it may be left out.", metavar="-")] = "-"
    format: Annotated[
        Literal["envfile", "json"],
        Option(names=("--format",), help="envfile (KEY=value lines) or json.", metavar="format"),
    ] = "envfile"
    replaces: Annotated[bool, Flag(names=("--replace",), help="Unset what the input does not name.")] = False
    is_draft: NoRestart = False

    async def run(self, ctx: Context) -> Reply:
        """Read, then set the draft and take on its deploy in one transaction."""
        if self.file != "-":
            raise UserError(
                "config.no-file",
                f"The server cannot read {quoted(self.file)}, which is on your machine.",
                "Give it on standard input: config:import <app> < file",
            )
        values = envfile.read(await _input(ctx), is_json=self.format == "json")

        async def change(tx: Transaction) -> list[str]:
            return await config.set_values(tx, app=ctx.target, values=values, replace=self.replaces)

        changed = await _change(ctx, change, why=f"Imported {len(values)} keys", is_draft=self.is_draft)
        return await _told(ctx, changed, verb="Setting", none="Nothing changed: the values are those that were set.")


class ConfigGet(Command, frozen=True, kw_only=True):
    """Print one value. Status 1, and nothing printed, if it is not set."""

    name = "config:get"
    permission = "read"
    examples = ("config:get blog TITLE", "config:get --global TITLE")

    app: AppOrGlobal
    key: Annotated[str, Argument(help="The key.", metavar="KEY")]
    is_quoted: Annotated[bool, Flag(names=("--quoted",), help="Quoted for a shell.")] = False

    async def run(self, ctx: Context) -> Reply:
        """Answer with the draft's value: what the next release will have."""
        value = (await ctx.database.read.configs.get(ctx.target)).get(self.key)
        if value is None:
            return Ended(status=Exit.FAILED)
        return Raw(text=f"{envfile.quoted(value) if self.is_quoted else value}\n", data=value)


class ConfigShow(Command, frozen=True, kw_only=True):
    """Print keys and values."""

    name = "config:show"
    permission = "read"
    examples = ("config:show blog", "config:show blog --merged")

    app: AppOrGlobal
    is_merged: Merged = False

    async def run(self, ctx: Context) -> Reply:
        """Answer with the draft."""
        title = "global env vars" if self.app == GLOBAL else f"{ctx.app.name} env vars"
        return Pairs(title=title, pairs=await _values(ctx, is_merged=self.is_merged))


class ConfigKeys(Command, frozen=True, kw_only=True):
    """Print the keys, one a line."""

    name = "config:keys"
    permission = "read"
    examples = ("config:keys blog",)

    app: AppOrGlobal
    is_merged: Merged = False

    async def run(self, ctx: Context) -> Reply:
        """Answer with the draft's keys."""
        names = tuple(await _values(ctx, is_merged=self.is_merged))
        return Raw(text="".join(f"{name}\n" for name in names), data=names)


class ConfigExport(Command, frozen=True, kw_only=True):
    """Print keys and values for another program to read."""

    name = "config:export"
    permission = "read"
    examples = ("config:export blog --format envfile > .env",)

    app: AppOrGlobal
    format: Annotated[
        envfile.Format,
        Option(names=("--format",), help=f"One of: {', '.join(envfile.FORMATS)}.", metavar="format"),
    ] = "exports"
    is_merged: Merged = False

    async def run(self, ctx: Context) -> Reply:
        """Answer with the draft, in the format."""
        values = await _values(ctx, is_merged=self.is_merged)
        data = (
            [{"name": key, "value": value} for key, value in values.items()] if self.format == "json-list" else values
        )
        return Raw(text=envfile.write(values, format=self.format), data=data)


async def _change(ctx: Context, change: Change, *, why: str, is_draft: bool) -> Changed:
    """Change the draft and, if the app runs, take on the deploy that has it: both or neither."""
    deploy = None
    async with ctx.database.transaction() as tx:
        keys = await change(tx)
        app = ctx.maybe_app
        if app and keys and not is_draft and not app.is_stopped and await deploying.is_deployed(tx, app=app.id):
            deploy = await deploying.accept(tx, ctx=ctx, app=app.id, wish=Wish(kind="config", why=why))
    return keys, deploy


async def _told(ctx: Context, changed: Changed, *, verb: str, none: str) -> Reply:
    keys, deploy = changed
    facts = {"changed": keys}
    if not keys:
        return Done(said=(none,) if none else (), facts=facts)
    said = (f"{verb} config vars", *(f"{INDENT}{key}" for key in keys))
    if deploy is None:
        return Done(said=(*said, *_what_next(ctx)), facts=facts)
    for line in Done(said=said).lines(quiet=False):
        await ctx.progress(line)
    return await deploying.show(ctx, deploy, facts=facts)


def _what_next(ctx: Context) -> Sequence[str]:
    if ctx.maybe_app is None:
        return (f"{INDENT}Apps take it with their next deploy or restart.",)
    if ctx.app.is_stopped:
        return (f"{INDENT}{ctx.app.name} is stopped; it takes it with its next deploy.",)
    return (f"{INDENT}The next deploy takes it.",)


async def _values(ctx: Context, *, is_merged: bool) -> Mapping[str, str]:
    configs = ctx.database.read.configs
    values = await (configs.merged(ctx.target) if is_merged else configs.get(ctx.target))
    return dict(sorted(values.items()))


async def _input(ctx: Context) -> bytes:
    if ctx.session.is_tty:
        raise UserError(
            "config.no-input", "There is nothing on standard input.", "Give a file: config:import <app> < .env"
        )
    data = await read_all(ctx.session, limit=MAX_IMPORT_BYTES)
    if data is None:
        raise UserError(
            "config.too-large",
            f"Standard input has more than {MAX_IMPORT_BYTES >> 20} MiB.",
            "Put large values into a file or a service.",
        )
    return data


def _pair(text: str, *, number: int) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        # Not shown: mostly it is the rest of a value with a blank in it, and the answer may land in a build's log.
        raise UserError(
            "config.invalid-pair",
            f"Word {number} after the app is not KEY=value.",
            "A value with blanks needs quotes that reach the server: \"TITLE='My blog'\"",
        )
    return key, value


def _decoded(key: str, value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise UserError(
            "config.invalid-value", f"The value of {quoted(key)} is not text in base64.", "Encode it with: base64 -w0"
        ) from error
