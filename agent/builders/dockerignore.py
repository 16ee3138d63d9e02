"""The ``.dockerignore`` file: which files of the repository stay out of a build.

Docker applies the file in its client; an engine that is sent a tar takes all of it, so this is ours to do. The rules
are those of moby/patternmatcher: the last pattern that matches a path or one of its folders decides, ``!`` brings
files back, ``*`` and ``?`` stay within a part of a path, ``**`` spans parts.

Patterns become regular expressions whose time is bounded, whoever wrote them: each ``*`` is settled by the first
match of the text after it as soon as another ``*`` follows (a later ``*`` can always make up for it), and so is each
``**`` between slashes.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence

import msgspec

from agent.errors import UserError

MAX_PATTERNS = 1_000
"""Every file is held against every pattern."""
MAX_WILD = 4
"""Wildcards of a pattern that has ``**`` within a part (``a**b``), whose time cannot be bounded otherwise."""

_GLOBSTAR = "**"
_ANY_PARTS = "(?:.*/)?"
_FIRST_PARTS = "(?:.*?/)??"


class _Pattern(msgspec.Struct, frozen=True):
    expression: re.Pattern[str]
    is_exception: bool


class Ignore:
    """The patterns of one file, ready to be held against paths."""

    def __init__(self, patterns: Sequence[_Pattern] = ()) -> None:
        self._patterns = patterns

    def ignored(self, paths: Iterable[str]) -> frozenset[str]:
        """Return those of `paths` (relative, ``/`` between parts) that stay out."""
        if not self._patterns:
            return frozenset()
        folders: dict[str, int] = {"": 0}
        return frozenset(path for path in paths if self._is_ignored(path, folders))

    def _is_ignored(self, path: str, folders: dict[str, int]) -> bool:
        inherited = self._of_folder(posixpath.dirname(path), folders)
        is_ignored = False
        for index, pattern in enumerate(self._patterns):
            if pattern.is_exception != is_ignored:
                continue
            if inherited >> index & 1 or pattern.expression.fullmatch(path):
                is_ignored = not pattern.is_exception
        return is_ignored

    def _of_folder(self, folder: str, folders: dict[str, int]) -> int:
        """Return a bit for each pattern that matches `folder` or a folder above it."""
        if (known := folders.get(folder)) is not None:
            return known
        bits = self._of_folder(posixpath.dirname(folder), folders)
        for index, pattern in enumerate(self._patterns):
            if not bits >> index & 1 and pattern.expression.fullmatch(folder):
                bits |= 1 << index
        folders[folder] = bits
        return bits


def parse_ignore(content: bytes, *, name: str = ".dockerignore") -> Ignore:
    """Return the patterns of the file `name`.

    Raises:
        UserError: ``dockerignore.invalid``, with the line's number.
    """
    patterns = []
    for number, line in enumerate(content.decode("utf-8-sig", "surrogateescape").split("\n"), start=1):
        if line.startswith("#"):
            continue
        text = line.strip()
        is_exception = text.startswith("!")
        text = _clean(text.removeprefix("!").strip()) if text != "!" else ""
        if not text and is_exception:
            raise _invalid(name, line=number, problem="has nothing after the !")
        if not text:
            continue
        try:
            patterns.append(_Pattern(re.compile(_expression(text), re.DOTALL), is_exception))
        except ValueError as error:
            raise _invalid(name, line=number, problem=str(error)) from error
    if len(patterns) > MAX_PATTERNS:
        raise UserError("dockerignore.invalid", f"{name} has more than {MAX_PATTERNS:,} patterns.")
    return Ignore(patterns)


def _clean(text: str) -> str:
    if not text:
        return ""
    cleaned = posixpath.normpath(text)
    return cleaned.lstrip("/") or "."


def _expression(pattern: str) -> str:
    """Return the regular expression of a cleaned pattern, for ``fullmatch``."""
    if _GLOBSTAR in pattern.replace("\\*", "") and not _is_by_parts(pattern):
        return _loose(pattern)
    parts = pattern.split("/")
    is_open = parts[-1] == _GLOBSTAR
    if is_open:
        parts.pop()
    chunks: list[list[str]] = [[]]
    for part in parts:
        if part == _GLOBSTAR:
            chunks.append([])
        else:
            chunks[-1].append(_part(part))
    # What stands between two ** is settled by its first match; the last chunk runs to the end.
    text = "".join(f"{part}/" for part in chunks[0]) if len(chunks) > 1 else ""
    for chunk in chunks[1:-1]:
        text += f"(?>{_FIRST_PARTS}{''.join(f'{part}/' for part in chunk)})"
    last = "/".join(chunks[-1])
    if len(chunks) > 1:
        text += _ANY_PARTS
    if is_open:
        return text + (f"{last}/.*" if last else ".*")
    return text + last


def _is_by_parts(pattern: str) -> bool:
    return all(part == _GLOBSTAR or _GLOBSTAR not in part.replace("\\*", "") for part in pattern.split("/"))


def _part(part: str) -> str:
    """Return the expression of one part of a path."""
    fixed = [_fixed(text) for text in _split_stars(part)]
    if len(fixed) == 1:
        return fixed[0]
    inner = "".join(f"(?>[^/]*?{text})" for text in fixed[1:-1])
    return f"{fixed[0]}{inner}[^/]*{fixed[-1]}"


def _split_stars(part: str) -> list[str]:
    """Split at each ``*`` that no backslash or bracket takes away."""
    pieces, position = [""], 0
    while position < len(part):
        if part[position] == "*":
            pieces.append("")
            position += 1
            continue
        size = _size_at(part, position)
        pieces[-1] += part[position : position + size]
        position += size
    return pieces


def _size_at(text: str, position: int) -> int:
    if text[position] == "\\":
        return 2
    if text[position] == "[":
        end = re.compile(r"\[\^?(?:\\.|[^\]\\])+\]", re.DOTALL).match(text, position)
        if end is None:
            raise ValueError("has a [ that is not closed")
        return end.end() - position
    return 1


def _fixed(text: str) -> str:
    """Return the expression of a text without ``*``."""
    expression, position = "", 0
    while position < len(text):
        size = _size_at(text, position)
        expression += _one(text[position : position + size])
        position += size
    return expression


def _one(token: str) -> str:
    if token == "?":
        return "[^/]"
    if token == "\\":
        raise ValueError("ends with a lone backslash")
    if token.startswith("\\"):
        return re.escape(token[1:])
    if token.startswith("[") and len(token) > 1:
        return _class(token)
    return re.escape(token)


def _class(token: str) -> str:
    is_negated = token.startswith("[^")
    items = re.findall(r"(\\.|[^\\])(?:-(\\.|[^\\]))?", token[2 if is_negated else 1 : -1], re.DOTALL)
    ranges = ""
    for low, high in items:
        low, high = low[-1], (high or low)[-1]
        if high < low:
            raise ValueError(f"has a range that runs backwards ({low}-{high})")
        ranges += f"\\U{ord(low):08x}-\\U{ord(high):08x}"
    return f"(?!/)[{'^' if is_negated else ''}{ranges}]"


def _loose(pattern: str) -> str:
    """Translate a pattern with ``**`` inside a part as moby does: ``**`` or ``**/`` is any run of whole parts."""
    if len(re.findall(r"\*\*?", pattern)) > MAX_WILD:
        raise ValueError(f"has more than {MAX_WILD} wildcards beside a ** that is not a part of its own")
    expression, position = "", 0
    while position < len(pattern):
        if pattern.startswith(_GLOBSTAR, position):
            position += 2
            position += pattern.startswith("/", position)
            expression += ".*" if position == len(pattern) else _ANY_PARTS
        elif pattern[position] == "*":
            expression += "[^/]*"
            position += 1
        else:
            size = _size_at(pattern, position)
            expression += _one(pattern[position : position + size])
            position += size
    return expression


def _invalid(name: str, *, line: int, problem: str) -> UserError:
    return UserError("dockerignore.invalid", f"Line {line} of {name} {problem}.", "Mend the line, commit and push.")
