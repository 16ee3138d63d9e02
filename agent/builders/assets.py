"""Front ends that belong to an app of another language: Node in that app's build, and in nothing that runs."""

from __future__ import annotations

import msgspec

from agent.builders.bases import Base, Need
from agent.builders.files import Files
from agent.builders.node_build import install_steps, run_step
from agent.builders.node_manifests import Manifest, read_manifest, wanted_node
from agent.builders.plan import BuildStage, CopyFrom, Env, Run, Step, apt


class Assets(msgspec.Struct, frozen=True):
    """A package.json beside the manifest of another language."""

    manifest: Manifest
    need: Need
    folder: str = ""
    """Where it is, in the app."""

    @property
    def said(self) -> str:
        """What to tell of it: ``Node with npm for package.json``."""
        file = f"{self.folder}/package.json" if self.folder else "package.json"
        return f"{self.need} with {self.manifest.title} for {file}"

    def stages(self, node: Base, *, on: Base) -> tuple[BuildStage, ...]:
        """Return the stage that Node is copied from; none if it is installed, or there."""
        return () if node.packages or node.image == on.image else (BuildStage(base=node.image, name="node"),)

    def node_steps(self, node: Base, *, on: Base) -> tuple[Step, ...]:
        """Return how Node gets into a build on `on`."""
        if node.packages:
            return (apt(*node.packages.run, *node.packages.build),)
        if node.image == on.image:
            return ()
        return (CopyFrom("node", "/usr/local", "/opt/node"), Env({"PATH": "/opt/node/bin:$PATH"}))

    def before_source(self) -> tuple[Step, ...]:
        """Return the installation of packages, if it can do without the app's files."""
        return () if self.manifest.needs_source else install_steps(self.manifest, folder=self.folder)

    def after_source(self, *, runs_build: bool) -> tuple[Step, ...]:
        """Return what is left to be done once the files are there. `runs_build`: whether the script build is run."""
        late = install_steps(self.manifest, folder=self.folder) if self.manifest.needs_source else ()
        script = self.manifest.build if runs_build else ""
        return (*late, *((run_step(self.manifest, script, folder=self.folder),) if script else ()))

    def cleared(self) -> Run:
        """Return the removal of what only the build of assets needed."""
        return Run((f"rm -rf {self.folder}/node_modules".replace(" /", " "),))


async def assets_of(files: Files, *, folder: str = "") -> Assets | None:
    """Return the front end of an app of another language, in `folder` of it; `None`: it has none.

    Raises:
        UserError: ``manifest.invalid``.
    """
    files = files.within(folder) if folder else files
    manifest = await read_manifest(files)
    if manifest is None:
        return None
    return Assets(manifest, msgspec.structs.replace(await wanted_node(files), is_beside=True), folder)
