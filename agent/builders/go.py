"""Go apps: programs are built where Go is, and run where it is not.

What is vendored is built from that, so that no module is fetched; else modules are fetched in a layer before the app's
files, with the manifests of those modules that are in the repository themselves. Every program below ``cmd``, or the
one at the root, goes into ``bin``, beside the app's own files.
"""

from __future__ import annotations

import posixpath
import re
from typing import Final

import msgspec

from agent.builders.bases import Base, Need, Packages, Runtime
from agent.builders.files import Files, is_plain
from agent.builders.language import Sketch
from agent.builders.local import MAX_LOCAL
from agent.builders.plan import BuildPlan, BuildStage, Cache, Copy, CopyFrom, Env, Run, Step, Workdir, apt
from agent.builders.stages import APP, build_packages, each_in_its_folder, foundation, running
from agent.builders.versions import parse_range
from agent.errors import UserError
from agent.ports.images import BuildOptions

GO: Final = Runtime(
    title="Go",
    official="golang:{}-bookworm",
    variable="GOLANG_VERSION",
    offered=("1.25", "1.24", "1.23", "1.22"),
    debian={
        "bookworm": Packages(version="1.19.8", run=(), build=("ca-certificates", "golang-go")),
        "trixie": Packages(version="1.24.4", run=(), build=("ca-certificates", "golang-go")),
    },
)
DEBIAN: Final = Runtime(
    title="Debian",
    official="debian:{}-slim",
    variable="",
    offered=("bookworm",),
    debian={"bookworm": Packages(version="12.0", run=()), "trixie": Packages(version="13.0", run=())},
)
"""What compiled programs run on."""

MAX_LOOKED_INTO: Final = 60
"""Source files that are searched for programs."""

_LINE = re.compile(r"^go[ \t]+(\S{1,40})[ \t]*(?://.*)?$", re.MULTILINE)
_MODULE = re.compile(r"^module[ \t]+\"?([^\s\"]{1,300})\"?", re.MULTILINE)
_MAIN = re.compile(r"^package[ \t]+main\b", re.MULTILINE)
_COMMENT = re.compile(r"//[^\n]*")
_REPLACED = re.compile(r"=>[ \t]*\"?(\.{1,2}(?:/[^\s\"]{0,200})?)\"?[ \t]*$", re.MULTILINE)
"""A module in a folder of the repository, in go.mod or go.work: ``replace example.com/lib => ./lib``."""
_USED = re.compile(r"^[ \t]*(?:use[ \t]+)?\"?(\.{1,2}(?:/[^\s\"]{0,200})?)\"?[ \t]*$", re.MULTILINE)
"""One of a workspace, in go.work: ``use ./lib``, or a line of a list."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MAJOR = re.compile(r"v[0-9]+")
_USUAL: Final = ("web", "server", "api", "app", "http")
_CACHES: Final = (Cache("go-build", "/root/.cache/go-build"), Cache("go-mod", "/root/go/pkg/mod"))


class _Programs(msgspec.Struct, frozen=True):
    """What there is to build."""

    names: tuple[str, ...]
    """Sorted."""
    is_root: bool
    """Whether the one is at the root; else they are below ``cmd``."""
    module: str
    """The last part of the module's name that names something."""


class Go:
    """Fulfils ``Language``."""

    name = "go"
    looks_for = "go.mod"
    markers: tuple[str, ...] = ("go.mod",)

    async def sketch(self, files: Files, options: BuildOptions) -> Sketch | None:
        """See ``Language``."""
        if not files.has("go.mod"):
            return None
        manifest = await files.text("go.mod")
        need = await _wanted(files)
        programs = await _programs(files, manifest)
        is_vendored = files.has("vendor/modules.txt")
        named = " and ".join(dict.fromkeys(filter(None, ("go.mod", need.said_in))))
        why = f"{named}, so {need}" + (" with what is in vendor" if is_vendored else "")
        words: tuple[str, ...] = ()
        if not await files.has_processes():
            words = (f"{APP}/bin/{_web(programs)}",)
            why = f"{why}; web: {words[0]}"
        manifests = () if is_vendored else await _manifests(files)

        def plan(bases: tuple[Base, ...]) -> BuildPlan:
            return _plan(bases, programs, manifests=manifests, why=(why, bases[0].why), words=words)

        return Sketch(why=why, needs=(need, Need(runtime=DEBIAN)), plan=plan)


