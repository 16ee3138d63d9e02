"""``<noun>:report``: facts as rows, in the form that Dokku's users read and parse.

For people a heading and aligned rows; with one ``--<row>`` flag the bare value; with ``--format json`` one flat object
of strings, its keys without the noun in front. Without an app: all apps, in JSON as a list.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Annotated

import msgspec

from agent.commands.arguments import GLOBAL, Argument, InfoFlag, quoted
from agent.commands.command import Command, Context
from agent.commands.replies import HEADING, INDENT, WARNING, Json, Raw, Reply
from agent.errors import UserError
from agent.state.apps import App

Rows = Mapping[str, str]
"""Values by flag without its dashes: ``ps-running``."""

WITH_LONG_KEYS = ("app", "builder", "proxy", "ps")
"""Nouns whose JSON has each key also as the flag is written, ``ps-restart-policy`` beside ``restart-policy``: Dokku's
older scripts read those."""

KEY_WIDTH = 31
"""Columns of a row's key, at least. Scripts that cut columns depend on it."""

AppOrEvery = Annotated[
    str | None, Argument(help="The app; all of them if left out.", metavar="app", is_app=True, instead=(GLOBAL,))
]
Row = Annotated[str, InfoFlag()]


class Block(msgspec.Struct, frozen=True):
    """The rows of one app, or of the server."""

    about: str
    rows: Rows


class Report(Reply, frozen=True, kw_only=True):
    """What a ``:report`` answers."""

    noun: str
    blocks: tuple[Block, ...]
    is_list: bool
    """Whether no app was named."""

    def lines(self, *, quiet: bool) -> Iterable[str]:
        """Yield each block below its heading."""
        if not self.blocks:
            yield f"{WARNING}There are no apps yet."
        for block in self.blocks:
            yield f"{HEADING}{block.about} {self.noun} information"
            width = max([KEY_WIDTH, *(len(flag) + 2 for flag in block.rows)])
            for flag in sorted(block.rows):
                yield f"{INDENT}{_title(flag).ljust(width)}{block.rows[flag]}".rstrip()

    def json(self) -> Json:
        """Return one flat object, or one for each app with its name under ``app``."""
        if self.is_list:
            return [{"app": block.about, **self._flat(block.rows)} for block in self.blocks]
        return self._flat(self.blocks[0].rows)

    def _flat(self, rows: Rows) -> dict[str, str]:
        short = {flag.removeprefix(f"{self.noun}-"): value for flag, value in rows.items()}
        return {**short, **rows} if self.noun in WITH_LONG_KEYS else short


async def report(
    ctx: Context, command: Command, *, noun: str, asked: str, rows: Callable[[App | None], Awaitable[Rows]]
) -> Reply:
    """Return the report of the command's app, of the server (``--global``), or of all apps.

    `rows` makes the rows of one app; of the server for `None`. `asked`: one row's flag, or empty.

    Raises:
        UserError: ``argument.unknown-flag``, there is no such row.
    """
    if ctx.maybe_app or getattr(command, "app", None) == GLOBAL:
        about = ctx.maybe_app.name if ctx.maybe_app else "global"
        blocks = [Block(about, await rows(ctx.maybe_app))]
    else:
        blocks = [Block(app.name, await rows(app)) for app in await ctx.database.read.apps.all()]
    if not asked:
        is_list = ctx.maybe_app is None and getattr(command, "app", None) != GLOBAL
        return Report(noun=noun, blocks=tuple(blocks), is_list=is_list)
    if ctx.options.as_json:
        raise UserError(
            "argument.two-formats", f"{asked} prints one bare value.", "Leave out the flag, or --format json."
        )
    return _one_row(blocks, asked=asked)


def flag(text: bool) -> str:
    """Return a truth as reports write it."""
    return "true" if text else "false"


def _one_row(blocks: Sequence[Block], *, asked: str) -> Reply:
    name = asked.removeprefix("--")
    for block in blocks:
        if name not in block.rows:
            raise UserError(
                "argument.unknown-flag",
                f"The report has no row {quoted(asked)}.",
                f"Rows: {', '.join(f'--{flag}' for flag in sorted(block.rows))}",
            )
    return Raw(text="".join(f"{block.rows[name]}\n" for block in blocks))


def _title(flag: str) -> str:
    words = flag.replace("-", " ").replace(".", " ")
    return f"{words[:1].upper()}{words[1:]}:"
