"""What an image of buildpacks says of its processes: the label ``io.buildpacks.build.metadata`` (Platform API).

A process is begun by ``/cnb/process/<type>``, which finds its words and its variables itself. Whatever else is run in
such an image is run by its launcher, since what buildpacks have installed is found through variables that it sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from proto.names import WEB, ProcessType, process_type

PROCESS = "/cnb/process/"
"""Begins what begins a process."""
LAUNCHER = "/cnb/lifecycle/launcher"
METADATA = "io.buildpacks.build.metadata"


class _Process(msgspec.Struct, frozen=True):
    type: str = ""


class _Metadata(msgspec.Struct, frozen=True):
    processes: list[_Process] | None = None


def processes_of(labels: Mapping[str, str], command: Sequence[str]) -> dict[ProcessType, str | None]:
    """Return the process table of an image whose `labels` and `command` these are; empty if it is none of buildpacks.

    Without a process ``web`` the image's default one is it. Names that no process type of ours may have are left out.
    """
    if not command or not command[0].startswith(PROCESS):
        return {}
    try:
        found = msgspec.json.decode(labels.get(METADATA, "{}"), type=_Metadata)
    except msgspec.DecodeError:
        found = _Metadata()
    table: dict[ProcessType, str | None] = {}
    for process in found.processes or ():
        try:
            table[process_type(process.type)] = f"{PROCESS}{process.type}"
        except ValueError:
            continue
    table.setdefault(WEB, command[0])
    return table


def launched(words: Sequence[str]) -> tuple[str, ...]:
    """Return `words` as the launcher is to run them: just these, by no shell; a process of the image by itself."""
    return tuple(words) if words and words[0].startswith(PROCESS) else (LAUNCHER, "--", *words)
