"""Ruby apps: Bundler installs just what is locked, without development and tests; Rails compiles its assets.

Gems are installed before the app's files come in, into a folder that the last stage takes over. Compilers stay behind.
"""

from __future__ import annotations

from typing import Final

from agent.builders.assets import Assets, assets_of
from agent.builders.bases import Base
from agent.builders.files import Files
from agent.builders.language import Sketch
from agent.builders.local import seen
from agent.builders.native import GEMS, libraries
from agent.builders.plan import BuildPlan, BuildStage, Cache, Copy, CopyFrom, Env, Run, Step, Workdir, apt
from agent.builders.ruby_manifests import Manifest, read_manifest, wanted_ruby
from agent.builders.ruby_web import guess, is_rails
from agent.builders.stages import APP, build_packages, foundation, running, shown
from agent.ports.images import BuildOptions

BUNDLE: Final = "/opt/bundle"

_COMPILERS: Final = ("build-essential", "git", "libyaml-dev", "pkg-config")
"""Hardly an app goes without a gem that is compiled: puma is one."""

_CACHE: Final = Cache("bundle", "/root/.bundle/cache")
_ENV: Final = {
    "LANG": "C.UTF-8",
    "RAILS_ENV": "production",
    "RACK_ENV": "production",
    "BUNDLE_PATH": BUNDLE,
    "BUNDLE_WITHOUT": "development:test",
}
_PIPELINES: Final = frozenset(("sprockets-rails", "propshaft", "jsbundling-rails", "vite_rails", "shakapacker"))
"""Gems that give Rails a task assets:precompile."""

_PLACEHOLDERS: Final = "SECRET_KEY_BASE=assets SECRET_KEY_BASE_DUMMY=1 DATABASE_URL=postgresql://user@127.0.0.1/none"
"""Rails insists on these when it starts, which compiling assets makes it do; nothing is sealed or asked by them."""


class Ruby:
    """Fulfils ``Language``."""

    name = "ruby"
    looks_for = "Gemfile"
    markers: tuple[str, ...] = ("Gemfile",)

    async def sketch(self, files: Files, options: BuildOptions) -> Sketch | None:
        """See ``Language``."""
        manifest = await read_manifest(files)
        if manifest is None:
            return None
        need = await wanted_ruby(files)
        rails = is_rails(files, manifest.gems)
        compiles = rails and bool(manifest.gems & _PIPELINES)
        assets = await assets_of(files) if compiles else None
        named = "Gemfile.lock" if manifest.is_locked else "Gemfile"
        why = f"{' and '.join(dict.fromkeys(filter(None, (named, need.said_in))))}, so {need} with Bundler"
        if assets:
            why = f"{why}, and {assets.said}"
        words: tuple[str, ...] = ()
        if not await files.has_processes():
            web = guess(files, manifest.gems)
            words, why = web.words, f"{why}; {web.why}, so web: {shown(web.words)}"

        def plan(bases: tuple[Base, ...]) -> BuildPlan:
            said = (why, *(base.why for base in bases))
            return _plan(bases, manifest, assets, why=said, words=words, is_rails=rails, compiles=compiles)

        needs = (need, *((assets.need,) if assets else ()))
        return Sketch(why=why, needs=needs, notes=_notes(manifest), plan=plan)


def _plan(
    bases: tuple[Base, ...],
    manifest: Manifest,
    assets: Assets | None,
    *,
    why: tuple[str, ...],
    words: tuple[str, ...],
    is_rails: bool,
    compiles: bool,
) -> BuildPlan:
    native = libraries(GEMS, manifest.gems)
    base = bases[0].with_packages(native.run)
    stages, start = foundation(base)
    env = {**_ENV, **({"BUNDLE_DEPLOYMENT": "1"} if manifest.is_locked else {})}
    steps: list[Step] = []
    if manifest.has_foreign:
        steps += [*build_packages(base), apt(*_COMPILERS, *native.build)]
    if assets:
        steps += assets.node_steps(bases[1], on=base)
        stages = (*stages, *assets.stages(bases[1], on=base))
    steps += [
        Env({**env, "BUNDLE_SILENCE_ROOT_WARNING": "1"}),
        Workdir(APP),
        *([Copy()] if manifest.needs_source else seen(manifest.files, manifest.folders)),
    ]
    steps.append(Run((f"mkdir -p {BUNDLE}", "bundle install", f"rm -rf {BUNDLE}/ruby/*/cache"), (_CACHE,)))
    if assets:
        steps += assets.before_source()
    if not manifest.needs_source:
        steps.append(Copy())
    if compiles:
        steps += [
            *(assets.after_source(runs_build=False) if assets else ()),
            Run((f"{_PLACEHOLDERS} bundle exec rails assets:precompile",)),
            *([assets.cleared()] if assets else ()),
        ]
    serving = {"RAILS_LOG_TO_STDOUT": "1", "RAILS_SERVE_STATIC_FILES": "1"} if is_rails else {}
    copies = [CopyFrom("build", BUNDLE), CopyFrom("build", APP, is_apps=True)]
    last = running(start, copies=copies, env={**env, **serving}, command=words)
    return BuildPlan(why=why, stages=(*stages, BuildStage(base=start, name="build", steps=tuple(steps)), last))


def _notes(manifest: Manifest) -> tuple[str, ...]:
    notes = []
    if not manifest.is_locked:
        notes.append("There is no Gemfile.lock: two builds may get different versions. Commit it")
    if manifest.needs_source:
        notes.append(f"Every change of the app installs all again, as {manifest.needs_source}")
    return tuple(notes)
