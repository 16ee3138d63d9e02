"""What a Node app's manifests name in its own repository: packages, patches, programs, and yarn's own files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agent.builders.files import Files, mapping, string
from agent.builders.local import MAX_LOCAL, Local, local

UNUSUAL: Final = "the app is a package of its own, or has packages or patches with unusual names, or very many"

_TABLES: Final = ("dependencies", "devDependencies", "optionalDependencies", "resolutions", "overrides")
_PROTOCOLS: Final = ("file:", "link:", "portal:")
_HERE: Final = ("./", "../", "/")
_PATCH = re.compile(r"patch:[^#]{1,200}#(?:~/|\./)?([^#?:]{1,200}\.patch)")
"""As yarn has it: ``patch:left-pad@npm%3A1.3.0#~/.yarn/patches/left-pad.patch``."""
_IN_YAML = re.compile(r"^ +[^:#\n]{1,200}: *['\"]?([^'\"\s]{1,200}\.patch)['\"]? *$", re.MULTILINE)
"""In pnpm-workspace.yaml, below ``patchedDependencies``."""
_MIRROR = re.compile(r"^yarn-offline-mirror[ \t]+\"?([^\"\s]{1,200})\"?[ \t]*$", re.MULTILINE)


async def local_packages(files: Files, package: Mapping[str, Any], members: Mapping[str, Mapping[str, Any]]) -> Local:
    """Return what the installation of packages has to see besides manifests, in folders and files of the app.

    `members`: the package.json of each package of its workspaces, by the folder that it is in.

    Raises:
        UserError: ``manifest.invalid``.
    """
    patches = [*mapping(package.get("patchedDependencies")).values()]
    patches += mapping(mapping(package.get("pnpm")).get("patchedDependencies")).values()
    patches += _IN_YAML.findall(await files.text("pnpm-workspace.yaml"))
    patches += _MIRROR.findall(await files.text(".yarnrc"))
    if any(name.startswith(".yarn/") for name in files.names):
        patches.append(".yarn")  # yarn itself, plugins, patches, packages
    found = [local(files, [*_named(package), *filter(None, map(string, patches))])]
    for folder, member in members.items():
        # A program that is not there when packages are installed is not among those that scripts can call.
        programs = [folder] if member.get("bin") else []
        found += [local(files, _named(member), base=folder), local(files, programs)]
    return _together(found)


def _named(package: Mapping[str, Any]) -> list[str]:
    """Return the paths that a package.json names, relative to it."""
    values = [string(value) for table in _TABLES for value in mapping(package.get(table)).values()]
    paths = [value.partition(":")[2] for value in values if value.startswith(_PROTOCOLS)]
    paths += [value for value in values if value.startswith(_HERE)]
    paths += [match[1] for value in values if (match := _PATCH.fullmatch(value))]
    return [re.split("[#?]", path)[0] for path in paths]


def _together(each: Sequence[Local]) -> Local:
    folders = tuple(dict.fromkeys(folder for one in each for folder in one.folders))
    files = tuple(dict.fromkeys(file for one in each for file in one.files))
    is_all = any(one.is_all for one in each) or len(folders) + len(files) > MAX_LOCAL
    return Local(is_all=True) if is_all else Local(folders=folders, files=files)
