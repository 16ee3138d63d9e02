"""Turns what was pushed into an image and a process table.

A build is repeated from the engine's cache after a crash: nothing is noted between its start and its result.
"""

from __future__ import annotations

import re

import msgspec
import structlog

from agent import sanitise
from agent.bus.subscriptions import on
from agent.errors import Retry, Stopped, Unavailable, UserError
from agent.handlers import app_files
from agent.handlers.app_files import AppFiles
from agent.handlers.patience import Patience
from agent.handlers.slots import Slots
from agent.lifecycle import app_env, deploys, registries
from agent.lifecycle.building import SELECTED, build_options, refuse
from agent.lifecycle.cleaning import Doorkeeper
from agent.manifests.app_json import AppJson
from agent.manifests.app_scripts import Scripts
from agent.manifests.buildpack_image import processes_of
from agent.manifests.procfile import Procfile
from agent.ports.images import BuildFailed, BuildOptions, BuildRequest, Choose, ImageInfo, Images, Workshops
from agent.ports.logs import Transcripts
from agent.ports.registries import login_for, name_by_digest
from agent.ports.source import SourceRepo
from agent.ports.world import Clock, Say, Stop
from agent.state.apps import App
from agent.state.database import Database
from agent.state.deploys import Deploy
from agent.state.plans import DEFAULT_PORT, Plan, ProcessPlan, TaskKind, TaskPlan
from proto.events import AppDestroyed, DeployAccepted, DeployCancelled, DeploySuperseded, Stage
from proto.names import WEB, ProcessType

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 120.0
"""How long a deploy waits for an engine that does not answer."""

RETRY_SECONDS = 2.0

TLS_PORT = 443
"""An image that EXPOSEs it speaks TLS there, which the proxy does not: it speaks HTTP to apps."""

_SECRET = re.compile(r"secret|token|passw|pwd|key|credential|auth|private|dsn", re.IGNORECASE)
"""Names of build arguments whose values are kept out of what the build says. Masking others, such as 22 or
production, would make it unreadable."""


