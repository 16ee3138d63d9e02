"""Ports: building images, and the images that the engine holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from agent.ports.registries import NO_LOGINS, Login, Logins
from agent.ports.source import SourceTree
from agent.ports.world import Say
from proto.names import AppId, DeployId

BUILDER_NAMES = (
    "pack", "dockerfile", "go", "rust", "ruby", "elixir", "php", "java", "python", "deno", "node", "static"
)  # fmt: skip
"""Names of the builders, in order of detection."""
NO_BUILDERS = ("image", "null")
"""What may be selected in place of a builder: images alone are deployed, or nothing is."""


MAX_FILE_BYTES: Final = 1_000_000
"""Of a file that is read out of an image: a Procfile, an app.json."""

USUAL_BUILDER_IMAGE = "heroku/builder:24"
"""The builder image of Cloud Native Buildpacks where nobody says another, as Dokku has it."""


class BuildOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a user may set about builds."""

    app_name: str = "<app>"
    """For hints that name a command."""
    dockerfile_path: str = "Dockerfile"
    """Relative to the build folder."""
    build_folder: str = ""
    """Folder of the repository that is the build context; empty is the root."""
    target: str = ""
    """Stage to stop at; empty is the last."""
    build_args: Mapping[str, str] = {}
    """``ARG`` values. Of config, what was asked for by name is among them, and nothing else."""
    secrets: Mapping[str, str] = {}
    """What ``RUN --mount=type=secret,id=…`` gets, by id."""
    logins: Logins = NO_LOGINS
    """Who to be to the registries that base images come from."""
    app_json_path: str = "app.json"
    """Relative to the build folder; to the working directory of an image that is deployed as it is."""
    procfile_path: str = "Procfile"
    """Likewise."""
    demanded: tuple[str, ...] = ()
    """Properties of the two above that were set for this app alone, so that the files have to be there."""
    timeout_seconds: float = 1800.0
    memory_bytes: int = 0
    """What all steps of the build may use together; 0: what the machine gives to builds."""
    cpus: float = 0.0
    """Cores, likewise."""
    no_cache: bool = False
    cache_epoch: str = ""
    """Another one has other folders that outlive builds."""
    selected: str = ""
    """Name of the builder to take; empty: look."""
    base_image: str = ""
    """What language builders build on; empty: what fits the version."""
    apt_packages: tuple[str, ...] = ()
    """Debian packages that language builders install besides, to build and to run with."""
    static_folder: str = ""
    """Where the static builder finds the pages, within the build folder; empty: look."""
    keeps_git_dir: bool = False
    """Whether the build context gets a ``.git``, where the whole repository is built."""
    has_collectstatic: bool = True
    """Whether Django's static files are collected."""
    builder_image: str = ""
    """The builder image that buildpacks come from, as set for this app; empty: what its ``project.toml`` says."""
    usual_builder_image: str = USUAL_BUILDER_IMAGE
    """The one if that says none."""
    project_toml: str = "project.toml"
    """Where the project descriptor is, relative to the build folder."""
    buildpack_env: Mapping[str, str] = {}
    """Config that buildpacks are told, by its names: they begin with ``BP_``."""


class BuildRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One build."""

    app: AppId
    app_name: str
    deploy: DeployId
    tag: str
    """``repository:tag`` the result is to be known by."""
    labels: Mapping[str, str]
    """Put on the image, so that it can be told as ours."""
    source: SourceTree
    options: BuildOptions


class ImageInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What an image says of itself."""

    id: str
    """``sha256:…``: what releases store; a tag may move, this cannot."""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    """EXPOSEd TCP ports: as the Dockerfile has them where it is known, else ascending."""
    env: Mapping[str, str] = {}
    has_healthcheck: bool = False
    health_seconds: float = 0.0
    """How long its HEALTHCHECK may take until the engine says healthy or unhealthy; 0 without one."""
    size: int = 0
    """Bytes."""
    labels: Mapping[str, str] = {}
    tags: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    """Its names by digest, ``repository@sha256:…``."""
    created_at: float = 0.0
    """Unix seconds; 0 when the image does not say."""
    folder: str = "/"
    """Its working directory."""

    @property
    def is_nameless(self) -> bool:
        """Whether it is known by its id alone, so that the engine drops it with the next name that it loses."""
        return not self.tags and not self.digests


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a build."""

    image: ImageInfo
    on: tuple[str, ...] = ()
    """What the builder chose to build on, in sentences without a full stop; empty: it chose nothing."""


class BuildFailed(Exception):
    """The app's own build broke; building the same commit again would not help. The text is for the user."""


class Choice(msgspec.Struct, frozen=True):
    """A builder, and why it is the one."""

    builder: ImageBuilder
    why: str
    """``requirements.txt, so Python 3.12 with pip``. Hostile, as all that comes from an app."""


