"""``docker-options:*``: build arguments, in the words of Dokku."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from agent.commands.arguments import App, Argument, quoted
from agent.commands.command import Command, Context
from agent.commands.replies import Done, Raw, Reply
from agent.commands.words import split
from agent.errors import UserError
from agent.lifecycle.properties import set_property
from agent.state.database import Tables
from proto.names import AppId, is_config_key

BUILD_ARGS = "builder-dockerfile.build-args"
"""Property that holds them: an object of strings in JSON."""

Phase = Annotated[Literal["build"], Argument(help="Only build is known.", metavar="build")]


Words = Annotated[
    tuple[str, ...],
    Argument(
        help="--build-arg KEY=value; the key alone to remove.", metavar="option", is_command=True, may_be_flag=True
    ),
]


class OptionsAdd(Command, frozen=True, kw_only=True):
    """Add a build argument: a value for an ARG of the Dockerfile.

    Without a value (--build-arg KEY) it gets that of the config of the same name; no other config is passed to builds.
    Build arguments are part of the image's history: give no secrets, for which there is builder:secrets:set. In what a
    build says, the values of arguments called TOKEN, PASSWORD or the like are masked. Other options of docker are not
    known.
    """

    name = "docker-options:add"
    permission = "change"
    examples = (
        "docker-options:add blog build '--build-arg NODE_VERSION=22'",
        "docker-options:add blog build '--build-arg PUBLIC_URL'",
    )

    app: App
    phase: Phase
    words: Words

    async def run(self, ctx: Context) -> Reply:
        """Store it; the next build has it."""
        key, value = _option(self.words)
        async with ctx.database.transaction() as tx:
            arguments = {**await build_args(tx, ctx.app.id), key: value}
            await set_property(tx, app=ctx.app.id, name=BUILD_ARGS, value=msgspec.json.encode(arguments).decode())
        return Done(said=(f"Builds of {ctx.app.name} get the argument {key}",), facts={"build_args": sorted(arguments)})


class OptionsRemove(Command, frozen=True, kw_only=True):
    """Remove a build argument."""

    name = "docker-options:remove"
    permission = "change"
    examples = ("docker-options:remove blog build '--build-arg NODE_VERSION'",)

    app: App
    phase: Phase
    words: Words

    async def run(self, ctx: Context) -> Reply:
        """Forget it; the next build goes without."""
        key, _ = _option(self.words)
        async with ctx.database.transaction() as tx:
            arguments = dict(await build_args(tx, ctx.app.id))
            if arguments.pop(key, None) is None:
                raise UserError(
                    "option.not-found",
                    f"{ctx.app.name} has no build argument {quoted(key)}.",
                    f"List them with: docker-options:list {ctx.app.name} build",
                )
            value = msgspec.json.encode(arguments).decode() if arguments else None
            await set_property(tx, app=ctx.app.id, name=BUILD_ARGS, value=value)
        return Done(
            said=(f"Builds of {ctx.app.name} no longer get the argument {key}",),
            facts={"build_args": sorted(arguments)},
        )


class OptionsList(Command, frozen=True, kw_only=True):
    """List the build arguments."""

    name = "docker-options:list"
    permission = "read"
    examples = ("docker-options:list blog build",)

    app: App
    phase: Annotated[Literal["build"], Argument(help="Only build is known.", metavar="build")] = "build"

    async def run(self, ctx: Context) -> Reply:
        """Answer from the database alone."""
        found = await build_args(ctx.database.read, ctx.app.id)
        words = [key if value is None else f"{key}={value}" for key, value in found.items()]
        return Raw(text="".join(f"--build-arg {word}\n" for word in words), data=found)


async def build_args(tables: Tables, app: AppId) -> Mapping[str, str | None]:
    """Return an app's build arguments; `None` for those that have the value of the config of their name."""
    stored = await tables.properties.get(app, BUILD_ARGS)
    return msgspec.json.decode(stored, type=dict[str, str | None]) if stored else {}


def _option(words: tuple[str, ...]) -> tuple[str, str | None]:
    parts = split(words[0]) if len(words) == 1 else list(words)
    if len(parts) == 1 and parts[0].startswith("--build-arg="):
        parts = ["--build-arg", parts[0].removeprefix("--build-arg=")]
    if len(parts) != 2 or parts[0] != "--build-arg":
        raise UserError(
            "option.unknown",
            "Those words are no option that builds take here.",
            "Write it as: '--build-arg KEY=value'",
        )
    key, equals, value = parts[1].partition("=")
    if not is_config_key(key):
        raise UserError("option.invalid", f"{quoted(key)} is not the name of an ARG.", "Write it as: NODE_VERSION=22")
    return key, value if equals else None
