"""What apps of several languages say about versions in the same way: a file for one language, or one for all tools."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from agent.builders.bases import Need, Runtime
from agent.builders.files import Files
from agent.builders.versions import Range, parse_range

TOOLS: Final = (".tool-versions", "mise.toml", ".mise.toml")
"""Files of asdf and mise, which name the versions of all tools of an app."""

_TOOL_LINE = re.compile(r"(?P<tool>[a-z][a-z-]{0,30})\s+(?P<version>\S{1,60})(?:\s.*)?")


async def tool_version(files: Files, *names: str) -> tuple[str, str]:
    """Return the version of a tool that goes by one of `names`, and the file that says it; else nothing twice.

    Raises:
        UserError: ``manifest.invalid``.
    """
    for line in (await files.text(TOOLS[0])).splitlines():
        match = _TOOL_LINE.fullmatch(line.strip())
        if match and match["tool"] in names and match["version"] != "system":
            return match["version"], TOOLS[0]
    for file in TOOLS[1:]:
        tools = (await files.toml(file)).get("tools")
        for name in names:
            if isinstance(tools, dict) and isinstance(tools.get(name), str):
                return tools[name], file
    return "", ""


async def first_line(files: Files, name: str) -> str:
    """Return the first line of a file that is neither empty nor a comment; nothing if there is none.

    Raises:
        UserError: ``manifest.invalid``, it is not UTF-8 text.
    """
    lines = (line.strip() for line in (await files.text(name)).splitlines())
    return next((line for line in lines if line and not line.startswith("#")), "")


def asked(files: Files, runtime: Runtime, *, file: str, text: str, meaning: str = "") -> Need:
    """Return the need that `file` states by `text`, which is hostile.

    `meaning`: the same as `parse_range` reads it, where the language has a way of its own.

    Raises:
        UserError: ``manifest.invalid``, it is no version.
    """
    try:
        found = parse_range(meaning or text)
        wanted = msgspec.structs.replace(found, text=text.strip()) if found.alternatives else Range()
        return Need(runtime=runtime, wanted=wanted, said_in=file)
    except ValueError as error:
        problem = f"asks for {runtime.title} {text[:60]!r}, which is not {error}"
        raise files.invalid(file, problem=problem) from error
