"""``checks:*``: how deploys replace what runs, and whether what runs is well."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, ClassVar

from agent.commands.arguments import App, Argument, quoted, read_process_type
from agent.commands.command import Command, Context
from agent.commands.ps_report import strategy_rows
from agent.commands.replies import INDENT, STEP, WARNING, Done, Json, Reply
from agent.commands.reports import AppOrEvery, Row, Rows, report
from agent.commands.settings import SetCommand, property_rows
from agent.errors import UserError
from agent.lifecycle import checks, domains
from agent.lifecycle.checks import Mode
from agent.ports.scheduler import CheckSpec
from agent.state.apps import App as AppRow
from agent.state.releases import Release
from agent.state.replicas import Replica
from proto.wire import Exit

ABOUT = {"checks": "How deploys replace what runs."}

Types = Annotated[str, Argument(help="Process types, with commas between; all.", metavar="process,…")]


class _SetMode(Command, frozen=True, kw_only=True):
    """Says how some process types are checked."""

    permission = "change"
    mode: ClassVar[Mode]
    verb: ClassVar[str]

    app: App
    types: Types = ""

    async def run(self, ctx: Context) -> Reply:
        """Store it; the next deploy follows it."""
        named = [read_process_type(text) for text in self.types.split(",") if text and text != checks.ALL]
        async with ctx.database.transaction() as tx:
            modes = await checks.set_mode(tx, app=ctx.app.id, mode=self.mode, types=named)
        about = f"process types {', '.join(named)} of {ctx.app.name}" if named else ctx.app.name
        facts: dict[str, Json] = {"disabled": sorted(modes.disabled), "skipped": sorted(modes.skipped)}
        return Done(said=(f"{self.verb} the checks of {about}",), facts=facts)


class ChecksEnable(_SetMode, frozen=True, kw_only=True):
    """Have new processes checked before they replace the old ones, as they are unless somebody changed it."""

    name = "checks:enable"
    mode = "enabled"
    verb = "Enabling"
    examples = ("checks:enable blog", "checks:enable blog worker")


class ChecksSkip(_SetMode, frozen=True, kw_only=True):
    """Have new processes replace the old ones as soon as they run, without a check."""

    name = "checks:skip"
    mode = "skipped"
    verb = "Skipping"
    examples = ("checks:skip blog worker",)


class ChecksDisable(_SetMode, frozen=True, kw_only=True):
    """Have old processes end before the new ones start, which are not checked: for what must never run twice.

    Between the two nothing of that type runs. If the new release fails, the old one is started again.
    """

    name = "checks:disable"
    mode = "disabled"
    verb = "Disabling"
    examples = ("checks:disable blog worker",)


class ChecksRun(Command, frozen=True, kw_only=True):
    """Run the checks against what runs. Ends with status 1 if one does not pass."""

    name = "checks:run"
    permission = "read"
    examples = ("checks:run blog", "checks:run blog web.2")

    app: App
    process: Annotated[str, Argument(help="Process type, or one of them: web, web.2; all.", metavar="process")] = ""

    async def run(self, ctx: Context) -> Reply:
        """Ask one replica after the other."""
        release = await ctx.database.read.releases.get(ctx.app.id, ctx.app.live_release or 0)
        running = await ctx.database.read.replicas.of_app(ctx.app.id)
        rows = [row for row in running if release and row.release == release.version and row.state == "ready"]
        chosen = [row for row in rows if self.process in ("", row.process, row.label)]
        if release is None or not chosen:
            raise UserError(
                "replica.not-running",
                f"{ctx.app.name} runs no {quoted(self.process)}."
                if self.process
                else f"Nothing of {ctx.app.name} runs.",
                f"These run: {' '.join(row.label for row in rows)}" if rows else f"See: ps:report {ctx.app.name}",
            )
        found: list[dict[str, Json]] = []
        for row in chosen:
            found += await self._check(ctx, release, row)
        is_well = all(one["passed"] or one["is_warning"] for one in found)
        return Done(said=(), facts={"checks": found}, status=Exit.OK if is_well else Exit.FAILED)

    async def _check(self, ctx: Context, release: Release, row: Replica) -> list[dict[str, Json]]:
        await ctx.progress(f"{STEP}Running checks for {ctx.app.name} ({row.label})")
        if (await checks.modes_of(ctx.database.read, ctx.app.id)).of(row.process) != "enabled":
            await ctx.progress(f"{INDENT}They are off for {row.process}. To have them again: checks:enable")
            return []
        found: list[dict[str, Json]] = []
        # Patience is for what starts: what runs is asked at once.
        for check in checks.due(release, row, start_seconds=0.0):
            reason = await _outcome(ctx, row, check)
            found.append(
                {
                    "process": row.label,
                    "check": check.name,
                    "passed": reason is None,
                    "reason": reason,
                    "is_warning": check.is_warning,
                }
            )
            told = f"{INDENT}{check.name}: passed" if reason is None else f"{WARNING}{check.name}: {reason}"
            await ctx.progress(told)
        return found


class ChecksSet(SetCommand, frozen=True, kw_only=True):
    """Set how deploys replace what runs.

    The checks themselves are written in the app's app.json.
    """

    name = "checks:set"
    noun = "checks"
    examples = ("checks:set blog wait-to-retire 120",)


class ChecksReport(Command, frozen=True, kw_only=True):
    """Report how deploys replace what runs."""

    name = "checks:report"
    permission = "read"
    examples = ("checks:report blog", "checks:report blog --checks-computed-wait-to-retire")

    app: AppOrEvery = None
    row: Row = ""

    async def run(self, ctx: Context) -> Reply:
        """Answer from the database alone."""

        async def rows(app: AppRow | None) -> Rows:
            properties = await property_rows(ctx, app, noun="checks")
            return {**properties, **(await _modes(ctx, app) if app else {})}

        return await report(ctx, self, noun="checks", asked=self.row, rows=rows)


async def _modes(ctx: Context, app: AppRow) -> dict[str, str]:
    modes = await checks.modes_of(ctx.database.read, app.id)
    return {
        **await strategy_rows(ctx.database.read, app, noun="checks"),
        "checks-disabled-list": ",".join(sorted(modes.disabled)) or "none",
        "checks-skipped-list": ",".join(sorted(modes.skipped)) or "none",
    }


async def _outcome(ctx: Context, row: Replica, check: CheckSpec) -> str | None:
    """Return why the check does not pass, after as many attempts as it has; `None` if it does."""
    names: Sequence[str] = await domains.of_app(ctx.database.read, ctx.app)
    host = next((name for name in names if not name.startswith("*")), ctx.app.name)
    attempts = check.attempts if check.kind in ("path", "command", "listening") else 1
    reason: str | None = None
    for attempt in range(attempts):
        if attempt:
            await asyncio.sleep(check.wait)
        status = await ctx.scheduler.look(row.id)
        if status is None or status.phase != "running":
            return "It does not run."
        reason = await ctx.prober.probe(check, status, port=row.port, host=host)
        if reason is None:
            return None
    return reason
