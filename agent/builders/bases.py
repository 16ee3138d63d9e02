"""What language builders build on: the language's official image of the wanted version, or Debian's own packages.

An official image that is on the machine is taken as it is; else it is fetched. Where its registry cannot be reached,
Debian's packages do on a Debian image that is there, if their version is one that the app wants; and for a while the
registry is not asked again. ``builder:set <app> base-image`` puts another image in the place of all that.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from agent.builders.failure import UNREACHABLE
from agent.builders.versions import Range, numbers
from agent.errors import UserError
from agent.ports.images import ImageInfo, Images
from agent.ports.registries import NO_LOGINS, Logins, login_for
from agent.ports.world import Say

REGISTRY_RETRY_SECONDS: Final = 600.0
"""How long an official image that could not be reached is not asked for again."""

DEBIANS: Final = ("debian:bookworm-slim", "debian:trixie-slim", "debian:bookworm", "debian:trixie")
"""Images of Debian that do where no registry can be reached, the best first."""

_VERSION = re.compile(r"v?(?:jdk-?)?(?:1\.(?=8))?(\d{1,4}(?:\.\d{1,4}){0,2})")
"""As official images set it: ``3.12.4``, ``v1.17.3``, ``jdk-21.0.5+11``, ``jdk8u432-b06``."""

_CODENAME = re.compile(r"(?<![a-z])(bookworm|trixie)(?![a-z])")


class Packages(msgspec.Struct, frozen=True, kw_only=True):
    """What Debian has of a language."""

    version: str
    run: tuple[str, ...]
    """The packages that the app needs to run."""
    build: tuple[str, ...] = ()
    """Those that a build needs besides."""


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """A language, or what serves pages."""

    title: str
    official: str
    """Its official image, with ``{}`` for the version."""
    variable: str
    """Which those set to their version; empty: it need not be told from others."""
    offered: tuple[str, ...]
    """Versions to choose from, the best first."""
    debian: Mapping[str, Packages]
    """By the code name of Debian's release."""


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """A language in the version that an app wants."""

    runtime: Runtime
    wanted: Range = Range()
    said_in: str = ""
    """The file that asks for the version."""
    is_beside: bool = False
    """Whether only the build wants it, in the image of the first need: Node for the assets of another language."""

    def __str__(self) -> str:
        """Return ``Python 3.12``, or the language alone."""
        return f"{self.runtime.title} {self.wanted.text}" if self.wanted.alternatives else self.runtime.title


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """What to build on."""

    image: str
    why: str
    """A sentence for people."""
    version: str
    packages: Packages | None = None
    """What is to be installed in it first."""

    def with_packages(self, names: tuple[str, ...]) -> Base:
        """Return the same with more Debian packages, to run with and hence to build with."""
        if not names:
            return self
        packages = self.packages or Packages(version=self.version, run=())
        more = msgspec.structs.replace(packages, run=tuple(dict.fromkeys((*packages.run, *names))))
        return msgspec.structs.replace(self, packages=more)

    def needed_to_run(self) -> tuple[str, ...]:
        """Return the Debian packages to install where the app runs."""
        return self.packages.run if self.packages else ()

    def needed_to_build(self) -> tuple[str, ...]:
        """Return the Debian packages to install besides where it is built."""
        return self.packages.build if self.packages else ()


