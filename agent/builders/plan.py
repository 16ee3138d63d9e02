"""What a language builder means to build: stages of typed steps, and the one function that makes a Dockerfile of them.

Manifests are hostile text. Nothing of them gets here but versions and file names that passed a strict pattern, and
commands, which are written in JSON. `render` refuses whatever could leave its line; that would be a mistake of ours.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Final, assert_never

import msgspec

USER: Final = 10001
"""User and group that apps run as: no account of any base image has it."""
USER_NAME: Final = "pushboat"
"""Nor is there one of that name."""

_PLAIN_PATH = re.compile(r"[A-Za-z0-9._@+/][A-Za-z0-9._@+/-]*")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
_WIDTH: Final = 100
"""Columns of a comment."""


class Cache(msgspec.Struct, frozen=True):
    """A folder that outlives the build, for what a package manager has fetched."""

    name: str
    """Told apart by it: ``pip``."""
    folder: str


class Run(msgspec.Struct, frozen=True):
    """Commands of ours, for a shell; one after the other, each only if the one before succeeded."""

    commands: tuple[str, ...]
    caches: tuple[Cache, ...] = ()


class Write(msgspec.Struct, frozen=True):
    """A file of ours, written line by line: the engine's built-in reader knows no heredocs."""

    path: str
    lines: tuple[str, ...]


class Copy(msgspec.Struct, frozen=True):
    """Files of the app; all of them if none is named."""

    files: tuple[str, ...] = (".",)
    folder: str = "./"


class CopyFrom(msgspec.Struct, frozen=True):
    """A path of an earlier stage, to the same place unless ``target`` says another."""

    stage: str
    path: str
    target: str = ""
    is_apps: bool = False
    """Whether it is to belong to the user that the app runs as."""


class Env(msgspec.Struct, frozen=True):
    """Variables, from here on and in what runs."""

    values: Mapping[str, str]


class Workdir(msgspec.Struct, frozen=True):
    """The folder that what follows is done in."""

    path: str


class User(msgspec.Struct, frozen=True):
    """The account that the app runs as, with ``folder`` as its home, where what follows is done."""

    folder: str


class BecomeUser(msgspec.Struct, frozen=True):
    """What follows, and what runs, is that account's doing."""


class Command(msgspec.Struct, frozen=True):
    """What the image runs when nobody says otherwise; nothing, if there are no words, for a Procfile to say.

    Words may be hostile: they are written in JSON.
    """

    words: tuple[str, ...]


Step = Run | Write | Copy | CopyFrom | Env | Workdir | User | BecomeUser | Command


class BuildStage(msgspec.Struct, frozen=True, kw_only=True):
    """One FROM with what follows it."""

    base: str
    """An image, or the name of an earlier stage."""
    name: str = ""
    """Empty for the last one."""
    steps: tuple[Step, ...] = ()


class BuildPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A whole build."""

    why: tuple[str, ...]
    """Why it is what it is, in sentences for the one who reads the Dockerfile."""
    stages: tuple[BuildStage, ...]


def render(plan: BuildPlan, *, context: str = "", caches: str = "") -> str:
    """Return the Dockerfile.

    `context`: the folder of the build context that holds the app's files; empty: the context itself. `caches`: begins
    the names of cache folders, so that apps do not share them; empty: folders go by their path.

    Raises:
        ValueError: a step holds what may not stand in a Dockerfile.
    """
    # A comment that is no directive ends them: none that follows is read as `# syntax=`.
    lines = ["# Made by Pushboat.", *_comments(plan.why)]
    for stage in plan.stages:
        name = f" AS {_checked(stage.name, _WORD)}" if stage.name else ""
        lines += ["", f"FROM {_checked(stage.base, _IMAGE)}{name}"]
        for step in stage.steps:
            lines += _lines(step, context=context, caches=caches)
    return "\n".join(lines) + "\n"


def apt(*packages: str) -> Run:
    """Return the installation of Debian packages."""
    names = " ".join(_checked(name, _PLAIN_PATH) for name in packages)
    return Run(
        (
            "apt-get -qq update",
            # Without a terminal to ask on; what goes wrong is on standard error.
            f"DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends {names} > /dev/null",
            "rm -rf /var/lib/apt/lists/*",
        )
    )


def _lines(step: Step, *, context: str, caches: str) -> Sequence[str]:
    match step:
        case Run(commands, mounts):
            return _run(commands, mounts, caches)
        case Write(path, lines):
            quoted = [f"    {shlex.quote(line)} \\" for line in map(_one_line, lines)]
            folder = shlex.quote(path.rpartition("/")[0])
            return [f"RUN mkdir -p {folder} && printf '%s\\n' \\", *quoted, f"    > {_checked(path, _PLAIN_PATH)}"]
        case Copy(files, folder):
            names = " ".join(_in_context(name, context) for name in files)
            return [f"COPY {names} {_checked(folder, _PLAIN_PATH)}"]
        case CopyFrom(stage, path, target, is_apps):
            owner = f" --chown={USER}:{USER}" if is_apps else ""
            paths = f"{_checked(path, _PLAIN_PATH)} {_checked(target or path, _PLAIN_PATH)}"
            return [f"COPY --from={_checked(stage, _WORD)}{owner} {paths}"]
        case Env(values):
            return [f"ENV {_checked(name, _WORD)}={_env_value(value)}" for name, value in values.items()]
        case Workdir(path):
            return [f"WORKDIR {_checked(path, _PLAIN_PATH)}"]
        case User(folder):
            return _user(_checked(folder, _PLAIN_PATH))
        case BecomeUser():
            return [f"USER {USER}:{USER}"]
        case Command(words):
            # An entry point of the base image would stand before the command.
            return ["ENTRYPOINT []", *([f"CMD {json.dumps(list(words))}"] if words else [])]
    assert_never(step)


def _run(commands: Sequence[str], mounts: Sequence[Cache], caches: str) -> Sequence[str]:
    options = ""
    for mount in mounts:
        named = f"id={_checked(f'{caches}-{mount.name}', _PLAIN_PATH)}," if caches else ""
        options += f"--mount=type=cache,{named}target={_checked(mount.folder, _PLAIN_PATH)} "
    first, *others = map(_one_line, commands)
    lines = [f"RUN {options}{first}"]
    for command in others:
        lines[-1] += " \\"
        lines.append(f"    && {command}")
    return lines


def _user(folder: str) -> Sequence[str]:
    return [
        f"RUN groupadd --gid {USER} {USER_NAME} \\",
        f"    && useradd --uid {USER} --gid {USER} --create-home --skel /dev/null --home-dir {folder} {USER_NAME}",
        f"WORKDIR {folder}",
        f"ENV HOME={folder}",
    ]


def _comments(sentences: Sequence[str]) -> Sequence[str]:
    lines = []
    for sentence in sentences:
        line = "#"
        for word in ("".join(c if c.isprintable() else " " for c in sentence)).split():
            if len(line) + len(word) > _WIDTH:
                lines.append(line)
                line = "#  "
            line += f" {word}"
        lines.append(line)
    return lines


def _in_context(name: str, context: str) -> str:
    _checked(name, _PLAIN_PATH)
    if not context:
        return name
    return f"{context}/" if name == "." else f"{context}/{name}"


def _env_value(value: str) -> str:
    """Quote a value for ENV. A ``$NAME`` in it is filled in by the engine: ours alone have some."""
    text = _one_line(value)
    return text if _PLAIN_PATH.fullmatch(text) else '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _checked(text: str, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(text) or ".." in text.split("/"):
        raise ValueError(f"{text!r} may not stand in a Dockerfile")
    return text


def _one_line(text: str) -> str:
    if not text.isprintable() or text.endswith("\\"):
        raise ValueError(f"{text!r} is not one line")
    return text