class ImageBuilder(Protocol):
    """Turns a source tree into an image. One implementation per kind of source, in one file."""

    name: str
    """As in ``builder:set app selected <name>`` and in the push output."""

    looks_for: str
    """The files whose presence makes this builder the one, for people: ``a Dockerfile``."""

    markers: tuple[str, ...]
    """Files at the root of what is built that speak for this builder, so that it is said when another one is taken."""

    async def detect(self, source: SourceTree, options: BuildOptions) -> str | None:
        """Return why this builder can build `source`, or `None`. Called in order; the first that can, does.

        Raises:
            UserError: it would, but for a mistake in a file that it reads.
        """
        ...

    async def dockerfile(self, source: SourceTree, options: BuildOptions, say: Say) -> str:
        """Return the Dockerfile that a build of `source` follows, without building.

        Raises:
            UserError: there is none, or the source has a mistake.
            BuildFailed: as in `build`.
            Unavailable: the engine does not answer.
        """
        ...

    async def build(self, request: BuildRequest, say: Say) -> Built:
        """Build, telling `say` each step and each line of output as it happens.

        Cancelling the call cancels the build in the engine within 2 s. Repeating it is harmless.

        Raises:
            BuildFailed: the source is at fault; the text says which step and why.
            UserError: so is a file of it that this builder reads.
            Unavailable: the engine does not answer.
        """
        ...


Choose = Callable[[SourceTree, BuildOptions], Awaitable[Choice]]
"""Picks the builder for a source tree, or raises ``UserError`` that names what was looked for."""


class Workshops(Protocol):
    """Containers of builds and of what is looked up in images, and the volumes of builds that outlive them."""

    async def read(self, image: str, paths: Sequence[str], *, app: AppId, app_name: str) -> Mapping[str, bytes]:
        """Return the content of those files of an image (``sha256:…``) that it has; `paths` are absolute.

        Nothing of the image is run. What is no regular file, such as a link, counts as not there. May be repeated.

        Raises:
            UserError: ``source.file-too-large``, one has more than `MAX_FILE_BYTES`.
            Unavailable: the engine does not answer, or the image is gone.
        """
        ...

    async def remove(self, app: AppId) -> int:
        """Remove all that builds of `app` have left, and return how many volumes that were. Repeating is harmless.

        A build of the app under way keeps its own.

        Raises:
            Unavailable: the engine does not answer; something may be left.
        """
        ...

    async def tidy(self, apps: Collection[AppId]) -> None:
        """Remove containers of builds that nobody waits for, and volumes of others than `apps`. Repeating is harmless.

        The agent that waited for them has died; or a build came to its end after its app.

        Raises:
            Unavailable: the engine does not answer; something may be left.
        """
        ...


class Images(Protocol):
    """The images that the engine holds."""

    async def find(self, reference: str) -> ImageInfo | None:
        """Return the image of that id or tag, or `None`. Never pulls."""
        ...

    async def pull(self, reference: str, say: Say, *, login: Login | None = None) -> ImageInfo:
        """Get the image from its registry, as a user of it or as nobody.

        Raises:
            UserError: ``image.not-found``; the registry has no such image, refuses, or does not answer.
            UserError: ``registry.busy``; it could not answer (429, 5xx) when asked a few times, so nothing is known of
                the image.
            Unavailable: the engine does not answer.
        """
        ...

    async def load(self, upload: AsyncIterator[bytes], *, name: str, tag: str) -> ImageInfo:
        """Take the image called `name` from an archive that ``docker save`` made; it gets `tag` and no other name.

        Whatever else the archive holds or names is left alone, and so are images here that have those names.

        Raises:
            UserError: ``image.not-in-archive``, ``image.bad-archive``, ``archive.…``, ``source.too-large``.
            Unavailable: the engine does not answer, or ``disk.full``.
        """
        ...

    async def keep(self, image: str, *, tag: str, instead_of: str = "") -> None:
        """Give the image `tag` (``repository:tag``), so that the engine's own clean-up leaves it.

        `instead_of`: the reference that `pull` has just got it by, which is taken away: with it the image would stay
        for ever, and the next deploy of that reference would not ask the registry what it means by now.
        """
        ...

    async def forget(self, reference: str) -> None:
        """Take a name away that `pull` has given, if it is there. The image stays if it has another."""
        ...

    async def ours(self) -> Sequence[ImageInfo]:
        """Return every image that has a tag of this agent's own (``Images.tag_for`` names them)."""
        ...

    def tag_for(self, app: AppId, deploy: DeployId) -> str:
        """Return the tag for what `deploy` of `app` builds: ``pushboat-<instance>/<app id>:<deploy id>``."""
        ...

    async def nameless(self, app: AppId) -> Sequence[str]:
        """Return the ids of images that were built for `app` and have no name.

        A build that was repeated, since the agent or the engine died before its result was stored, may have made
        another image, and its tag has moved on.
        """
        ...

    async def drop(self, image: str) -> None:
        """Remove an image that has no name, by its id. It stays if a container needs it. Repeating is harmless."""
        ...

    async def untag(self, tag: str) -> None:
        """Remove one tag of ours; layers that no tag and no container needs go with it. Repeating is harmless."""
        ...