def _plan(
    bases: tuple[Base, ...],
    programs: _Programs,
    *,
    manifests: tuple[str, ...],
    why: tuple[str, ...],
    words: tuple[str, ...],
) -> BuildPlan:
    go, debian = bases
    stages, start = foundation(go)
    steps: list[Step] = [
        *build_packages(go),
        # Without C a program runs on any Linux; the history of the repository is not there to be noted in it.
        Env({"CGO_ENABLED": "0", "GOFLAGS": "-trimpath -buildvcs=false", "GOTOOLCHAIN": "local"}),
        Workdir(APP),
    ]
    if manifests:
        steps += [*each_in_its_folder(manifests), Run(("go mod download",), _CACHES)]
    target = f"-o bin/{programs.names[0]} ." if programs.is_root else "-o bin/ ./cmd/..."
    steps += [Copy(), Run(("mkdir -p bin", f"go build -ldflags='-s -w' {target}"), _CACHES)]
    needed = ("ca-certificates", "tzdata", *debian.needed_to_run())
    runtime = BuildStage(base=debian.image, name="runtime", steps=(apt(*needed),))
    last = running(
        "runtime",
        copies=[CopyFrom("build", APP, is_apps=True)],
        env={"PATH": f"{APP}/bin:$PATH"},
        command=words,
    )
    return BuildPlan(why=why, stages=(*stages, BuildStage(base=start, name="build", steps=tuple(steps)), runtime, last))


async def _wanted(files: Files) -> Need:
    """Return the Go that the app wants: the version that go.work says, which is none below go.mod's, or a later one."""
    for name in ("go.work", "go.mod"):
        manifest = await files.text(name)
        line = _LINE.search(manifest)
        if line is None:
            continue
        try:
            return Need(runtime=GO, wanted=parse_range(f">={line[1]}"), said_in=name)
        except ValueError as error:
            number = manifest[: line.start()].count("\n") + 1
            raise files.invalid(name, line=number, problem=f"asks for Go {line[1]!r}, which is no version") from error
    return Need(runtime=GO)


async def _manifests(files: Files) -> tuple[str, ...]:
    """Return what fetching modules has to see; nothing if that cannot be told: then the build fetches them."""
    work = _COMMENT.sub("", await files.text("go.work"))
    members = list(dict.fromkeys(["", *(posixpath.normpath(each) for each in _USED.findall(work))]))
    found = [posixpath.normpath(each) for each in _REPLACED.findall(work)]
    for member in members[:MAX_LOCAL]:
        # Of what is replaced, replacements count for nothing.
        text = _COMMENT.sub("", await files.text(posixpath.join(member, "go.mod")))
        found += [posixpath.normpath(posixpath.join(member, each)) for each in _REPLACED.findall(text)]
    folders = [each for each in dict.fromkeys((*members, *found)) if each not in ("", ".")]
    if len(folders) > MAX_LOCAL or not all(map(is_plain, folders)):
        return ()
    inside = [f"{folder}/{name}" for folder in folders for name in ("go.mod", "go.sum")]
    return tuple(filter(files.has, ("go.mod", "go.sum", "go.work", "go.work.sum", *inside)))


async def _programs(files: Files, manifest: str) -> _Programs:
    module = _MODULE.search(manifest)
    parts = [part for part in (module[1].split("/") if module else ()) if not _MAJOR.fullmatch(part)]
    name = parts[-1] if parts and _NAME.fullmatch(parts[-1]) else "app"
    sources = [each for each in sorted(files.names) if each.endswith(".go") and not each.endswith("_test.go")]
    root = sorted((each for each in sources if "/" not in each), key=lambda each: each != "main.go")[:MAX_LOOKED_INTO]
    for each in root:  # all of a folder are of one package, so this is the first or none, mostly
        if _MAIN.search(await files.code(each)):
            return _Programs((name,), True, name)
    below = [each for each in sources if each.startswith("cmd/") and each.count("/") == 2][:MAX_LOOKED_INTO]
    found = set[str]()
    for each in below:
        folder = each.split("/")[1]
        if folder not in found and _MAIN.search(await files.code(each)):
            found.add(folder)
    names = tuple(sorted(each for each in found if _NAME.fullmatch(each)))
    if not names:
        message = "There is a go.mod, but no program: no package main at the root or in a folder below cmd."
        raise UserError("go.no-program", message, "If it is in another module: builder:set <app> build-dir <folder>")
    return _Programs(names, False, name)


def _web(programs: _Programs) -> str:
    if len(programs.names) == 1:
        return programs.names[0]
    for name in (*_USUAL, programs.module):
        if name in programs.names:
            return name
    raise UserError(
        "web.unknown",
        f"What to run is not clear: there is no Procfile, and the programs are {', '.join(programs.names)[:200]}.",
        f"Say it in a file named Procfile, for instance: web: bin/{programs.names[0]}",
    )
