"""Ways to turn a source tree into an image, one per file, behind ``agent.ports.images.ImageBuilder``.

A new builder is a file here and a line in `BUILDERS`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final

import msgspec

from agent.builders.buildpacks import BuildpacksBuilder
from agent.builders.deno import Deno
from agent.builders.dockerfile import DockerfileBuilder, dockerfile_of, folder_of
from agent.builders.elixir import Elixir
from agent.builders.go import Go
from agent.builders.java import Java
from agent.builders.language import Language, LanguageBuilder
from agent.builders.node import Node
from agent.builders.php import Php
from agent.builders.python import Python
from agent.builders.ruby import Ruby
from agent.builders.rust import Rust
from agent.builders.static import Static
from agent.docker.build_limits import BuildLimits
from agent.docker.engine import Engine
from agent.docker.workshops import DockerWorkshops
from agent.errors import UserError
from agent.ports.images import BuildOptions, Choice, ImageBuilder, Images
from agent.ports.source import SourceTree, TreeEntry

LANGUAGES: Final[tuple[Language, ...]] = (
    Go(),
    Rust(),
    Ruby(),
    Elixir(),
    Php(),
    Java(),
    Python(),
    Deno(),
    Node(),
    Static(),
)
"""Those with a front end beside them come before what builds front ends."""


def _of_language(means: Means, *, language: Language) -> ImageBuilder:
    return LanguageBuilder(means.engine, means.images, means.limits, language=language)


class Means(msgspec.Struct, frozen=True, kw_only=True):
    """What builders build with."""

    engine: Engine
    images: Images
    limits: BuildLimits
    workshops: DockerWorkshops
    trusted: Sequence[str] = ()
    """Builder images of Cloud Native Buildpacks that may be run."""


BUILDERS: Final[tuple[Callable[[Means], ImageBuilder], ...]] = (
    lambda means: BuildpacksBuilder(
        means.engine,
        means.images,
        workshops=means.workshops,
        trusted=means.trusted,
        memory_bytes=means.limits.memory_bytes,
    ),
    lambda means: DockerfileBuilder(means.engine, means.images, means.limits),
    *(partial(_of_language, language=language) for language in LANGUAGES),
)
"""Makes each builder, in order of detection: the first that can build a source, does."""

_LINK: Final = 0o120000


def every_builder(means: Means) -> Sequence[ImageBuilder]:
    """Return one of each, in order of detection."""
    return [make(means) for make in BUILDERS]


async def choose(builders: Sequence[ImageBuilder], source: SourceTree, options: BuildOptions) -> Choice:
    """Return the first of `builders` that can build `source`; the selected one, if one is.

    Raises:
        UserError: ``builder.none-fits``, none can; the message names what each looks for.
        UserError: a file that decides it has a mistake.
        UserError: ``source.empty``, ``source.no-such-folder``, ``build.bad-path``, or the tree breaks a cap.
    """
    entries = await source.entries()
    if not entries:
        raise UserError("source.empty", "The commit holds no files.", "Add the app's files, commit and push again.")
    folder = folder_of(options)
    if folder and not any(entry.path.startswith(f"{folder}/") for entry in entries):
        message = f"The build folder {folder} is not in the commit."
        raise UserError(
            "source.no-such-folder", message, "Push it, or set another: builder:set <app> build-dir <folder>"
        )
    prefix = f"{folder}/" if folder else ""
    names = {entry.path.removeprefix(prefix) for entry in entries if entry.path.startswith(prefix)}
    asked = [builder for builder in builders if options.selected in ("", builder.name)]
    for builder in asked:
        if why := await builder.detect(source, options):
            return Choice(builder, why + _left_alone(builders, builder, why, names, asked=options.selected))
    looked_for = ", ".join(f"{builder.looks_for} ({builder.name})" for builder in asked)
    where = f"the folder {folder}" if folder else "the root of the repository"
    message = f"There is nothing to build in {where}. Looked for: {looked_for}."
    if options.selected not in ("", DockerfileBuilder.name):
        hint = f"To have every builder look, select none: builder:set {options.app_name} selected"
    else:
        hint = _hint(entries, folder=folder, wanted=dockerfile_of(options))
    raise UserError("builder.none-fits", message, hint)


def _left_alone(
    builders: Sequence[ImageBuilder], chosen: ImageBuilder, why: str, names: Collection[str], *, asked: str
) -> str:
    """Say what else there is that could have been built, unless it is built too or the choice was the user's."""
    if asked or not chosen.markers:
        return ""
    known = {*chosen.markers, *(name for builder in builders for name in builder.markers if name in why)}
    left = dict[str, str]()
    for builder in builders:
        there = [name for name in builder.markers if name in names]
        if there and not known.intersection(there):
            left.setdefault(there[0], f"{there[0]} ({builder.name})")
    return f"; left alone: {', '.join(left.values())}" if left else ""


def _hint(entries: Sequence[TreeEntry], *, folder: str, wanted: str) -> str:
    """Say what may have been meant, by what there is instead."""
    path = posixpath.join(folder, wanted)
    files = [entry.path for entry in entries]
    if any(entry.path == path and entry.mode == _LINK for entry in entries):
        return f"{path} is a symbolic link: name its target, with builder-dockerfile:set <app> dockerfile-path <path>"
    for file in files:
        if file.lower() == path.lower():
            return f"There is a {file}: rename it to {path} (upper and lower case matter)."
    if wanted != "Dockerfile":
        return f"There is no {path}; set another with builder-dockerfile:set <app> dockerfile-path <path>"
    elsewhere = sorted(
        (file for file in files if posixpath.basename(file) == "Dockerfile"), key=lambda it: it.count("/")
    )
    if elsewhere:
        parent = posixpath.dirname(elsewhere[0])
        return f"There is {elsewhere[0]}: if that is the app, use builder:set <app> build-dir {parent or '/'}"
    return "Add one of these to the repository, commit it and push again."
