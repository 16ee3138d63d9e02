"""What a Ruby app's manifests say: which gems it has, what their installation has to see, and for which Ruby.

Gemfile and lock file are searched with patterns; a Gemfile is a program, and hostile.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from agent.builders.bases import Need, Packages, Runtime
from agent.builders.files import Files, is_plain
from agent.builders.local import local
from agent.builders.version_files import TOOLS, asked, first_line, tool_version
from agent.errors import UserError

RUBY: Final = Runtime(
    title="Ruby",
    official="ruby:{}-slim-bookworm",
    variable="RUBY_VERSION",
    offered=("3.4", "3.3", "4.0", "3.2", "3.1"),
    debian={
        "bookworm": Packages(version="3.1.2", run=("ruby", "ruby-bundler"), build=("ruby-dev",)),
        "trixie": Packages(version="3.3.8", run=("ruby", "ruby-bundler"), build=("ruby-dev",)),
    },
)

VENDORED: Final = "vendor/cache"
"""Where ``bundle cache`` puts gems; what is there is not fetched."""

_IN_LOCK = re.compile(r"^ {4}([A-Za-z0-9][A-Za-z0-9._-]{0,100}) \(", re.MULTILINE)
_IN_GEMFILE = re.compile(r"^[ \t]*gem[ \t(]+[\"']([A-Za-z0-9][A-Za-z0-9._-]{0,100})[\"']", re.MULTILINE)
_SECTION = re.compile(r"^([A-Z][A-Z ]{1,30})\n((?: .*\n?)*)", re.MULTILINE)
_REMOTE = re.compile(r"^ {2}remote: (\S{1,200})$", re.MULTILINE)
_RUBY_LOCKED = re.compile(r"^ +ruby ([0-9]+(?:\.[0-9]+){1,2})", re.MULTILINE)
_RUBY_SAID = re.compile(
    r"^[ \t]*ruby[ \t(]+[\"']([^\"'\n]{1,40})[\"'](?:[ \t]*,[ \t]*[\"']([^\"'\n]{1,40})[\"'])?", re.M
)
_ELSEWHERE = re.compile(
    r"^[ \t]*(?:eval_gemfile|instance_eval|require_relative)\b|\bDir\.glob\b|\bDir\["
    r"|\b(?:File\.(?:read|open|foreach)|YAML\.load_file)(?![ (]*[\"']\.(?:ruby-version|tool-versions)[\"'])",
    re.MULTILINE,
)
_PATH = re.compile(r"(?:\bpath:[ \t]*|:path[ \t]*=>[ \t]*|^[ \t]*path[ \t(]+)[\"']([^\"'\n]{1,200})[\"']", re.MULTILINE)
_GEMSPEC = re.compile(r"^[ \t]*gemspec\b", re.MULTILINE)
_PATCH = re.compile(r"(?:ruby-)?(.*?)(?:-?p[0-9]+)?")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to install."""

    gems: frozenset[str]
    """Names of all gems, as far as it is told; those of development too."""
    is_locked: bool
    files: tuple[str, ...]
    """All that the installation of the gems needs to see."""
    folders: tuple[str, ...] = ()
    """And all folders."""
    needs_source: str = ""
    """Why the app's files must be there first; empty: they need not."""
    has_foreign: bool = False
    """Whether there are gems that are not the app's own: some of them are compiled."""


async def read_manifest(files: Files) -> Manifest | None:
    """Return what a Ruby app's manifests say; `None`: it is none.

    Raises:
        UserError: ``manifest.invalid``, or ``gemfile.platform``: the lock file was made for another system alone.
    """
    if not files.has("Gemfile"):
        return None
    gemfile, lock = await files.text("Gemfile"), await files.text("Gemfile.lock")
    sections = [(match[1], match[2]) for match in _SECTION.finditer(lock)]
    _check_platforms(files, "".join(text for name, text in sections if name == "PLATFORMS"))
    own = [remote for name, text in sections if name == "PATH" for remote in _REMOTE.findall(text)]
    if not lock:
        own = [*_PATH.findall(gemfile), *(["."] if _GEMSPEC.search(gemfile) else [])]
    there = local(files, own)
    needs_source = ""
    if there.is_all:
        needs_source = "the app is a gem itself, or has some in folders with unusual names"
    if _ELSEWHERE.search(gemfile):
        needs_source = "the Gemfile reads other files"
    is_vendored = any(name.startswith(f"{VENDORED}/") and name.endswith(".gem") for name in files.names)
    kept = (name for name in ("Gemfile", "Gemfile.lock", ".ruby-version", TOOLS[0]) if files.has(name))
    return Manifest(
        gems=frozenset(_IN_LOCK.findall(lock) or _IN_GEMFILE.findall(gemfile)),
        is_locked=files.has("Gemfile.lock"),
        files=tuple(kept),
        folders=(*there.folders, *((VENDORED,) if is_vendored else ())),
        needs_source=needs_source,
        has_foreign=not files.has("Gemfile.lock")
        or any(name in ("GEM", "GIT") and _IN_LOCK.search(text) for name, text in sections),
    )


async def wanted_ruby(files: Files) -> Need:
    """Return the Ruby that the app wants.

    Raises:
        UserError: ``manifest.invalid``, what asks for it is no version.
    """
    said = _RUBY_SAID.search(await files.text("Gemfile"))
    locked = _RUBY_LOCKED.search(await files.text("Gemfile.lock"))
    in_tools, tools = await tool_version(files, "ruby")
    for name, text in (
        (".ruby-version", await first_line(files, ".ruby-version")),
        ("Gemfile", " ".join(filter(None, said.groups())) if said else ""),
        (tools, in_tools),
        ("Gemfile.lock", locked[1] if locked else ""),
    ):
        plain = _PATCH.fullmatch(text)
        if plain and plain[1]:
            return asked(files, RUBY, file=name, text=plain[1])
    return Need(runtime=RUBY)


def _check_platforms(files: Files, text: str) -> None:
    """Refuse a lock file that Bundler refuses too, minutes later and in other words."""
    platforms = text.split()
    if platforms and not any(each == "ruby" or "linux" in each for each in platforms):
        shown = ", ".join(each for each in platforms if is_plain(each))[:100]
        raise UserError(
            "gemfile.platform",
            f"{files.path('Gemfile.lock')} was made for {shown} alone, and apps run on Linux.",
            "Run: bundle lock --add-platform x86_64-linux aarch64-linux; commit it and push again.",
        )
