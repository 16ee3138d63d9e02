"""Deno apps: what is locked is fetched before the app's files come in, and the app runs with Deno's own permissions.

Debian has no Deno: it comes from its official image, or from one that was set.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from agent.builders.bases import Base, Need, Runtime
from agent.builders.files import Files, is_plain, mapping, string
from agent.builders.language import Sketch
from agent.builders.local import MAX_LOCAL, Local, local, seen
from agent.builders.plan import BuildPlan, BuildStage, Copy, CopyFrom, Env, Run, Step, Workdir
from agent.builders.stages import APP, build_packages, foundation, running, shown
from agent.builders.version_files import asked, first_line, tool_version
from agent.errors import UserError
from agent.manifests.procfile import argv
from agent.ports.images import BuildOptions

DENO: Final = Runtime(
    title="Deno",
    official="denoland/deno:{}",
    variable="DENO_VERSION",
    offered=("2.9.3", "2.6.9", "2.4.0", "2.3.6", "2.2.12", "2.1.4", "2.0.6", "1.46.3"),
    debian={},
)
"""Its images go by whole versions only."""

STORE: Final = "/opt/deno"
"""Where modules are, in the build and when it runs."""

_MANIFESTS: Final = ("deno.json", "deno.jsonc")
_ENTRIES: Final = ("main", "server", "app", "mod", "index", "src/main", "src/server")
_ENDINGS: Final = ("ts", "js", "tsx", "mjs")
_CALL = re.compile(r"deno task ([\w:.-]+)")
_DEFAULT_EXPORT = re.compile(r"^export default\s*(?:\{|satisfies)", re.MULTILINE)
_FETCH = re.compile(r"^\s*(?:async\s+)?fetch\s*[(:]", re.MULTILINE)
_TEXT = r'"(?:[^"\\]|\\.)*"'
_COMMENT = re.compile(rf"{_TEXT}|//[^\n]*|/\*.*?\*/", re.DOTALL)
_COMMA = re.compile(rf"{_TEXT}|,(?=\s*[}}\]])", re.DOTALL)
"""What plain JSON has not, or a text, which stays as it is."""


class Deno:
    """Fulfils ``Language``."""

    name = "deno"
    looks_for = "deno.json, deno.jsonc or deno.lock"
    markers: tuple[str, ...] = _MANIFESTS

    async def sketch(self, files: Files, options: BuildOptions) -> Sketch | None:
        """See ``Language``. With a package.json, what starts the app decides: Node may use Deno's tools alone."""
        file = files.first(*_MANIFESTS)
        if not file and not files.has("deno.lock"):
            return None
        manifest = await _manifest(files, file) if file else {}
        tasks = _tasks(manifest)
        entry = _entry(files)
        has_processes = await files.has_processes()
        if files.has("package.json") and "start" not in tasks and options.selected != self.name:
            return None
        need = await _wanted(files)
        named = files.first("deno.lock") or file
        why = f"{' and '.join(dict.fromkeys(filter(None, (named, need.said_in))))}, so {need}"
        words: tuple[str, ...] = ()
        if not has_processes:
            words = await _web(files, tasks, entry)
            why = f"{why}; web: {shown(words)}"

        found = await _seen(files, manifest, file=file)
        is_locked = files.has("deno.lock")

        def plan(bases: tuple[Base, ...]) -> BuildPlan:
            said, builds = (why, bases[0].why), "build" in tasks
            return _plan(bases[0], found, is_locked=is_locked, entry=entry, builds=builds, why=said, words=words)

        notes = []
        if not is_locked:
            notes.append("There is no deno.lock: two builds may get different versions. Commit it")
        if found.is_all:
            notes.append(f"Every change of the app fetches all again, as {file} names files with unusual names")
        return Sketch(why=why, needs=(need,), notes=tuple(notes), plan=plan)


def _plan(
    base: Base,
    found: Local,
    *,
    is_locked: bool,
    entry: str,
    builds: bool,
    why: tuple[str, ...],
    words: tuple[str, ...],
) -> BuildPlan:
    stages, start = foundation(base)
    frozen = " --frozen" if is_locked else ""
    env = {"DENO_DIR": STORE, "DENO_NO_UPDATE_CHECK": "1", "DENO_NO_PROMPT": "1"}
    steps: list[Step] = [*build_packages(base), Env({**env, "NO_COLOR": "1"}), Workdir(APP)]
    steps += [Copy()] if found.is_all else seen(found.files, found.folders)
    # Before 2, packages are known from the app's files alone.
    install = () if _is_first(base) else (f"deno install{frozen}",)
    steps.append(Run((f"mkdir -p {STORE}", *install)))
    if not found.is_all:
        steps.append(Copy())
    if entry:
        steps.append(Run((f"deno cache{frozen} {entry}",)))
    if builds:
        steps.append(Run(("deno task build",)))
    copies = [CopyFrom("build", STORE, is_apps=True), CopyFrom("build", APP, is_apps=True)]
    last = running(start, copies=copies, env=env, command=words)
    return BuildPlan(why=why, stages=(*stages, BuildStage(base=start, name="build", steps=tuple(steps)), last))


