"""Elixir apps: mix builds a release, which runs with an Erlang of its own inside; Phoenix deploys its assets first.

A release is bound to the C library that it was built with, so it runs on the image that it was built on: with the
language, if that is an official one; without, if it is a Debian.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from agent.builders.assets import Assets, assets_of
from agent.builders.bases import Base, Need, Packages, Runtime
from agent.builders.files import Files, is_plain
from agent.builders.language import Sketch
from agent.builders.local import local, seen
from agent.builders.plan import BuildPlan, BuildStage, Cache, Copy, CopyFrom, Env, Run, Step, Workdir, apt
from agent.builders.stages import APP, build_packages, foundation, running, shown
from agent.builders.version_files import asked, tool_version
from agent.errors import UserError
from agent.manifests.procfile import argv
from agent.ports.images import BuildOptions

_RUNS: Final = ("libncurses6", "libstdc++6", "openssl")
"""What Erlang is linked to."""
_BUILDS: Final = ("elixir", "erlang-dev", "erlang-nox", "git")

ELIXIR: Final = Runtime(
    title="Elixir",
    official="elixir:{}-slim",
    variable="ELIXIR_VERSION",
    offered=("1.18", "1.19", "1.17", "1.16", "1.15", "1.14"),
    debian={
        "bookworm": Packages(version="1.14.0", run=_RUNS, build=_BUILDS),
        "trixie": Packages(version="1.18.3", run=_RUNS, build=_BUILDS),
    },
)
RELEASE: Final = "/opt/release"
"""Where the release is built; it runs in `APP`."""

_CACHES: Final = (Cache("hex", "/root/.hex"), Cache("mix", "/root/.cache"))
_VERSION = re.compile(r"\belixir:\s*\"([^\"\n]{1,60})\"")
_APP_NAME = re.compile(r"\bapp:\s*:([a-z_][a-z0-9_]{0,60})\b")
_RELEASES = re.compile(r"\breleases:\s*\[\s*(?:\{:)?([a-z_][a-z0-9_]{0,60})\b")
_PACK_VERSION = re.compile(r"^\s*elixir_version\s*=\s*['\"]?\(?([0-9][0-9.]{0,20})", re.MULTILINE)
_OTP = re.compile(r"-otp-[0-9]+$")
_MIX = re.compile(r"\b(?:mix|elixir|iex)\b")
_FETCHED = re.compile(r"\{:[a-z_][a-z0-9_]*,\s*(?:\"|'|github:|git:|\[?>?=)")
_PATH = re.compile(r"\bpath:\s*\"([^\"\n]{1,200})\"")
"""A package in a folder of the repository: ``{:greeting, path: "libs/greeting"}``."""
_ELSEWHERE = re.compile(r"\b(?:File\.(?:read|stream|open)|Code\.(?:require_file|eval_file|load_file))")
_COMPILERS: Final = ("build-essential", "git")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to build."""

    release: str
    """Its name."""
    files: tuple[str, ...]
    """All that the compilation of the dependencies needs to see."""
    is_locked: bool
    has_packages: bool
    """Whether it has packages of others, for which mix needs Hex."""
    folders: tuple[str, ...]
    """Packages that are in the repository."""
    needs_source: str
    """Why the app's files must be there first; empty: they need not."""
    is_phoenix: bool
    deploys_assets: bool
    """Whether there is a task assets.deploy."""
    has_server_script: bool
    """Whether the release has a script that starts it as a server, as Phoenix makes it."""
    needs_mix: bool
    """Whether the Procfile runs mix, which a release has not."""


class Elixir:
    """Fulfils ``Language``."""

    name = "elixir"
    looks_for = "mix.exs"
    markers: tuple[str, ...] = ("mix.exs",)

    async def sketch(self, files: Files, options: BuildOptions) -> Sketch | None:
        """See ``Language``."""
        if not files.has("mix.exs"):
            return None
        manifest = await _manifest(files)
        need = await _wanted(files)
        assets = await assets_of(files, folder="assets") if manifest.deploys_assets else None
        named = "mix.lock" if manifest.is_locked else "mix.exs"
        why = f"{' and '.join(dict.fromkeys(filter(None, (named, need.said_in))))}, so {need}"
        why += " with mix" if manifest.needs_mix else f" and the release {manifest.release}"
        why += f", and {assets.said}" if assets else ""
        words: tuple[str, ...] = ()
        if not await files.has_processes():
            words = _web(manifest)
            why = f"{why}; {'Phoenix, so ' if manifest.is_phoenix else ''}web: {shown(words)}"
        needs = (need, *((assets.need,) if assets else ()))

        def plan(bases: tuple[Base, ...]) -> BuildPlan:
            said = (why, *(base.why for base in bases))
            return _plan(bases, manifest, assets, why=said, words=words)

        return Sketch(why=why, needs=needs, notes=_notes(manifest), plan=plan)


