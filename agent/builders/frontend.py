"""The ``# syntax=`` line of a Dockerfile: it names an image that BuildKit runs to read the rest.

That image sees the whole build, so only Docker's own are let through. They live in a registry; where it cannot be
reached, the line is dropped and the engine's built-in reader does the work. Which line counts is told here at least
as widely as any engine does: a line that looks like one is one.
"""

from __future__ import annotations

import re

import msgspec

from agent.ports.images import BuildFailed

_ALLOWED = re.compile(
    r"(?:docker\.io/)?docker/dockerfile(?:-upstream)?(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_DIRECTIVE = re.compile(rb"\s*(?:#|//)\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.*?)\s*")
_COMMENT = re.compile(rb"\s*(?:(?:#|//).*)?")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Frontend(msgspec.Struct, frozen=True):
    """The image that a Dockerfile asks to be read by."""

    image: str
    without: bytes
    """The Dockerfile without that line; all instructions keep their line numbers."""


def find_frontend(dockerfile: bytes, *, path: str) -> Frontend | None:
    """Return the frontend that `dockerfile` (the file at `path`) asks for, or `None`.

    Raises:
        BuildFailed: it asks for one that is not Docker's own.
    """
    lines = dockerfile.removeprefix(_BYTE_ORDER_MARK).split(b"\n")
    if lines[0].lstrip().startswith(b"{"):
        raise BuildFailed(f"{path} begins with a {{: it is no Dockerfile.")
    image, found, last = "", set[int](), -1
    for number, line in enumerate(lines):
        if not _COMMENT.fullmatch(line.rstrip(b"\r")):
            break
        directive = _DIRECTIVE.fullmatch(line.rstrip(b"\r"))
        if directive is None:
            continue
        last = number
        if directive[1].lower() == b"syntax":
            found.add(number)
            image = _allowed(directive[2], path=path, number=number + 1)
    if not found:
        return None
    # A comment ends the directives, and `# escape=` may come after this one: the blanks go below the last of them.
    kept = [line for number, line in enumerate(lines[: last + 1]) if number not in found]
    return Frontend(image, b"\n".join([*kept, *[b"#"] * len(found), *lines[last + 1 :]]))


def _allowed(value: bytes, *, path: str, number: int) -> str:
    image = value.decode("utf-8", "replace")
    # What follows a space is arguments to some engines and nothing to others.
    if not _ALLOWED.fullmatch(image):
        raise BuildFailed(
            f"Line {number} of {path} asks for the frontend {image[:200]}, which Pushboat does not run: it would see "
            "the whole build. Allowed is docker/dockerfile in any version; or leave the line out."
        )
    return image
