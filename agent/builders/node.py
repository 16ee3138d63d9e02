"""Node apps: what is locked is installed, the build script is run, and what only that needed stays behind."""

from __future__ import annotations

import msgspec

from agent.builders.bases import Base
from agent.builders.files import Files
from agent.builders.language import Sketch
from agent.builders.node_build import build_steps, manager_steps, notes
from agent.builders.node_manifests import Manifest, read_manifest, wanted_node
from agent.builders.plan import BuildPlan, BuildStage, CopyFrom
from agent.builders.stages import APP, foundation, running, shown
from agent.errors import UserError
from agent.ports.images import BuildOptions


class Node:
    """Fulfils ``Language``."""

    name = "node"
    looks_for = "package.json with something to start"
    markers: tuple[str, ...] = ("package.json",)

    async def sketch(self, files: Files, options: BuildOptions) -> Sketch | None:
        """See ``Language``. A front end, which is built and then served as files, is left to another."""
        manifest = await read_manifest(files)
        if manifest is None:
            return None
        has_processes = await files.has_processes()
        if not manifest.start and not has_processes:
            if options.selected == self.name:
                message = "What to run is not clear: package.json has no script start, and there is no Procfile."
                raise UserError("web.unknown", message, "Say it in one of them, for instance: web: node server.js")
            return None
        need = await wanted_node(files)
        named = " and ".join(dict.fromkeys(filter(None, (manifest.lock or "package.json", need.said_in))))
        why = f"{named}, so {need} with {manifest.title}"
        words = () if has_processes else manifest.start
        if words:
            why = f"{why}; web: {shown(words)}"

        def plan(bases: tuple[Base, ...]) -> BuildPlan:
            return _plan(bases[0], manifest, why=(why, bases[0].why), words=words)

        return Sketch(why=why, needs=(need,), notes=notes(manifest), plan=plan)


def _plan(base: Base, manifest: Manifest, *, why: tuple[str, ...], words: tuple[str, ...]) -> BuildPlan:
    if manifest.needs_manager and base.packages:
        both = (*base.packages.run, *base.packages.build)
        base = msgspec.structs.replace(base, packages=msgspec.structs.replace(base.packages, run=both, build=()))
    stages, start = foundation(base)
    env = {"NODE_ENV": "production", "PATH": f"{APP}/node_modules/.bin:$PATH"}
    last = running(
        start,
        copies=[CopyFrom("build", APP, is_apps=True)],
        env=env,
        command=words,
        before=manager_steps(manifest) if manifest.needs_manager else (),
    )
    return BuildPlan(
        why=why, stages=(*stages, BuildStage(base=start, name="build", steps=build_steps(base, manifest)), last)
    )
