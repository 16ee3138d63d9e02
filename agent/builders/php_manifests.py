"""What a PHP app's manifests say: its packages, the extensions that it and they want, for which PHP, and what it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from agent.builders.bases import Need, Packages, Runtime
from agent.builders.files import MAX_LOCK, Files, mapping, string
from agent.builders.php_extensions import ALWAYS, EXTENSIONS, THERE
from agent.builders.version_files import asked, first_line, tool_version

_SERVER: Final = ("apache2", "libapache2-mod-php", "php-cli", *ALWAYS)
PHP: Final = Runtime(
    title="PHP",
    official="php:{}-apache-bookworm",
    variable="PHP_VERSION",
    offered=("8.4", "8.3", "8.5", "8.2", "8.1"),
    debian={"bookworm": Packages(version="8.2.29", run=_SERVER), "trixie": Packages(version="8.4.11", run=_SERVER)},
)
COMPOSER: Final = Runtime(
    title="Composer",
    official="composer:{}",
    variable="COMPOSER_VERSION",
    offered=("2",),
    debian={
        "bookworm": Packages(version="2.5.5", run=("composer",)),
        "trixie": Packages(version="2.8.8", run=("composer",)),
    },
)

_DATABASES: Final = frozenset(("mysqli", "pdo_mysql", "pdo_pgsql"))
"""What is always there: apps seldom ask for the extension of the database that is set for them later."""

_EXTENSION = re.compile(r"ext-([a-z][a-z0-9_]{0,30})")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to install, and to serve."""

    file: str
    """``composer.lock``, ``composer.json`` or ``index.php``."""
    has_composer: bool
    is_locked: bool = False
    files: tuple[str, ...] = ()
    """All that the installation of the packages needs to see."""
    extensions: frozenset[str] = frozenset()
    """Those that are known and not there anyhow."""
    unknown: tuple[str, ...] = ()
    """Names of extensions that are not known here."""
    packages: frozenset[str] = frozenset()
    """Names of the packages, as far as it is told."""
    needs_source: str = ""
    """Why the app's files must be there first; empty: they need not."""


async def read_manifest(files: Files) -> Manifest | None:
    """Return what a PHP app's manifests say; `None`: it is none.

    Raises:
        UserError: ``manifest.invalid``.
    """
    if not files.has("composer.json"):
        if not files.first("index.php", "public/index.php", "web/index.php"):
            return None
        file = files.first("index.php", "public/index.php", "web/index.php")
        return Manifest(file=file, has_composer=False, extensions=_DATABASES)
    manifest = await files.json("composer.json")
    lock = await files.json("composer.lock", limit=MAX_LOCK)
    required = mapping(manifest.get("require"))
    locked = [each for each in _list(lock.get("packages")) if isinstance(each, dict)]
    wanted = _extensions([required, mapping(lock.get("platform")), *(mapping(each.get("require")) for each in locked)])
    names = {string(each.get("name")) for each in locked} | {name for name in required if "/" in name}
    is_locked = files.has("composer.lock")
    return Manifest(
        file="composer.lock" if is_locked else "composer.json",
        has_composer=True,
        is_locked=is_locked,
        files=("composer.json", *(("composer.lock",) if is_locked else ())),
        extensions=frozenset(wanted & EXTENSIONS.keys()) | _DATABASES,
        unknown=tuple(sorted(wanted - EXTENSIONS.keys() - THERE)),
        packages=frozenset(names - {""}),
        needs_source=_needs_source(manifest, locked),
    )


async def wanted_php(files: Files) -> Need:
    """Return the PHP that the app wants.

    Raises:
        UserError: ``manifest.invalid``, what asks for it is no version.
    """
    manifest = await files.json("composer.json")
    in_tools, tools = await tool_version(files, "php")
    platform = mapping(mapping(manifest.get("config")).get("platform"))
    for name, text in (
        (".php-version", await first_line(files, ".php-version")),
        (tools, in_tools),
        ("composer.json", string(platform.get("php"))),
        ("composer.json", string(mapping(manifest.get("require")).get("php"))),
    ):
        if text:
            return asked(files, PHP, file=name, text=text, meaning=_meaning(text))
    return Need(runtime=PHP)


def _meaning(text: str) -> str:
    """Return Composer's ``~8.1`` in the words of others: for it, that goes up to the next major version."""
    return re.sub(r"~\s*(?=\d)", "~>", text)


def _extensions(required: Iterable[Mapping[str, Any]]) -> set[str]:
    names = (_EXTENSION.fullmatch(name.lower().replace("ext-zend-", "ext-")) for each in required for name in each)
    return {match[1] for match in names if match}


def _needs_source(manifest: Mapping[str, Any], locked: Sequence[Mapping[str, Any]]) -> str:
    repositories = manifest.get("repositories")
    listed = list(repositories.values()) if isinstance(repositories, dict) else _list(repositories)
    kinds = [string(mapping(each).get("type")) for each in listed]
    kinds += [string(mapping(each.get("dist")).get("type")) for each in locked]
    if {"path", "artifact"} & set(kinds):
        return "composer.json has packages in folders of the app"
    if any(string(mapping(each).get("url")).startswith(".") for each in listed):
        return "composer.json has a repository in a folder of the app"
    extra = mapping(manifest.get("extra"))
    if {"patches", "patches-file", "composer-patches", "merge-plugin"} & extra.keys():
        return "composer.json has patches, or parts in other files"
    return ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