def _is_first(base: Base) -> bool:
    return (base.version or base.image.rpartition(":")[2]).startswith("1.")


async def _manifest(files: Files, name: str) -> Mapping[str, Any]:
    """Return what deno.json says: JSON with comments, and commas at the ends of lists."""
    text = await files.text(name)
    for pattern in (_COMMENT, _COMMA):
        text = pattern.sub(lambda match: match[0] if match[0].startswith('"') else "", text)
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise files.invalid(name, line=error.lineno, problem=f"cannot be read: {error.msg}") from error
    except (RecursionError, ValueError) as error:
        raise files.invalid(name, problem="cannot be read: it nests too deeply or has a huge number") from error
    if not isinstance(found, dict):
        raise files.invalid(name, line=1, problem="is no object")
    return found


async def _seen(files: Files, manifest: Mapping[str, Any], *, file: str) -> Local:
    """Return what fetching packages has to see: manifests, those of a workspace too, and what these name."""
    first = [name for name in (file, "deno.lock", "package.json", ".npmrc") if name and files.has(name)]
    named = [manifest.get("importMap"), "vendor" if manifest.get("vendor") is True else ""]
    for key in ("links", "patch"):
        links = manifest.get(key)
        named += links if isinstance(links, list) else []
    found = local(files, [each for each in map(string, named) if each and "://" not in each])
    package = await files.json("package.json")
    if "workspace" in manifest or "workspaces" in package:
        of_members = {*_MANIFESTS, "package.json"}
        paths = (name.rpartition("/") for name in files.names)
        first += sorted(
            f"{at}/{name}" for at, _, name in paths if at and name in of_members and "node_modules" not in at
        )
    if len(first) > MAX_LOCAL or not all(map(is_plain, first)):
        return Local(is_all=True)
    return msgspec.structs.replace(found, files=(*first, *found.files))


def _tasks(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the tasks that are command lines; a task may be an object that holds one."""
    found = {}
    for name, task in mapping(manifest.get("tasks")).items():
        text = string(task) or string(mapping(task).get("command"))
        if text.strip() and not mapping(task).get("dependencies"):
            found[name] = text.strip()
    return found


def _entry(files: Files) -> str:
    return files.first(*(f"{name}.{ending}" for name in _ENTRIES for ending in _ENDINGS))


async def _web(files: Files, tasks: Mapping[str, str], entry: str) -> tuple[str, ...]:
    text = tasks.get("start", "")
    for _ in range(5):
        call = _CALL.fullmatch(text)
        text = tasks.get(call[1], "") if call else text
    if text and not _CALL.fullmatch(text):
        # Not by way of `deno task`, which has a shell of its own between the app and its signals.
        return argv(text, environment={})
    if not entry:
        message = "What to run is not clear: there is no Procfile, no task start, and no main.ts or server.ts."
        raise UserError("web.unknown", message, "Say it in a file named Procfile: web: deno run --allow-net web.ts")
    code = await files.code(entry)
    if _DEFAULT_EXPORT.search(code) and _FETCH.search(code):
        return argv(f'deno serve --host 0.0.0.0 --port "${{PORT:-5000}}" {shlex.quote(entry)}', environment={})
    return ("deno", "run", "--allow-env", "--allow-net", "--allow-read", entry)


async def _wanted(files: Files) -> Need:
    in_tools, tools = await tool_version(files, "deno")
    for name, text in (
        (".deno-version", await first_line(files, ".deno-version")),
        (".dvmrc", await first_line(files, ".dvmrc")),
        (tools, in_tools),
    ):
        if text:
            return _whole(asked(files, DENO, file=name, text=text))
    return Need(runtime=DENO)


def _whole(need: Need) -> Need:
    """Return the need so that a part of a version, of which there is no image, is completed by what is offered."""
    if need.wanted.pinned.count(".") == 2 or not need.wanted.pinned:
        return need
    return msgspec.structs.replace(need, wanted=msgspec.structs.replace(need.wanted, pinned=""))
