"""The app's files as a language builder sees them: the build folder's, by name, and manifests that are hostile text."""

from __future__ import annotations

import json
import posixpath
import re
import tomllib
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any, Final

from agent.builders.dockerfile import folder_of
from agent.errors import UserError
from agent.manifests.procfile import parse_procfile
from agent.ports.images import BuildOptions
from agent.ports.source import SourceTree

MAX_MANIFEST: Final = 1_000_000
"""Bytes of a file that says how to build."""
MAX_SOURCE: Final = 200_000
"""Bytes of a source file that is looked into."""
MAX_LOCK: Final = 32 << 20
"""Bytes of a lock file."""
HEAD: Final = 4096
"""Bytes of it that are looked at."""

_REGULAR: Final = 0o100000
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@+-]*(?:/[A-Za-z0-9_.@+][A-Za-z0-9_.@+-]*)*")
_AT = re.compile(r"\(at (?:line (\d+), column \d+|end of document)\)")


class Files:
    """The build folder of one commit. Names are relative to it."""

    def __init__(
        self, source: SourceTree, folder: str, sizes: Mapping[str, int], *, procfile: str = "Procfile"
    ) -> None:
        """`procfile`: where it is, by the app's setting."""
        self._source = source
        self.procfile = procfile
        self._folder = folder
        self._sizes = sizes
        self._texts: dict[str, str] = {}
        """What was read already: each reading is a git process."""
        self.names = frozenset(sizes)
        """Regular files only."""

    @classmethod
    async def of(cls, source: SourceTree, options: BuildOptions) -> Files:
        """Return the files of the folder that `options` name."""
        folder = folder_of(options)
        prefix = f"{folder}/" if folder else ""
        sizes = {
            entry.path.removeprefix(prefix): entry.size
            for entry in await source.entries()
            if entry.path.startswith(prefix) and entry.mode & 0o170000 == _REGULAR
        }
        return cls(source, folder, sizes, procfile=options.procfile_path)

    def within(self, folder: str) -> Files:
        """Return the files of a folder of these."""
        prefix = f"{folder}/"
        sizes = {name.removeprefix(prefix): size for name, size in self._sizes.items() if name.startswith(prefix)}
        return Files(self._source, self.path(folder), sizes, procfile=self.procfile)

    @cached_property
    def folders(self) -> frozenset[str]:
        """Every folder that has a regular file somewhere in it."""
        found = set[str]()
        for name in self.names:
            folder = posixpath.dirname(name)
            while folder and folder not in found:
                found.add(folder)
                folder = posixpath.dirname(folder)
        return frozenset(found)

    def has(self, *names: str) -> bool:
        """Tell whether all of `names` are there."""
        return self.names.issuperset(names)

    def first(self, *names: str) -> str:
        """Return the first of `names` that is there, or nothing."""
        return next((name for name in names if name in self.names), "")

    async def has_processes(self) -> bool:
        """Tell whether a Procfile says what to run; one with nothing but a release task does not.

        Raises:
            UserError: ``procfile.invalid``.
        """
        content = await self._source.read(self.path(self.procfile))
        return content is not None and bool(parse_procfile(content).processes)

    async def text(self, name: str, *, limit: int = MAX_MANIFEST) -> str:
        """Return a manifest's text, of at most `limit` bytes; empty if it is not there.

        Raises:
            UserError: ``manifest.invalid``, it is not UTF-8 text; ``source.file-too-large``.
        """
        if name in self._texts:
            return self._texts[name]
        content = await self._source.read(self.path(name), limit=limit) or b""
        try:
            self._texts[name] = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            raise self.invalid(name, line=line, problem="is not UTF-8 text") from error
        return self._texts[name]

    async def code(self, name: str) -> str:
        """Return the text of a source file, however it is written; empty if it is not there or large."""
        if self._sizes.get(name, MAX_SOURCE + 1) > MAX_SOURCE:
            return ""
        return (await self._source.read(self.path(name), limit=MAX_SOURCE) or b"").decode("utf-8", "replace")

    async def head(self, name: str) -> str:
        """Return the first part of a file that may be large, such as a lock file; empty if it is not there.

        Raises:
            UserError: ``source.file-too-large``, it is larger than any.
        """
        content = await self._source.read(self.path(name), limit=MAX_LOCK) or b""
        return content[:HEAD].decode("utf-8", "replace")

    async def toml(self, name: str) -> Mapping[str, Any]:
        """Return a TOML file's content; empty if it is not there.

        Raises:
            UserError: ``manifest.invalid``, with the line.
        """
        try:
            text = await self.text(name)
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            at = _AT.search(str(error))
            line = int(at[1]) if at and at[1] else text.count("\n") + 1
            problem = f"cannot be read: {_AT.sub('', str(error)).strip()[:200]}"
            raise self.invalid(name, line=line, problem=problem) from error
        except RecursionError as error:
            raise self.invalid(name, problem="is nested too deeply") from error

    async def json(self, name: str, *, limit: int = MAX_MANIFEST) -> Mapping[str, Any]:
        """Return a JSON file's object, of at most `limit` bytes; empty if it is not there.

        Raises:
            UserError: ``manifest.invalid``, with the line.
        """
        if name not in self.names:
            return {}
        try:
            found = json.loads(await self.text(name, limit=limit))
        except json.JSONDecodeError as error:
            raise self.invalid(name, line=error.lineno, problem=f"cannot be read: {error.msg}") from error
        except (RecursionError, ValueError) as error:
            raise self.invalid(name, problem="cannot be read: it nests too deeply or has a huge number") from error
        if not isinstance(found, dict):
            raise self.invalid(name, line=1, problem="is no object")
        return found

    def path(self, name: str) -> str:
        """Return where `name` is in the repository."""
        return posixpath.join(self._folder, name)

    def invalid(self, name: str, *, line: int = 0, problem: str) -> UserError:
        """Return the error about a manifest."""
        where = f"Line {line} of {self.path(name)}" if line else self.path(name)
        return UserError("manifest.invalid", f"{where} {problem}.", "Mend it, commit and push again.")


def not_for_visitors(options: BuildOptions, *, served: Collection[str]) -> str:
    """Return a regular expression of paths below a site's root: Procfile and app.json, and what settings put there.

    `served`: the folders of which one is that root. A setting may be any text, and never leaves its place in the
    configuration of a server: where it is unusual, what is no letter, digit or dash stands for any byte.
    """
    found = dict.fromkeys(("Procfile", r"app\.json"))
    for path in (options.procfile_path, options.app_json_path):
        named = posixpath.normpath(path.lstrip("/"))
        inside = [named.removeprefix(f"{folder}/") for folder in served if folder and named.startswith(f"{folder}/")]
        if named not in ("Procfile", "app.json"):
            found |= dict.fromkeys(re.escape(each) if is_plain(each) else _vague(each) for each in (named, *inside))
    return "|".join(found)


def _vague(path: str) -> str:
    return re.sub(r"[^A-Za-z0-9/_-]+", lambda found: f".{{{len(found[0].encode())}}}", path)


def is_plain(name: str) -> bool:
    """Tell whether a file's name may stand in a Dockerfile and a shell line as it is."""
    return _PLAIN_NAME.fullmatch(name) is not None and ".." not in name.split("/") and len(name) <= 200


def mapping(value: object) -> Mapping[str, Any]:
    """Return `value` if it is an object, else an empty one: manifests hold anything anywhere."""
    return value if isinstance(value, dict) else {}


def string(value: object) -> str:
    """Return `value` if it is text, else nothing."""
    return value if isinstance(value, str) else ""