class Bases:
    """Finds base images. Remembers which registries could not be reached."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._lost: dict[str, float] = {}
        """When an image may be asked for again, by the loop's clock."""

    async def find(self, need: Need, *, chosen: str, app: str, say: Say, logins: Logins = NO_LOGINS) -> Base:
        """Return what to build `need` on. `chosen`: the image that was set for it, if any. `logins`: to registries.

        Raises:
            UserError: ``base.none``, there is nothing that has the wanted version; the text says what is there.
            UserError: ``registry.busy``, the registry could not answer just now: nothing is known of its images.
            Unavailable: the engine does not answer.
        """
        if chosen:
            return await self._chosen(need, chosen, app=app, say=say, logins=logins)
        version = self._version(need, app=app)
        official = need.runtime.official.format(version)
        if await self._official(official, need, app=app, say=say, logins=logins):
            return _of_official(need, official, version)
        for name in DEBIANS:
            if await self._images.find(name) is None:
                continue
            packages = _packages(need, name)
            if packages:
                base = _debian(need, name, packages)
                say(f"       {official} cannot be had, as its registry cannot be reached")
                return base
        raise _none(need, app=app, there=f"{official} cannot be had, as its registry cannot be reached")

    def _version(self, need: Need, *, app: str) -> str:
        if need.wanted.pinned:
            return need.wanted.pinned
        best = need.wanted.best_of(need.runtime.offered)
        if best is None:
            raise _none(need, app=app, there=f"known are {', '.join(need.runtime.offered)}")
        return best

    async def _official(self, image: str, need: Need, *, app: str, say: Say, logins: Logins) -> bool:
        """Tell whether the official image is there, now at the latest."""
        if await self._images.find(image):
            return True
        now = asyncio.get_running_loop().time()
        if self._lost.get(need.runtime.official, 0.0) > now:
            return False
        try:
            await self._images.pull(image, lambda line: say(f"       {line}"), login=login_for(image, logins))
        except UserError as error:
            if error.code != "image.not-found":
                raise
            if not UNREACHABLE.search(error.message):
                raise _none(need, app=app, there=error.message) from error
            self._lost[need.runtime.official] = now + REGISTRY_RETRY_SECONDS
            return False
        return True

    async def find_beside(
        self, need: Need, *, first: Base, chosen: str, app: str, say: Say, logins: Logins = NO_LOGINS
    ) -> Base:
        """Return where `need` comes from that a build on `first` wants besides: there already, Debian's, or official.

        A base with `packages` and the image of `first` is to be installed in that; one with another image has what is
        to be copied. `chosen`, `app`, `say` and `logins`, and what is raised: as in `find`.
        """
        info = await self._images.find(first.image)
        version = _version_in(info, need.runtime) if info else ""
        if version and need.wanted.holds(numbers(version)):
            return Base(image=first.image, why=f"{first.image} has {need.runtime.title} {version}", version=version)
        packages = _packages(need, first.image)
        if packages and (first.packages or chosen):
            return _debian(need, first.image, packages)
        version = self._version(need, app=app)
        official = need.runtime.official.format(version)
        if await self._official(official, need, app=app, say=say, logins=logins):
            return _of_official(need, official, version)
        if packages:
            return _debian(need, first.image, packages)
        raise _none(need, app=app, there=f"{official} cannot be had, and {_lack(need, first.image)}")

    async def _chosen(self, need: Need, image: str, *, app: str, say: Say, logins: Logins) -> Base:
        info = await self._images.find(image)
        if info is None:
            info = await self._images.pull(image, lambda line: say(f"       {line}"), login=login_for(image, logins))
        runtime, version = need.runtime, _version_in(info, need.runtime)
        if not runtime.variable:
            return Base(image=image, why=f"{image}, as it is set", version="")
        if version:
            if not need.wanted.holds(numbers(version)):
                raise _none(need, app=app, there=f"the base image {image} has {runtime.title} {version}")
            return Base(image=image, why=f"{image} has {runtime.title} {version}", version=version)
        packages = _packages(need, image)
        if packages is None:
            raise _none(need, app=app, there=_lack(need, image))
        return _debian(need, image, packages)


def _of_official(need: Need, image: str, version: str) -> Base:
    is_asked = need.wanted.alternatives or need.said_in
    why = f"{image} has {need.runtime.title} {version}{'' if is_asked else ', the default'}"
    return Base(image=image, why=why, version=version)


def _debian(need: Need, image: str, packages: Packages) -> Base:
    why = f"{need.runtime.title} {packages.version} of Debian's own packages, on {image}"
    return Base(image=image, why=why, version=packages.version, packages=packages)


def _version_in(info: ImageInfo, runtime: Runtime) -> str:
    """Return the version that an image says to have, if it says one."""
    match = _VERSION.match(info.env.get(runtime.variable, "")) if runtime.variable else None
    return match[1] if match else ""


def _packages(need: Need, image: str) -> Packages | None:
    """Return what the Debian of `image` has, if that is wanted."""
    packages = need.runtime.debian.get(_codename(image))
    return packages if packages and need.wanted.holds(numbers(packages.version)) else None


def _codename(image: str) -> str:
    found = _CODENAME.search(image)
    return found[1] if found else ""


def _lack(need: Need, image: str) -> str:
    runtime = need.runtime
    packages = runtime.debian.get(_codename(image))
    if packages:
        return f"the Debian of the base image {image} has {runtime.title} {packages.version}"
    return (
        f"the base image {image} has no variable {runtime.variable} to tell its {runtime.title}, and no bookworm or "
        "trixie in its name to tell its Debian"
    )


def _none(need: Need, *, app: str, there: str) -> UserError:
    asked = f" ({need.said_in})" if need.said_in else ""
    message = f"The app wants {need}{asked}, and there is nothing to build that on: {there}."
    return UserError("base.none", message, f"Name an image that has it: {_ways_out(need.runtime, app=app)}")


def _ways_out(runtime: Runtime, *, app: str) -> str:
    command = f"builder:set {app} base-image <image>."
    if not runtime.debian:
        return (
            f"{command} Debian has no {runtime.title} of its own, so without a registry it takes such an image, with "
            f"the variable {runtime.variable} to tell its version."
        )
    does = f"does for {runtime.title} {_sentence(runtime.debian)}"
    return f"{command} Without a registry, one of {', '.join(DEBIANS[:2])} on this machine {does}."


def _sentence(debian: Mapping[str, Packages]) -> str:
    return " and ".join(f"{packages.version} ({name})" for name, packages in debian.items())
