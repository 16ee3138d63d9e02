"""The moves of properties: what users set with ``<noun>:set``, for one app or for the server, and what may be set.

A property is stored as text under ``noun.property``. Those who act on one read it with ``Properties.effective``: the
app's own value, else the server's, else their default.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
import structlog

from agent import sanitise
from agent.errors import Unavailable, UserError
from agent.ports.images import BUILDER_NAMES, NO_BUILDERS
from agent.state.database import Database, Transaction
from proto.events import PropertyChanged
from proto.names import AppId, is_config_key, process_type

log = structlog.get_logger(__name__)

MAX_TASK_SECONDS = 86_400
"""A day. A migration that takes longer does not belong into a deploy."""

MAX_STOP_SECONDS = 3_600
"""An hour. Longer grace than this is a typing error, and holds up every deploy."""

_UNCLEAN = "files.unclean"
"""Fact of the server: plain secrets were sealed, and what they were is still in freed pages, the log or the backup."""

_BRANCH = re.compile(r"(?!-)(?!.*(?:\.\.|//|@\{|\.lock(?:/|$)))[A-Za-z0-9._/@+-]{1,200}(?<![/.])")
"""A strict part of what git-check-ref-format(1) allows."""

_IMAGE = re.compile(
    r"(?=.{1,400}\Z)[A-Za-z0-9]+(?:[._-]+[A-Za-z0-9]+)*(?::[0-9]{1,5})?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
"""As the engine reads them, a little narrower."""

MAX_PACKAGES = 100
"""Debian packages of one app. They bring many others."""

_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]{1,99}")
"""Debian Policy 5.6.1."""

_STAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")

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
    is_hidden: bool = False
    """Whether commands of its own set it."""
    is_secret: bool = False
    """Whether its value is stored sealed, and kept out of events and lists."""

    @property
    def noun(self) -> str:
        """What it belongs to: ``git``."""
        return self.name.partition(".")[0]

    @property
    def key(self) -> str:
        """What users type: ``deploy-branch``."""
        return self.name.partition(".")[2]


def _branch(value: str) -> str:
    if not _BRANCH.fullmatch(value):
        raise ValueError("a branch's name, such as main")
    return value


def _variable(value: str) -> str:
    if value and not is_config_key(value):
        raise ValueError("the name of a variable, such as GIT_REV, or empty for none")
    return value


def _folder(value: str) -> str:
    parts = value.strip("/").split("/")
    if value.startswith(("/", "-")) or any(part in ("", ".", "..") for part in parts) or not value.isprintable():
        raise ValueError("a path inside the repository, such as services/web")
    return "/".join(parts)


def _builder(value: str) -> str:
    if value not in (*BUILDER_NAMES, *NO_BUILDERS):
        raise ValueError(f"one of {', '.join((*BUILDER_NAMES, *NO_BUILDERS))}")
    return value


def _image(value: str) -> str:
    if not _IMAGE.fullmatch(value):
        raise ValueError("an image's name, such as python:3.12-slim or registry.example.com/base:1")
    return value


def _packages(value: str) -> str:
    names = value.split()
    if not names or not all(_PACKAGE.fullmatch(name) for name in names) or len(names) > MAX_PACKAGES:
        raise ValueError("names of Debian packages with a space between, such as: ffmpeg libpq-dev")
    return " ".join(names)


def _stage(value: str) -> str:
    if not _STAGE.fullmatch(value):
        raise ValueError("the name of a stage of the Dockerfile")
    return value


def _seconds(value: str) -> str:
    if not (value.isascii() and value.isdigit() and 1 <= int(value[:6]) <= MAX_STOP_SECONDS and len(value) <= 6):
        raise ValueError(f"a number of seconds from 1 to {MAX_STOP_SECONDS}")
    return str(int(value))


def _task_seconds(value: str) -> str:
    if not (value.isascii() and value.isdigit() and 1 <= int(value[:6]) <= MAX_TASK_SECONDS and len(value) <= 6):
        raise ValueError(f"a number of seconds from 1 to {MAX_TASK_SECONDS}")
    return str(int(value))


def _types(value: str) -> str:
    try:
        return ",".join(process_type(text.strip()) for text in value.split(","))
    except ValueError as error:
        raise ValueError("process types with commas between, such as worker,clock") from error


def _balance(value: str) -> str:
    if value not in ("roundrobin", "leastconn"):
        raise ValueError("roundrobin or leastconn")
    return value


def _build_args(value: str) -> str:
    try:
        return msgspec.json.encode(msgspec.json.decode(value, type=dict[str, str])).decode()
    except msgspec.DecodeError as error:
        raise ValueError("an object of strings, in JSON") from error


PROPERTIES: dict[str, Property] = {
    property.name: property
    for property in (
        Property(
            name="git.deploy-branch",
            help="The branch whose pushes are deployed. The first branch that is pushed becomes it.",
            check=_branch,
        ),
        Property(
            name="git.rev-env-var",
            help="The variable that tells processes the commit they run; empty: none.",
            check=_variable,
            default="GIT_REV",
            may_be_empty=True,
        ),
        Property(
            name="builder.selected",
            help="The builder to take, whatever else there is: "
            + ", ".join(BUILDER_NAMES)
            + "; image: images alone are deployed, no pushes; null: nothing is.",
            check=_builder,
        ),
        Property(name="builder.build-dir", help="The folder of the repository that is built.", check=_folder),
        Property(
            name="builder.base-image",
            help="What builders of languages build on; unset, the official image of the wanted version.",
            check=_image,
        ),
        Property(
            name="builder.apt-packages",
            help="Debian packages that builders of languages install besides, to build and to run with.",
            check=_packages,
        ),
        Property(
            name="builder.static-folder",
            help="What is served: pages as they are, where a build puts them, or by PHP; unset, it looks.",
            check=_folder,
        ),
        Property(
            name="builder-dockerfile.dockerfile-path",
            help="The Dockerfile, from the folder that is built.",
            check=_folder,
            default="Dockerfile",
        ),
        Property(
            name="builder-dockerfile.target", help="The stage of the Dockerfile to stop at; the last.", check=_stage
        ),
        Property(
            name="builder-dockerfile.build-args",
            help="The values of the Dockerfile's ARGs.",
            check=_build_args,
            is_hidden=True,
            is_secret=True,
        ),
        Property(
            name="ps.stop-timeout-seconds",
            help="How long a process may take to end after SIGTERM, before it is killed.",
            check=_seconds,
            default="30",
        ),
        Property(
            name="ps.stop-first",
            help="Process types, with commas between, whose old processes end before the new ones start; none.",
            check=_types,
        ),
        Property(
            name="ps.task-timeout-seconds",
            help="How long a task of a deploy, such as the Procfile's release, may take before it is ended.",
            check=_task_seconds,
            default="1800",
        ),
        Property(
            name="checks.wait-to-retire",
            help="Seconds that a replaced web process may go on with requests in flight and open sockets.",
            check=_seconds,
            default="60",
        ),
        Property(
            name="checks.skipped",
            help="The process types that are not checked.",
            check=_types,
            is_hidden=True,
        ),
        Property(
            name="checks.disabled",
            help="The process types that are not checked, and end before their successors start.",
            check=_types,
            is_hidden=True,
        ),
        Property(
            name="proxy.balance",
            help="How requests are spread over web processes: roundrobin, or leastconn (fewest connections).",
            check=_balance,
            default="roundrobin",
        ),
    )
}
"""Every property that may be set, by name."""


def checked(name: str, value: str) -> str:
    """Return `value` as it is stored under the property `name`, which is in `PROPERTIES`.

    Raises:
        UserError: ``property.invalid``.
    """
    try:
        return PROPERTIES[name].check(value)
    except ValueError as error:
        raise UserError(
            "property.invalid", f"{value[:80]!r} is no value for {PROPERTIES[name].key}.", f"Give {error}."
        ) from error


async def set_property(tx: Transaction, *, app: AppId, name: str, value: str | None) -> None:
    """Set the property ``noun.property`` of an app (or of ``SERVER``); `None` unsets it. The value is valid already."""
    known = PROPERTIES.get(name)
    is_secret = known is not None and known.is_secret
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
