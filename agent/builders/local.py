"""What an app's manifests name that lies in its own repository: packages in folders and files, patches, plugins.

Packages are installed before the app's files come in, so whatever is named has to come with the manifests. What cannot
be copied by itself, as it is the whole app or has an unusual name, makes all files come first.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import Final

import msgspec

from agent.builders.files import Files, is_plain
from agent.builders.plan import Copy, Step
from agent.builders.stages import each_in_its_folder

MAX_LOCAL: Final = 100
"""Packages of a repository that are named one by one."""


class Local(msgspec.Struct, frozen=True, kw_only=True):
    """What has to come with the manifests."""

    folders: tuple[str, ...] = ()
    """With all that is in them."""
    files: tuple[str, ...] = ()
    is_all: bool = False
    """Whether that is all of the app, or cannot be named in a Dockerfile."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is named."""
        return not (self.folders or self.files or self.is_all)


def local(files: Files, paths: Iterable[str], *, base: str = "") -> Local:
    """Return what there is of `paths`, which are hostile and relative to the folder `base` of the app.

    What is not there is left to the tool that looks for it: it says so better.
    """
    named, folders, single = list(dict.fromkeys(paths)), list[str](), list[str]()
    if len(named) > MAX_LOCAL:
        return Local(is_all=True)
    for path in named:
        found = posixpath.normpath(posixpath.join(base, path)) if path else "."
        if found == "." or not is_plain(found):
            return Local(is_all=True)
        if files.has(found):
            single.append(found)
        elif found in files.folders:
            folders.append(found)
    return Local(folders=tuple(dict.fromkeys(folders)), files=tuple(dict.fromkeys(single)))


def seen(manifests: Iterable[str], folders: Iterable[str], *, within: str = "") -> tuple[Step, ...]:
    """Return the copying of all that an installation of packages has to see. `within`: the folder that it is in."""
    inside = f"{within}/" if within else ""
    names = [f"{inside}{name}" for name in dict.fromkeys(manifests)]
    whole = (Copy((f"{inside}{folder}/",), f"{inside}{folder}/") for folder in dict.fromkeys(folders))
    return (*each_in_its_folder(names), *whole)
