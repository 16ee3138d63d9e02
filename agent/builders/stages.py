"""The parts of a build that are the same in all languages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agent.builders.bases import Base
from agent.builders.plan import BecomeUser, BuildStage, Command, Copy, CopyFrom, Env, Step, User, apt

APP: Final = "/app"
"""Where the app is, in the build and when it runs."""


def foundation(base: Base, *, name: str = "base", before: Sequence[Step] = ()) -> tuple[tuple[BuildStage, ...], str]:
    """Return the stage that has what the app runs on, if the image has not; and what later stages begin from.

    `before`: done ahead of the installation of packages.
    """
    packages = base.needed_to_run()
    if not packages:
        return (), base.image
    return (BuildStage(base=base.image, name=name, steps=(*before, apt("ca-certificates", *packages))),), name


def each_in_its_folder(names: Sequence[str]) -> tuple[Step, ...]:
    """Return the copying of files of the app, each to where it is in the app."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    return tuple(Copy(tuple(files), f"{folder}/" if folder else "./") for folder, files in folders.items())


def build_packages(base: Base) -> tuple[Step, ...]:
    """Return the installation of what only builds need."""
    packages = base.needed_to_build()
    return (apt(*packages),) if packages else ()


def running(
    base: str,
    *,
    copies: Sequence[CopyFrom],
    env: dict[str, str],
    command: tuple[str, ...],
    before: Sequence[Step] = (),
    folder: str = APP,
) -> BuildStage:
    """Return the last stage: what was built, on `base`, run by `command` as a user of its own. `before`: done first."""
    owned = [copy for copy in copies if copy.is_apps]
    others = [copy for copy in copies if not copy.is_apps]
    return BuildStage(
        base=base,
        steps=(*before, Env(env), User(folder), *others, *owned, BecomeUser(), Command(command)),
    )


def shown(words: Sequence[str]) -> str:
    """Return a command as people write it, on one line."""
    is_script = len(words) == 3 and words[1] == "-c"
    text = words[2].removeprefix("exec ") if is_script else " ".join(words)
    return "".join(character if character.isprintable() else " " for character in text)[:200]
