"""``run``, ``enter``: a command in an app's image, or inside one of its running containers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from agent.commands.arguments import App, Argument, Flag, Option, quoted
from agent.commands.command import Command, Context
from agent.commands.replies import STEP, Ended, Reply
from agent.commands.waiting import unless_gone
from agent.errors import Unavailable, UserError
from agent.lifecycle import wishes
from agent.lifecycle.resources import resources
from agent.manifests.buildpack_image import launched
from agent.ports.scheduler import OneOff
from agent.state.releases import Release
from agent.state.replicas import Replica
from proto.names import WEB, ProcessType, is_config_key

RUN = ProcessType("run")
"""Process type of one-offs."""

SHELL = ("/bin/sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash; exec sh")
"""What ``enter`` runs if nothing is said: the best shell that the image has."""

DAY_SECONDS = 86_400


class Run(Command, frozen=True, kw_only=True):
    """Run a command in a new container of the live release, attached to your terminal.

    It gets the release's config. The container is removed when it ends, and its exit status is yours. A line of the
    Procfile can be given by its name. Flags for this command come before the command that is run.
    """

    name = "run"
    permission = "change"
    is_interactive = True
    examples = ("run blog python manage.py migrate", "run -e DEBUG=1 blog console")

    app: App
    words: Annotated[tuple[str, ...], Argument(help="What to run.", metavar="command", is_command=True)]
    env: Annotated[
        tuple[str, ...],
        Option(names=("-e", "--env"), help="Set a variable, for this run only.", metavar="KEY=value"),
    ] = ()
    seconds: Annotated[
        int, Option(names=("--ttl-seconds",), help="End it after so many seconds; a day.", metavar="seconds")
    ] = DAY_SECONDS
    has_no_tty: Annotated[
        bool, Flag(names=("--no-tty",), help="No terminal for it: what the client asks ssh for (ssh -T).")
    ] = False
    has_tty: Annotated[
        bool, Flag(names=("--force-tty",), help="A terminal in any case: what the client asks ssh for (ssh -tt).")
    ] = False

    async def run(self, ctx: Context) -> Reply:
        """Start it from the live release's own copy of everything."""
        release = await _live_release(ctx)
        added = dict(_variable(text) for text in self.env)
        config = await ctx.database.read.configs.get(ctx.app.id, release=release.version)
        mark = ctx.ids.new("o")
        revision = await ctx.database.read.properties.effective(ctx.app.id, "git.rev-env-var")
        env = wishes.environment(
            {**config, **added},
            process=RUN,
            label=f"run.{mark[1:6]}",
            port=0,
            commit=release.commit_id,
            revision_variable=wishes.REVISION_VARIABLE if revision is None else revision,
        )
        one_off = OneOff(
            app=ctx.app.id,
            app_name=ctx.app.name,
            process=RUN,
            release=release.version,
            image=release.image,
            command=await self._command(ctx, release, env),
            env=env,
            name=f"{ctx.app.name}.run.{mark[1:6]}",
            entry=mark,
            seconds=float(self.seconds),
            resources=await resources(ctx.database.read, app=ctx.app.id, process=RUN, defaults=ctx.server.resources),
        )
        return Ended(status=await unless_gone(ctx.session, ctx.scheduler.run(one_off, ctx.session)))

    async def _command(self, ctx: Context, release: Release, env: dict[str, str]) -> tuple[str, ...]:
        first, *more = self.words
        plan = next((plan for plan in release.plan.processes if plan.type == first and plan.command), None)
        if plan is None or plan.command is None or more:
            return launched(self.words) if release.plan.has_launcher else self.words
        if ctx.session.is_tty:
            await ctx.progress(f"{STEP}Found '{first}' in Procfile, running that command")
        return wishes.command_words(plan.command, plan=release.plan, env=env)


class Enter(Command, frozen=True, kw_only=True):
    """Run a shell, or a command, inside a running process.

    Without a process: web.1, or the only type that runs. What is changed inside is lost with the next deploy.
    """

    name = "enter"
    permission = "change"
    is_interactive = True
    examples = (
        "enter blog",
        "enter blog worker.2",
        "enter blog web ls -la",
        "enter blog --container-id 3f2a -- ls -la",
    )

    app: App
    process: Annotated[str, Argument(help="Process type, or one of them: web, web.2.", metavar="process")] = ""
    container: Annotated[
        str, Option(names=("--container-id",), help="Its container, in place of the process.", metavar="id")
    ] = ""
    words: Annotated[tuple[str, ...], Argument(help="What to run; a shell.", metavar="command", is_command=True)] = ()

    async def run(self, ctx: Context) -> Reply:
        """Attach to the process that was named."""
        running = [row for row in await ctx.database.read.replicas.of_app(ctx.app.id) if row.state == "ready"]
        if not running and not await ctx.scheduler.answers():
            raise Unavailable("docker.unavailable", "Docker does not answer, and nothing runs.", "See: doctor")
        running.sort(key=lambda row: (row.release != ctx.app.live_release, row.number))
        words = self.words
        if self.container:
            replica = _in_container(running, self.container, app=ctx.app.name)
            words = (self.process, *words) if self.process else words
        else:
            replica = _chosen(running, self.process, app=ctx.app.name)
        return Ended(
            status=await unless_gone(ctx.session, ctx.scheduler.enter(replica.id, words or SHELL, ctx.session))
        )


async def _live_release(ctx: Context) -> Release:
    version = ctx.app.live_release
    release = await ctx.database.read.releases.get(ctx.app.id, version) if version else None
    if release is None:
        raise UserError(
            "deploy.nothing-deployed", f"{ctx.app.name} has not been deployed.", "Deploy it first: git push"
        )
    return release


def _chosen(running: Sequence[Replica], process: str, *, app: str) -> Replica:
    """Return the replica that `process` names; without a name ``web``, or the only type that runs.

    Raises:
        UserError: ``replica.not-running``, ``replica.ambiguous``.
    """
    types = sorted({row.process for row in running})
    if not process and len(types) > 1 and WEB not in types:
        raise UserError(
            "replica.ambiguous", f"{app} runs several types of process.", f"Name one of them: {' '.join(types)}"
        )
    wanted = process or (WEB if WEB in types else "")
    for row in running:
        if not wanted or wanted in (row.process, row.label):
            return row
    raise UserError(
        "replica.not-running",
        f"{app} runs no {quoted(process)}." if process else f"Nothing of {app} runs.",
        f"These run: {' '.join(row.label for row in running)}" if running else f"See: ps:report {app}",
    )


def _in_container(running: Sequence[Replica], container: str, *, app: str) -> Replica:
    """Return the replica whose container's id begins with `container`.

    Raises:
        UserError: ``replica.not-running``.
    """
    for row in running:
        if row.container and row.container.startswith(container):
            return row
    known = [f"{row.container[:12]} ({row.label})" for row in running if row.container]
    raise UserError(
        "replica.not-running",
        f"{app} runs no container {quoted(container)}.",
        f"These run: {' '.join(known)}" if known else f"See: ps:report {app}",
    )


def _variable(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not is_config_key(key) or "\0" in value:
        raise UserError("config.invalid-pair", f"{quoted(text)} is not KEY=value.", "Write it as: -e DEBUG=1")
    return key, value