class Builder:
    """Builds each accepted deploy that needs it, a few at a time."""

    def __init__(
        self,
        database: Database,
        *,
        repos: SourceRepo,
        images: Images,
        workshops: Workshops,
        choose: Choose,
        transcripts: Transcripts,
        clock: Clock,
        door: Doorkeeper,
        concurrency: int,
        timeout_seconds: float,
    ) -> None:
        self._database = database
        self._repos = repos
        self._images = images
        self._workshops = workshops
        self._choose = choose
        self._transcripts = transcripts
        self._door = door
        self._slots = Slots(concurrency)
        self._timeout_seconds = timeout_seconds
        self._patience = Patience(clock, seconds=PATIENCE_SECONDS)

    @on(
        DeployAccepted,
        name="builder.build",
        limit=1000,
        tries=3,
        stop_on=(DeployCancelled, DeploySuperseded, AppDestroyed),
    )
    async def build(self, event: DeployAccepted, stop: Stop) -> None:
        """Build the deploy, or note why it cannot be built. Deploys of what is built already are left alone."""
        async with self._database.transaction() as tx:
            is_ours = await deploys.building(tx, deploy=event.deploy)
        deploy = await self._database.read.deploys.get(event.deploy)
        app = await self._database.read.apps.get(event.app)
        if not is_ours or deploy is None or app is None:
            self._patience.end(event.app)
            return
        say = self._sayer(deploy)
        try:
            image, plan = await stop.race(self._image_and_plan(app, deploy, say))
        except Stopped:
            self._patience.end(app.id)
            raise
        except BuildFailed as error:
            await self._fail(deploy, "build", str(error))
        except Unavailable as error:
            await self._wait_or_fail(deploy, error)
        except UserError as error:
            await self._fail(deploy, "source", " ".join(filter(None, (error.message, error.hint))))
        else:
            self._patience.end(app.id)
            async with self._database.transaction() as tx:
                await deploys.built(tx, app=app.id, deploy=deploy.id, image=image.id, plan=plan)

    async def _image_and_plan(self, app: App, deploy: Deploy, say: Say) -> tuple[ImageInfo, Plan]:
        selected = await self._database.read.properties.effective(app.id, SELECTED) or ""
        refuse(selected, app=app.name, is_image=deploy.kind == "image")
        async with self._slots.one(lambda before: say(_place_told(before))):
            await self._door.admit_build()
            if deploy.kind == "image":
                return await self._fetch(app, deploy, say)
            assert deploy.commit_id is not None
            return await self._build_commit(app, deploy, deploy.commit_id, say)

    async def _fetch(self, app: App, deploy: Deploy, say: Say) -> tuple[ImageInfo, Plan]:
        assert deploy.image is not None
        say(f"-----> Getting the image {deploy.image}")
        found = await self._images.find(deploy.image)
        # An agent that died may have got it for this deploy, and the name that it has now goes when it is done.
        is_ours = found is None or await self._database.read.pulls.is_noted(deploy.id)
        if found and not is_ours:
            say("       It is on this machine already")
        info = found or await self._pull(deploy, deploy.image, say)
        if info.is_nameless and not is_ours:
            # With a name of ours it would go when that goes, and it is somebody else's.
            say(" !     It has no name, so that nothing but your containers keeps it: docker image prune may take it.")
            say("       Name it, and deploy it by its name: docker tag")
        else:
            tag = self._images.tag_for(deploy.app, deploy.id)
            await self._images.keep(info.id, tag=tag, instead_of=deploy.image if is_ours else "")
        async with self._database.transaction() as tx:
            await tx.pulls.forget(deploy.id)
        files = await app_files.of_image(self._workshops, info, await self._options(app), app=app.id)
        await app_env.require(self._database.read, app=app, variables=files.app_json.env)
        _tell_notes(files, say)
        await self._tell_port(deploy, info, say)
        plan = plan_of(info, procfile=files.procfile, app_json=files.app_json)
        return info, msgspec.structs.replace(plan, digest=await self._digest(app, deploy.image, info))

    async def _digest(self, app: App, reference: str, info: ImageInfo) -> str:
        """Return the image's name by digest, if it came from a registry; one that is live keeps what it had."""
        if found := name_by_digest(reference, info.digests):
            return found
        live = await self._database.read.releases.get(app.id, app.live_release) if app.live_release else None
        return live.plan.digest if live and live.image == info.id else ""

    async def _pull(self, deploy: Deploy, reference: str, say: Say) -> ImageInfo:
        """Get the image, and note before that its name is ours to take away."""
        async with self._database.transaction() as tx:
            await tx.pulls.add(deploy.id, app=deploy.app, reference=reference)
        try:
            login = login_for(reference, await registries.logins(self._database.read, deploy.app))
            return await self._images.pull(reference, say, login=login)
        except UserError:
            async with self._database.transaction() as tx:
                await tx.pulls.forget(deploy.id)
            raise

    async def _build_commit(self, app: App, deploy: Deploy, commit: str, say: Say) -> tuple[ImageInfo, Plan]:
        tree = self._repos.tree(app.id, commit)
        options = await self._options(app)
        # Files that do not parse are told before minutes of building.
        files = await app_files.of_tree(tree, options)
        await app_env.require(self._database.read, app=app, variables=files.app_json.env)
        choice = await self._choose(tree, options)
        say(f"-----> Building {app.name} from {commit[:8]} with {choice.builder.name}")
        say(f"       {choice.why}")
        for note in await tree.notes():
            say(f" !     {note}")
        _tell_notes(files, say)
        request = BuildRequest(
            app=app.id,
            app_name=app.name,
            deploy=deploy.id,
            tag=self._images.tag_for(app.id, deploy.id),
            labels={"com.pushboat.app-id": app.id},
            source=tree,
            options=options,
        )
        # The engine puts the values of ARGs into the names of steps. And a step may print what it was given.
        told = {**options.build_args, **options.buildpack_env}
        arguments = [value for key, value in told.items() if _SECRET.search(key)]
        masked = sanitise.without([*arguments, *options.secrets.values()])
        try:
            built = await choice.builder.build(request, lambda line: say(masked(line)))
        except BuildFailed as error:
            raise BuildFailed(masked(str(error))) from error
        await self._tell_port(deploy, built.image, say)
        plan = plan_of(built.image, procfile=files.procfile, app_json=files.app_json)
        return built.image, msgspec.structs.replace(
            plan, builder=choice.builder.name, builder_why=choice.why, builder_on=built.on
        )

    async def _options(self, app: App) -> BuildOptions:
        return await build_options(
            self._database.read, app=app.id, name=app.name, timeout_seconds=self._timeout_seconds
        )

    async def _tell_port(self, deploy: Deploy, info: ImageInfo, say: Say) -> None:
        """Say where web has to listen, if the image would have it elsewhere."""
        if TLS_PORT in info.ports and "PORT" not in await self._database.read.configs.merged(deploy.app):
            say(f" !     Port {TLS_PORT}, which the image EXPOSEs, is passed over: it is for TLS, apps speak HTTP.")
            say(f"       web gets PORT={port_of(info)}. If it listens for HTTP there: config:set PORT={TLS_PORT}")

    async def _wait_or_fail(self, deploy: Deploy, error: Unavailable) -> None:
        if self._patience.begin(deploy.app, deploy.id):
            self._transcripts.say(deploy.app, deploy.id, f" !     {error.message} Trying again.")
        if not self._patience.is_over(deploy.app, deploy.id):
            raise Retry(error.message, after=RETRY_SECONDS)
        await self._fail(deploy, "build", error.message)

    async def _fail(self, deploy: Deploy, stage: Stage, reason: str) -> None:
        log.info("build.failed", deploy=deploy.id, stage=stage)
        self._patience.end(deploy.app)
        async with self._database.transaction() as tx:
            await deploys.fail(tx, deploy=deploy, stage=stage, reason=reason)

    def _sayer(self, deploy: Deploy) -> Say:
        return lambda line: self._transcripts.say(deploy.app, deploy.id, line)


