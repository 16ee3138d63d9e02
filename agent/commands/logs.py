"""``logs``: what apps write."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterable, Sequence
from datetime import UTC, tzinfo
from typing import Annotated

from agent.commands.arguments import App, Flag, Option
from agent.commands.command import Command, Context
from agent.commands.log_lines import Style, as_json, read_moment, read_release, read_source, read_zone
from agent.commands.replies import Ended, Reply
from agent.commands.waiting import unless_gone
from agent.errors import UserError
from agent.ports.logs import LogLine, LogQuery, Missed

NEWEST = 100
"""Lines shown unless a number or a time is given."""

ZONE_VARIABLES = ("PUSHBOAT_TZ", "TZ")
"""What the client passes of its zone; ``--tz`` wins."""


class Logs(Command, frozen=True, kw_only=True):
    """Show what an app has written, and what it writes.

    The newest lines of all its processes, the oldest of them first. They outlive containers, deploys and crashes.
    With -t new lines follow as they come, until you press Ctrl-C.
    """

    name = "logs"
    permission = "read"
    examples = ("logs blog -t", "logs blog -p web.1 --since 1h --grep 'status=5..'")

    app: App
    tail: Annotated[bool, Flag(names=("-t", "--tail"), help="Go on with new lines as they come.")] = False
    num: Annotated[int | None, Option(names=("-n", "--num"), help="How many lines.", metavar="count")] = None
    process: Annotated[
        str | None, Option(names=("-p", "--ps"), help="Of this process only: web, or web.1.", metavar="process")
    ] = None
    since: Annotated[
        str | None, Option(names=("--since",), help="Not older than: 90s, 1h30m, 2d, or a time.", metavar="time")
    ] = None
    grep: Annotated[
        str | None,
        Option(names=("--grep",), help="In which this regular expression is found.", metavar="pattern"),
    ] = None
    release: Annotated[
        str | None, Option(names=("--release",), help="Of this release only: v5.", metavar="version")
    ] = None
    tz: Annotated[
        str | None, Option(names=("--tz",), help="Zone of the times: Europe/Berlin. Else UTC.", metavar="zone")
    ] = None
    raw: Annotated[bool, Flag(names=("-q",), help="Only what the app wrote: no times, no names.")] = False

    async def run(self, ctx: Context) -> Reply:
        """Write the lines as they are found."""
        query = self._query(ctx)
        style = Style(
            zone=self._zone(ctx),
            has_colours=ctx.session.is_tty and "NO_COLOR" not in ctx.session.environment,
            is_raw=self.raw or ctx.options.quiet,
        )
        return Ended(status=await unless_gone(ctx.session, self._show(ctx, query, style)))

    async def _show(self, ctx: Context, query: LogQuery, style: Style) -> int:
        has_shown = False
        async with contextlib.aclosing(self._batches(ctx, query)) as batches:
            async for batch in batches:
                if isinstance(batch, Missed):
                    await _tell_missed(ctx, batch.count)
                    continue
                has_shown = True
                lines: Iterable[str] = as_json(batch, app=ctx.app.name) if ctx.options.as_json else style.render(batch)
                await ctx.screen.lines(lines)
        asks_for_all = query == LogQuery(last=query.last)
        if not has_shown and asks_for_all and ctx.app.live_release is None:
            raise UserError(
                "app.not-deployed", f"{ctx.app.name} has not been deployed.", "Deploy it with: git push pushboat main"
            )
        return 0

    def _batches(self, ctx: Context, query: LogQuery) -> AsyncGenerator[Sequence[LogLine] | Missed, None]:
        return ctx.logs.follow(ctx.app.id, query) if self.tail else _stored(ctx, query)

    def _query(self, ctx: Context) -> LogQuery:
        process, number = (None, None) if self.process is None else read_source(self.process)
        return LogQuery(
            last=NEWEST if self.num is None and self.since is None else self.num,
            process=process,
            number=number,
            release=None if self.release is None else read_release(self.release),
            since=None if self.since is None else read_moment(self.since, now=ctx.clock.now()),
            grep=self.grep or None,
        )

    def _zone(self, ctx: Context) -> tzinfo:
        if self.tz is not None:
            return read_zone(self.tz)
        named = (ctx.session.environment.get(variable) for variable in ZONE_VARIABLES)
        # What a client happens to have set, perhaps in another notation, must not keep anybody from the logs.
        with contextlib.suppress(UserError):
            return read_zone(next((name for name in named if name), "UTC"))
        return UTC


async def _stored(ctx: Context, query: LogQuery) -> AsyncGenerator[Sequence[LogLine] | Missed, None]:
    async with contextlib.aclosing(ctx.logs.read(ctx.app.id, query)) as pages:
        async for page in pages:
            yield page


async def _tell_missed(ctx: Context, count: int) -> None:
    if ctx.options.as_json:
        await ctx.screen.line(f'{{"missed":{count}}}')
        return
    await ctx.screen.trouble(f"{count} lines were left out: they came faster than this connection takes them.")
