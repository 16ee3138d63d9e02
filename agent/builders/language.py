"""What all language builders share: a sketch of the app, something to build on, a Dockerfile, and BuildKit.

A language says what it finds and how it is built; it never acts. The Dockerfile that comes of it is put at the root of
the build context and the app's files in a folder beside it, so that no name can clash and ``COPY`` never takes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from agent.builders.bases import Base, Bases, Need
from agent.builders.context import ContextPlan
from agent.builders.dockerfile import DockerfileBuilder, Prepared, folder_of, has_git_dir, ignored_in
from agent.builders.files import Files
from agent.builders.plan import BuildPlan, render
from agent.docker.build_limits import BuildLimits
from agent.docker.engine import Engine
from agent.errors import UserError
from agent.ports.images import BuildOptions, BuildRequest, Built, Images
from agent.ports.source import SourceTree
from agent.ports.world import Say

SOURCE: Final = "source"
"""The folder of the build context that holds the app's files."""
DOCKERFILE: Final = "Dockerfile"
"""Beside it."""


class Sketch(msgspec.Struct, frozen=True, kw_only=True):
    """What a language makes of an app."""

    why: str
    """``requirements.txt, so Python 3.12 with pip``."""
    needs: tuple[Need, ...]
    notes: tuple[str, ...] = ()
    """What its author should know, in sentences."""
    plan: Callable[[tuple[Base, ...]], BuildPlan]
    """Makes the plan, given what each of ``needs`` is built on."""


class Language(Protocol):
    """One way to build apps."""

    name: str
    looks_for: str
    markers: tuple[str, ...]
    """See ``ImageBuilder``."""

    async def sketch(self, files: Files, options: BuildOptions) -> Sketch | None:
        """Return what to make of `files`, or `None` if they are no app of this language.

        Raises:
            UserError: a manifest has a mistake, or it does not say what to run.
        """
        ...


class LanguageBuilder:
    """Implements ``ImageBuilder`` for a language."""

    def __init__(self, engine: Engine, images: Images, limits: BuildLimits, *, language: Language) -> None:
        self.name = language.name
        self.looks_for = language.looks_for
        self.markers = language.markers
        self._language = language
        self._bases = Bases(images)
        self._dockerfiles = DockerfileBuilder(engine, images, limits)

    async def detect(self, source: SourceTree, options: BuildOptions) -> str | None:
        """See ``ImageBuilder``."""
        sketch = await self._language.sketch(await Files.of(source, options), options)
        return sketch.why if sketch else None

    async def dockerfile(self, source: SourceTree, options: BuildOptions, say: Say) -> str:
        """See ``ImageBuilder``."""
        plan, _ = await self._plan(source, options, say)
        return render(plan)

    async def build(self, request: BuildRequest, say: Say) -> Built:
        """See ``ImageBuilder``."""
        # The Dockerfile's own options are about another Dockerfile.
        options = msgspec.structs.replace(request.options, target="", build_args={})
        request = msgspec.structs.replace(request, options=options)
        return await self._dockerfiles.build_prepared(request, self._prepare(request, say), say)

    async def _prepare(self, request: BuildRequest, say: Say) -> Prepared:
        source, options = request.source, request.options
        plan, on = await self._plan(source, options, say)
        folder = folder_of(options)
        text = render(plan, context=SOURCE, caches=f"{request.app}{options.cache_epoch}").encode()
        context = ContextPlan(
            folder=folder,
            ignored=await ignored_in(source, folder=folder, dockerfile=""),
            inner=SOURCE,
            added={DOCKERFILE: text},
            has_git_dir=has_git_dir(options),
        )
        return Prepared(dockerfile=DOCKERFILE, content=text, plan=context, on=on)

    async def _plan(self, source: SourceTree, options: BuildOptions, say: Say) -> tuple[BuildPlan, tuple[str, ...]]:
        """Return the plan, and what was chosen to build on, which is said."""
        sketch = await self._language.sketch(await Files.of(source, options), options)
        if sketch is None:
            raise UserError("builder.none-fits", f"There is nothing for {self.name} to build.", f"{self.looks_for}?")
        for note in sketch.notes:
            say(f" !     {note}")
        bases = await found_bases(self._bases, sketch, options, say)
        on = tuple(
            dict.fromkeys(base.why for base, need in zip(bases, sketch.needs, strict=True) if need.runtime.variable)
        )
        for each in on:
            say(f"       {each}")
        return sketch.plan(bases), on


async def found_bases(bases: Bases, sketch: Sketch, options: BuildOptions, say: Say) -> tuple[Base, ...]:
    """Return what each need of a sketch is built on.

    Raises:
        UserError: ``base.none``.
        Unavailable: the engine does not answer.
    """
    chosen, app, logins, found = options.base_image, options.app_name, options.logins, list[Base]()
    for need in sketch.needs:
        if need.is_beside:
            base = await bases.find_beside(need, first=found[0], chosen=chosen, app=app, say=say, logins=logins)
            found.append(base)
        else:
            base = await bases.find(need, chosen=chosen, app=app, say=say, logins=logins)
            found.append(base.with_packages(options.apt_packages))
    return tuple(found)