def _tell_notes(files: AppFiles, say: Say) -> None:
    for note in files.app_json.notes:
        say(f" !     {note}")


def _place_told(before: int) -> str:
    builds = "1 build" if before == 1 else f"{before} builds"
    return f"       Waiting for a free build slot: {builds} before yours"


def plan_of(info: ImageInfo, *, procfile: Procfile | None, app_json: AppJson) -> Plan:
    """Return the process table of an image: the Procfile's, else the image's own command as ``web``.

    An image of buildpacks has a table of its own, which lines of the Procfile replace or add to.
    """
    built = processes_of(info.labels, info.command) if not info.entrypoint else {}
    commands: dict[ProcessType, str | None] = built or {WEB: None}
    if procfile and procfile.processes:
        commands = {**built, **procfile.processes}
    return Plan(
        processes=tuple(
            ProcessPlan(
                type=process,
                command=command,
                checks=tuple(app_json.checks.get(process, ())),
                max_parallel=app_json.batches.get(process, 0),
            )
            for process, command in commands.items()
        ),
        port=port_of(info),
        has_entrypoint=bool(info.entrypoint),
        has_launcher=bool(built),
        has_healthcheck=info.has_healthcheck,
        health_seconds=info.health_seconds,
        formation={process: count for process, count in app_json.quantities.items() if process in commands},
        tasks=_tasks(procfile, app_json.scripts),
        env=app_json.env,
    )


def port_of(info: ImageInfo) -> int:
    """Return where an image serves HTTP: at the first port that it EXPOSEs, but for that of TLS."""
    return next((port for port in info.ports if port != TLS_PORT), DEFAULT_PORT)


def _tasks(procfile: Procfile | None, scripts: Scripts) -> tuple[TaskPlan, ...]:
    """Return what a deploy runs once, in this order."""
    commands: tuple[tuple[TaskKind, str | None], ...] = (
        ("predeploy", scripts.predeploy),
        ("release", procfile.release if procfile else None),
        ("setup", scripts.setup),
        ("postdeploy", scripts.postdeploy),
    )
    return tuple(TaskPlan(kind, command) for kind, command in commands if command is not None)
