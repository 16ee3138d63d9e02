"""The moves of properties: what users set with ``<noun>:set``, for one app or for the server, and what may be set.

A property is stored as text under ``noun.property``. Those who act on one read it with ``Properties.effective``: the
app's own value, else the server's, else their default.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from agent import sanitise
from agent.errors import Unavailable, UserError
from agent.lifecycle import registry_checks, value_checks
from agent.ports.images import BUILDER_NAMES, USUAL_BUILDER_IMAGE
from agent.state.database import Database, Transaction
from proto.events import PropertyChanged
from proto.names import AppId, process_type

log = structlog.get_logger(__name__)

RESOURCE_LIMITS = "resource.limits"
"""Property that holds the limits of processes and builds, see ``agent.lifecycle.resources``."""

BUILD_SECRETS = "builder.secrets"
"""An object of strings, in JSON. Moved by ``agent.lifecycle.build_secrets``."""

REGISTRY_LOGINS = "registry.logins"
"""A list of ``Login``, in JSON. Moved by ``agent.lifecycle.registries``."""

_UNCLEAN = "files.unclean"
"""Fact of the server: plain secrets were sealed, and what they were is still in freed pages, the log or the backup."""

Check = Callable[[str], str]
"""Returns the value as it is stored; raises ValueError with what would be right, as the end of a sentence."""


class Property(msgspec.Struct, frozen=True, kw_only=True):
    """Something that can be set."""

    name: str
    """``noun.property``."""
    help: str
    check: Check
    default: str = ""
    """What holds when nobody sets it, for reports; the truth is with those who act on it."""
    may_be_empty: bool = False
    """Whether an empty value is one, rather than unsetting."""
    is_of_apps: bool = False
    """Whether it can be set for an app alone, and not for the server."""
    is_hidden: bool = False
    """Whether commands of its own set it."""
    is_secret: bool = False
    """Whether its value is stored sealed, and kept out of events and lists."""
    is_per_process: bool = False
    """Whether it can be set for one process type besides: its name with a dot and the type behind it."""

    @property
    def noun(self) -> str:
        """What it belongs to: ``git``."""
        return self.name.partition(".")[0]

    @property
    def key(self) -> str:
        """What users type: ``deploy-branch``."""
        return self.name.partition(".")[2]


PROPERTIES: dict[str, Property] = {
    property.name: property
    for property in (
        Property(
            name="git.deploy-branch",
            help="The branch whose pushes are deployed. The first branch that is pushed becomes it.",
            check=value_checks.branch,
        ),
        Property(
            name="git.keep-git-dir",
            help="Whether builds get a .git with the commit that is built: true or false.",
            check=value_checks.truth,
            default="false",
        ),
        Property(
            name="git.rev-env-var",
            help="The variable that tells processes the commit they run; empty: none.",
            check=value_checks.variable,
            default="GIT_REV",
            may_be_empty=True,
        ),
        Property(
            name="builder.selected",
            help="The builder to take, whatever else there is: "
            + ", ".join(BUILDER_NAMES)
            + "; image: images alone are deployed, no pushes; null: nothing is.",
            check=value_checks.builder,
        ),
        Property(
            name="builder.build-dir", help="The folder of the repository that is built.", check=value_checks.folder
        ),
        Property(
            name="builder.base-image",
            help="What builders of languages build on; unset, the official image of the wanted version.",
            check=value_checks.image,
        ),
        Property(
            name="builder.apt-packages",
            help="Debian packages that builders of languages install besides, to build and to run with.",
            check=value_checks.packages,
        ),
        Property(
            name="builder.static-folder",
            help="What is served: pages as they are, where a build puts them, or by PHP; unset, it looks.",
            check=value_checks.folder,
        ),
        Property(
            name="builder.builder-image",
            help="The builder image that buildpacks come from; the app's own beats its project.toml.",
            check=value_checks.image,
            default=USUAL_BUILDER_IMAGE,
        ),
        Property(
            name="builder-pack.projecttoml-path",
            help="The project descriptor, from the folder that is built.",
            check=value_checks.folder,
            default="project.toml",
        ),
        Property(
            name="builder.timeout-seconds",
            help="How long a build may take before it is ended.",
            check=value_checks.task_seconds,
            default="1800",
        ),
        Property(
            name="builder-dockerfile.dockerfile-path",
            help="The Dockerfile, from the folder that is built.",
            check=value_checks.folder,
            default="Dockerfile",
        ),
        Property(
            name="builder-dockerfile.target",
            help="The stage of the Dockerfile to stop at; the last.",
            check=value_checks.stage,
        ),
        Property(
            name="builder-dockerfile.build-args",
            help="The values of the Dockerfile's ARGs.",
            check=value_checks.build_args,
            is_hidden=True,
            is_secret=True,
        ),
        Property(
            name=BUILD_SECRETS,
            help="What RUN --mount=type=secret gets.",
            check=str,
            is_hidden=True,
            is_secret=True,
        ),
        Property(
            name="registry.server",
            help="The registry that releases are pushed to, such as ghcr.io; Docker Hub is docker.io.",
            check=registry_checks.server,
        ),
        Property(
            name="registry.image-repo",
            help="What the app's images are called there, such as shop/blog.",
            check=registry_checks.repository,
            is_of_apps=True,
        ),
        Property(
            name="registry.image-repo-template",
            help="What images are called there, where an app has no image-repo of its own.",
            check=registry_checks.template,
            default="pushboat/{{ .AppName }}",
        ),
        Property(
            name="registry.push-on-release",
            help="Whether each release is pushed before it serves: true or false.",
            check=value_checks.truth,
            default="false",
        ),
        Property(
            name="registry.push-extra-tags",
            help="Tags with commas between that each release gets besides its number, such as latest; none.",
            check=registry_checks.tags,
        ),
        Property(
            name=REGISTRY_LOGINS,
            help="Who Pushboat is to registries.",
            check=str,
            is_hidden=True,
            is_secret=True,
        ),
        Property(
            name="ps.stop-timeout-seconds",
            help="How long a process may take to end after SIGTERM, before it is killed.",
            check=value_checks.seconds,
            default="30",
        ),
        Property(
            name="ps.strategy",
            help="How a deploy replaces what runs: rolling (batch by batch), all-at-once (all new ones beside the old"
            " ones, then the switch) or stop-first (the old ones end first). strategy.worker: for that process type.",
            check=value_checks.strategy,
            default="rolling",
            is_per_process=True,
        ),
        Property(
            name="ps.task-timeout-seconds",
            help="How long a task of a deploy, such as the Procfile's release, may take before it is ended.",
            check=value_checks.task_seconds,
            default="1800",
        ),
        Property(
            name="app-json.appjson-path",
            help="The app.json, from the folder that is built, or in an image from its working directory.",
            check=value_checks.folder,
            default="app.json",
        ),
        Property(
            name="ps.procfile-path",
            help="The Procfile, from the folder that is built, or in an image from its working directory.",
            check=value_checks.folder,
            default="Procfile",
        ),
        Property(
            name="checks.wait-to-retire",
            help="Seconds that a replaced web process may go on with requests in flight and open sockets.",
            check=value_checks.seconds,
            default="60",
        ),
        Property(
            name="checks.skipped",
            help="The process types that are not checked.",
            check=value_checks.types,
            is_hidden=True,
        ),
        Property(
            name="checks.disabled",
            help="The process types that are not checked, and end before their successors start.",
            check=value_checks.types,
            is_hidden=True,
        ),
        Property(
            name=RESOURCE_LIMITS,
            help="The limits of processes and builds.",
            check=value_checks.limits,
            is_hidden=True,
        ),
        Property(
            name="builder.cache-purged",
            help="The newest deploy when the build cache was purged.",
            check=value_checks.deploy_id,
            is_hidden=True,
        ),
        Property(
            name="proxy.balance",
            help="How requests are spread over web processes: roundrobin, or leastconn (fewest connections).",
            check=value_checks.balance,
            default="roundrobin",
        ),
    )
}
"""Every property that may be set, by name."""


def known(name: str) -> Property | None:
    """Return the property of that name, which may be that of one process type (``ps.strategy.worker``), or `None`."""
    if found := PROPERTIES.get(name):
        return found
    base, _, process = name.rpartition(".")
    found = PROPERTIES.get(base)
    if found is None or not found.is_per_process:
        return None
    try:
        return msgspec.structs.replace(found, name=f"{base}.{process_type(process)}")
    except ValueError:
        return None


def checked(name: str, value: str) -> str:
    """Return `value` as it is stored under the property `name`, which is `known`.

    Raises:
        UserError: ``property.invalid``.
    """
    found = known(name)
    assert found is not None, f"{name} is no property"
    try:
        return found.check(value)
    except ValueError as error:
        raise UserError(
            "property.invalid", f"{sanitise.quoted(value)} is no value for {found.key}.", f"Give {error}."
        ) from error


async def set_property(tx: Transaction, *, app: AppId, name: str, value: str | None) -> None:
    """Set the property ``noun.property`` of an app (or of ``SERVER``); `None` unsets it. The value is valid already."""
    found = known(name)
    is_secret = found is not None and found.is_secret
    if value is None:
        await tx.properties.unset(app, name)
    else:
        await tx.properties.set(app, name, value, is_secret=is_secret)
    shown = sanitise.MASK if value is not None and is_secret else value
    await tx.emit(PropertyChanged(app=app, name=name, value=shown))


async def seal_stored(database: Database) -> None:
    """Seal secret properties that an older Pushboat stored in plain, and leave no trace of them in the files.

    Repeating is harmless, and a start that dies in the middle is made good by the next one: that the files are still
    to be cleaned is stored together with what is sealed.
    """
    async with database.transaction() as tx:
        if count := await tx.properties.seal([name for name, known in PROPERTIES.items() if known.is_secret]):
            await tx.server.set(_UNCLEAN, "true")
    if await database.read.server.get(_UNCLEAN) is None:
        return
    try:
        is_clean = await database.scrub()
    except Unavailable as error:
        log.warning("properties.not-scrubbed", code=error.code, reason=error.message)
        return
    if is_clean:
        async with database.transaction() as tx:
            await tx.server.forget(_UNCLEAN)
    log.info("properties.sealed", count=count, is_clean=is_clean)
