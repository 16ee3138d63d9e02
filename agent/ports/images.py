"""Ports: building images, and the images that the engine holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from agent.ports.source import SourceTree
from agent.ports.world import Say
from proto.names import AppId, DeployId

BUILDER_NAMES = (
    "dockerfile", "go", "rust", "ruby", "elixir", "php", "java", "python", "deno", "node", "static"
)  # fmt: skip
"""Names of the builders, in order of detection."""
NO_BUILDERS = ("image", "null")
"""What may be selected in place of a builder: images alone are deployed, or nothing is."""


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
    """``ARG`` values. Config is not among them."""
    timeout_seconds: float = 1800.0
    no_cache: bool = False
    selected: str = ""
    """Name of the builder to take; empty: look."""
    base_image: str = ""
    """What language builders build on; empty: what fits the version."""
    apt_packages: tuple[str, ...] = ()
    """Debian packages that language builders install besides, to build and to run with."""
    static_folder: str = ""
    """Where the static builder finds the pages, within the build folder; empty: look."""
    has_collectstatic: bool = True
    """Whether Django's static files are collected."""


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
    created_at: float = 0.0
    """Unix seconds; 0 when the image does not say."""


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

    async def build(self, request: BuildRequest, say: Say) -> ImageInfo:
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


class Images(Protocol):
    """The images that the engine holds."""

    async def find(self, reference: str) -> ImageInfo | None:
        """Return the image of that id or tag, or `None`. Never pulls."""
        ...

    async def pull(self, reference: str, say: Say) -> ImageInfo:
        """Get the image from its registry.

        Raises:
            UserError: ``image.not-found``; the registry has no such image or does not answer.
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

    async def ours(self) -> Sequence[ImageInfo]:
        """Return every image that has a tag of this agent's own (``Images.tag_for`` names them)."""
        ...

    def tag_for(self, app: AppId, deploy: DeployId) -> str:
        """Return the tag for what `deploy` of `app` builds: ``pushboat-<instance>/<app id>:<deploy id>``."""
        ...

    async def untag(self, tag: str) -> None:
        """Remove one tag of ours; layers that no tag and no container needs go with it. Repeating is harmless."""
        ...