def _plan(
    bases: tuple[Base, ...],
    manifest: Manifest,
    assets: Assets | None,
    *,
    why: tuple[str, ...],
    words: tuple[str, ...],
) -> BuildPlan:
    base = bases[0]
    if manifest.needs_mix and base.packages:
        both = (*base.packages.run, *base.packages.build)
        base = msgspec.structs.replace(base, packages=msgspec.structs.replace(base.packages, run=both, build=()))
    stages, start = foundation(base)
    env = {"MIX_ENV": "prod", "LANG": "C.UTF-8"}
    steps: list[Step] = [*build_packages(base), *((apt(*_COMPILERS),) if manifest.has_packages else ())]
    if assets:
        steps += assets.node_steps(bases[1], on=bases[0])
        stages = (*stages, *assets.stages(bases[1], on=bases[0]))
    steps += [Env(env), Workdir(APP)]
    if manifest.has_packages:
        steps.append(Run(("mix local.hex --force", "mix local.rebar --force")))
    steps += _dependencies(manifest)
    if assets:
        steps += assets.before_source()
    if Copy() not in steps:
        steps.append(Copy())
    if assets:
        steps += assets.after_source(runs_build=False)
    if manifest.deploys_assets:
        steps.append(Run(("mix assets.deploy",), _CACHES))
    steps.append(Run(("mix compile",), _CACHES))
    if manifest.needs_mix:
        copies = [CopyFrom("build", "/root/.mix", f"{APP}/.mix", is_apps=True)] if manifest.has_packages else []
        copies = [CopyFrom("build", APP, is_apps=True), *copies]
    else:
        steps.append(Run((f"mix release --overwrite --path {RELEASE}",)))
        copies = [CopyFrom("build", RELEASE, APP, is_apps=True)]
    serving = {"PHX_SERVER": "true"} if manifest.is_phoenix else {}
    last = running(start, copies=copies, env={**env, **serving}, command=words)
    return BuildPlan(why=why, stages=(*stages, BuildStage(base=start, name="build", steps=tuple(steps)), last))


def _dependencies(manifest: Manifest) -> tuple[Step, ...]:
    """Return the steps that fetch and compile packages, before the app's files come in if that can be."""
    if not (manifest.has_packages or manifest.folders):
        return ()
    fetch = ("mix deps.get --only prod",) if manifest.has_packages else ()
    copies = (Copy(),) if manifest.needs_source else seen(manifest.files, manifest.folders)
    return (*copies, Run((*fetch, "mix deps.compile"), _CACHES))


async def _manifest(files: Files) -> Manifest:
    text, lock, procfile = [await files.text(name) for name in ("mix.exs", "mix.lock", files.procfile)]
    named = _RELEASES.search(text) or _APP_NAME.search(text)
    if named is None and not await files.has_processes():
        message = f"{files.path('mix.exs')} names no app (app: :name), so what to release is not clear."
        raise UserError("web.unknown", message, "An umbrella names its release: releases: [name: …]")
    configuration = [name for name in files.names if re.fullmatch(r"config/[a-z_]{1,40}\.exs", name)]
    others = [name for name in files.names if re.fullmatch(r"apps/[a-z0-9_]{1,60}/mix\.exs", name) and is_plain(name)]
    # What runs later reads another of these: it needs not be seen by packages.
    kept = [name for name in configuration if name != "config/runtime.exs"]
    found = [local(files, _PATH.findall(text))]
    for name in others:
        found.append(local(files, _PATH.findall(await files.text(name)), base=name.rpartition("/")[0]))
    needs_source = "mix.exs has packages in folders with unusual names" if any(each.is_all for each in found) else ""
    if any([_ELSEWHERE.search(await files.text(name)) for name in ("mix.exs", *others)]):
        needs_source = "mix.exs reads other files"
    vendored = ["deps"] if any(name.startswith("deps/") for name in files.names) else []
    folders = dict.fromkeys((*vendored, *(folder for each in found for folder in each.folders)))
    locked = ["mix.lock"] if files.has("mix.lock") else []
    return Manifest(
        release=named[1] if named else "",
        files=("mix.exs", *locked, *sorted(kept), *sorted(others)),
        is_locked=bool(locked),
        has_packages='": {' in lock or _FETCHED.search(text) is not None,
        folders=tuple(folder for folder in folders if folder == "deps" or not folder.startswith("deps/")),
        needs_source=needs_source,
        is_phoenix=":phoenix," in text or '"phoenix":' in lock,
        deploys_assets='"assets.deploy"' in text,
        has_server_script=files.has("rel/overlays/bin/server"),
        needs_mix=_MIX.search(procfile) is not None,
    )


async def _wanted(files: Files) -> Need:
    text = await files.text("mix.exs")
    pack = _PACK_VERSION.search(await files.text("elixir_buildpack.config"))
    in_tools, tools = await tool_version(files, "elixir")
    said = _VERSION.search(text)
    for name, version in (
        ("elixir_buildpack.config", pack[1] if pack else ""),
        (tools, _OTP.sub("", in_tools)),
        ("mix.exs", said[1] if said else ""),
    ):
        if version:
            meaning = version.replace(" and ", " ").replace(" or ", " || ")
            return asked(files, ELIXIR, file=name, text=version, meaning=meaning)
    return Need(runtime=ELIXIR)


def _web(manifest: Manifest) -> tuple[str, ...]:
    if manifest.has_server_script:
        return (f"{APP}/bin/server",)
    return argv(f"{APP}/bin/{manifest.release} start", environment={})


def _notes(manifest: Manifest) -> tuple[str, ...]:
    notes = []
    if manifest.has_packages and not manifest.is_locked:
        notes.append("There is no mix.lock: two builds may get different versions. Commit it")
    if manifest.needs_source:
        notes.append(f"Every change of the app compiles all again, as {manifest.needs_source}")
    if manifest.is_phoenix:
        notes.append("Phoenix does not start without SECRET_KEY_BASE: config:set <app> SECRET_KEY_BASE=…")
    return tuple(notes)
