"""Rust apps: dependencies are compiled in a layer before the app's files, and programs run where Rust is not.

Cargo cannot build dependencies alone. So it is given the manifests with empty programs in the places of the real ones,
and builds those; when the real ones come in, they are touched, for Cargo tells new from old by time.
"""

from __future__ import annotations

from typing import Final

from agent.builders.bases import Base, Need
from agent.builders.files import Files
from agent.builders.go import DEBIAN
from agent.builders.language import Sketch
from agent.builders.local import seen
from agent.builders.native import CRATES, libraries
from agent.builders.plan import BuildPlan, BuildStage, Cache, Copy, CopyFrom, Env, Run, Step, Workdir, apt
from agent.builders.rust_manifests import Manifest, read_manifest, wanted_rust
from agent.builders.stages import APP, build_packages, foundation, running
from agent.errors import UserError
from agent.ports.images import BuildOptions

_CARGO_HOME: Final = "/usr/local/cargo"
_CACHES: Final = (
    Cache("cargo-registry", f"{_CARGO_HOME}/registry"),
    Cache("cargo-git", f"{_CARGO_HOME}/git"),
)
_TOUCH: Final = r"find . \( -path ./target -o -path ./vendor \) -prune -o -type f -name '*.rs' -exec touch {} +"
_TAKE: Final = (
    "mkdir -p bin",
    r"find target/release -maxdepth 1 -type f -perm -100 ! -name '*.so' -exec cp -t bin {} +",
    "rm -rf target",
)


class Rust:
    """Fulfils ``Language``."""

    name = "rust"
    looks_for = "Cargo.toml"
    markers: tuple[str, ...] = ("Cargo.toml",)

    async def sketch(self, files: Files, options: BuildOptions) -> Sketch | None:
        """See ``Language``."""
        manifest = await read_manifest(files)
        if manifest is None:
            return None
        need, channel = await wanted_rust(files)
        if not manifest.programs:
            message = "There is a Cargo.toml, but no program: no src/main.rs, src/bin or [[bin]] in what Cargo builds."
            hint = "If it is in another folder: builder:set <app> build-dir <folder>"
            raise UserError("rust.no-program", message, hint)
        named = "Cargo.lock" if manifest.is_locked else "Cargo.toml"
        why = f"{' and '.join(dict.fromkeys(filter(None, (named, need.said_in))))}, so {channel or need}"
        why = f"{why} with what is in vendor" if manifest.is_vendored else why
        words: tuple[str, ...] = ()
        if not await files.has_processes():
            words = (f"{APP}/bin/{_clear(manifest)}",)
            why = f"{why}; web: {words[0]}"

        def plan(bases: tuple[Base, ...]) -> BuildPlan:
            if channel and bases[0].packages:
                message = f"The app wants Rust's {channel} ({need.said_in}), which only rustup gets: {bases[0].why}."
                hint = f"Name an image that has rustup: builder:set {options.app_name} base-image <image>"
                raise UserError("base.none", message, hint)
            return _plan(bases, manifest, why=(why, bases[0].why), words=words)

        return Sketch(why=why, needs=(need, Need(runtime=DEBIAN)), notes=_notes(manifest), plan=plan)


def _plan(bases: tuple[Base, ...], manifest: Manifest, *, why: tuple[str, ...], words: tuple[str, ...]) -> BuildPlan:
    rust, debian = bases
    native = libraries(CRATES, manifest.crates)
    stages, start = foundation(rust)
    build = "cargo build --release --bins" + (" --locked" if manifest.is_locked else "")
    steps: list[Step] = [
        *build_packages(rust),
        *((apt("pkg-config", *native.build),) if native.build else ()),
        Env({"CARGO_HOME": _CARGO_HOME, "CARGO_TERM_COLOR": "never"}),
        Workdir(APP),
    ]
    if not manifest.needs_source:
        steps += [
            *seen(manifest.files, ("vendor",) if manifest.has_vendor else ()),
            Run((*_empty(manifest), build), _CACHES),
        ]
    steps += [Copy(), Run((_TOUCH, build, *_TAKE), _CACHES)]
    needed = ("ca-certificates", "tzdata", *native.run, *debian.needed_to_run())
    runtime = BuildStage(base=debian.image, name="runtime", steps=(apt(*needed),))
    last = running(
        "runtime",
        copies=[CopyFrom("build", APP, is_apps=True)],
        env={"PATH": f"{APP}/bin:$PATH"},
        command=words,
    )
    return BuildPlan(why=why, stages=(*stages, BuildStage(base=start, name="build", steps=tuple(steps)), runtime, last))


def _empty(manifest: Manifest) -> tuple[str, ...]:
    """Return the commands that put empty programs in the places of the real ones."""
    targets = [target for package in manifest.packages for target in package.targets]
    folders = sorted({target.rpartition("/")[0] or "." for target in targets})
    return (
        f"mkdir -p {' '.join(folders)}",
        f"for file in {' '.join(targets)}; do echo 'fn main() {{}}' > $file; done",
    )


def _clear(manifest: Manifest) -> str:
    if manifest.web:
        return manifest.web
    raise UserError(
        "web.unknown",
        f"What to run is not clear: there is no Procfile, and the programs are {', '.join(manifest.programs)[:200]}.",
        f"Say it in a file named Procfile, for instance: web: bin/{manifest.programs[0]}",
    )


def _notes(manifest: Manifest) -> tuple[str, ...]:
    notes = []
    if not manifest.is_locked:
        notes.append("There is no Cargo.lock: two builds may get different versions. Commit it")
    if manifest.needs_source:
        notes.append(f"Every change of the app compiles all again, as {manifest.needs_source}")
    return tuple(notes)
