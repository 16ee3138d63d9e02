"""What a Rust app's manifests say: its packages and programs, what they link to, and for which Rust."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from agent.builders.bases import Need, Packages, Runtime
from agent.builders.files import Files, is_plain, mapping, string
from agent.builders.version_files import TOOLS, asked, first_line, tool_version
from agent.builders.versions import parse_range

RUST: Final = Runtime(
    title="Rust",
    official="rust:{}-slim-bookworm",
    variable="RUST_VERSION",
    offered=("1",),
    debian={
        "bookworm": Packages(version="1.63.0", run=(), build=("ca-certificates", "cargo")),
        "trixie": Packages(version="1.85.0", run=(), build=("ca-certificates", "cargo")),
    },
)
MAX_PACKAGES: Final = 100
"""Packages of a workspace whose dependencies get a layer of their own."""

TOOLCHAIN: Final = ("rust-toolchain.toml", "rust-toolchain")
_CONFIGURATION: Final = (".cargo/config.toml", ".cargo/config")
_LOCKED = re.compile(r"^name = \"([A-Za-z0-9_-]{1,100})\"$", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
_OWN_PROGRAM = re.compile(r"src/bin/([A-Za-z0-9_][A-Za-z0-9_-]{0,63})(?:\.rs|/main\.rs)")
_OTHERS: Final = {"bench": "benches", "test": "tests", "example": "examples"}
"""Other things that a manifest may list, and where they are unless it says."""
_MOVING = re.compile(r"(?:stable|nightly|beta)(?:-[a-z0-9_-]{1,60})?")
_NUMBERED = re.compile(r"([0-9]+(?:\.[0-9]+){1,2})(?:-[a-z0-9_-]{1,60})?")


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """One Cargo.toml with a package in it."""

    folder: str
    """Empty: the root."""
    name: str
    programs: tuple[str, ...]
    default_program: str = ""
    targets: tuple[str, ...]
    """Files that Cargo compiles first, from the root: libraries, programs and build scripts."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to build."""

    packages: tuple[Package, ...]
    programs: tuple[str, ...]
    """Those that are built, sorted."""
    web: str
    """The program that is the app, if it is clear."""
    is_locked: bool
    files: tuple[str, ...]
    """All that the compilation of the dependencies needs to see."""
    is_vendored: bool
    """Whether Cargo is told to take all crates from there."""
    has_vendor: bool
    """Whether there are crates in vendor."""
    crates: frozenset[str]
    """Names of all crates in the lock file."""
    needs_source: str = ""
    """Why dependencies get no layer of their own; empty: they do."""


async def read_manifest(files: Files) -> Manifest | None:
    """Return what a Rust app's manifests say; `None`: it is none.

    Raises:
        UserError: ``manifest.invalid``.
    """
    if not files.has("Cargo.toml"):
        return None
    root = await files.toml("Cargo.toml")
    if await _is_python(files):
        return None
    manifests = _manifests(files)
    packages = [found for name in manifests[:MAX_PACKAGES] if (found := await _package(files, name))]
    built = _built(packages, mapping(root.get("workspace")))
    programs = tuple(sorted({program for package in built for program in package.programs}))
    has_vendor = any(name.startswith("vendor/") for name in files.names)
    kept = ["Cargo.lock", *TOOLCHAIN, *_CONFIGURATION, TOOLS[0]]
    needs_source = ""
    names = [*manifests, *(target for package in packages for target in package.targets)]
    if len(manifests) > MAX_PACKAGES or not all(map(is_plain, names)):
        needs_source = "there are packages with unusual names, or very many"
    return Manifest(
        packages=tuple(packages),
        programs=programs,
        web=_web(built, programs),
        is_locked=files.has("Cargo.lock"),
        files=(*manifests, *(name for name in kept if files.has(name))),
        is_vendored=has_vendor and "vendored-sources" in "".join([await files.text(name) for name in _CONFIGURATION]),
        has_vendor=has_vendor,
        crates=frozenset(_LOCKED.findall(await files.text("Cargo.lock", limit=8 << 20))),
        needs_source=needs_source,
    )


async def wanted_rust(files: Files) -> tuple[Need, str]:
    """Return the Rust that the app wants, and its channel (``nightly``), if it is one that only rustup can get.

    Raises:
        UserError: ``manifest.invalid``, what asks for it is no version.
    """
    in_tools, tools = await tool_version(files, "rust")
    table = mapping((await files.toml("rust-toolchain.toml")).get("toolchain"))
    plain = await first_line(files, "rust-toolchain")
    if plain.startswith("["):
        table, plain = mapping((await files.toml("rust-toolchain")).get("toolchain")), ""
    file = files.first(*TOOLCHAIN)
    for name, text in ((file, string(table.get("channel")) or plain), (tools, in_tools)):
        if _MOVING.fullmatch(text):
            channel = text.partition("-")[0]
            return Need(runtime=RUST, said_in=name), "" if channel == "stable" else channel
        if text:
            number = _NUMBERED.fullmatch(text)
            return asked(files, RUST, file=name, text=number[1] if number else text), ""
    root = await files.toml("Cargo.toml")
    for table in (mapping(root.get("package")), mapping(mapping(root.get("workspace")).get("package"))):
        if least := string(table.get("rust-version")):
            return asked(files, RUST, file="Cargo.toml", text=f">={least}"), ""
    return Need(runtime=RUST, wanted=parse_range("")), ""


def _manifests(files: Files) -> list[str]:
    """Return each Cargo.toml but those of what others wrote; the first is the root's."""
    found = [name for name in files.names if name.rpartition("/")[2] == "Cargo.toml"]
    own = [name for name in found if not name.startswith(("vendor/", "target/"))]
    return sorted(own, key=lambda name: (name.count("/"), name))


async def _is_python(files: Files) -> bool:
    """Tell whether it is a package of Python with parts in Rust, which are built by what installs it."""
    system = mapping((await files.toml("pyproject.toml")).get("build-system"))
    return any(word in str(system.get("requires")) for word in ("maturin", "setuptools-rust"))


async def _package(files: Files, manifest: str) -> Package | None:
    toml = await files.toml(manifest)
    table = mapping(toml.get("package"))
    name = string(table.get("name"))
    if not _NAME.fullmatch(name):
        return None
    folder = manifest.rpartition("/")[0]
    inside = f"{folder}/" if folder else ""
    own = {each.removeprefix(inside) for each in files.names if each.startswith(inside)}
    listed = [each for each in _tables(toml.get("bin")) if _NAME.fullmatch(string(each.get("name")))]
    programs = {string(each.get("name")) for each in listed}
    programs |= {match[1] for each in own if (match := _OWN_PROGRAM.fullmatch(each))}
    if "src/main.rs" in own:
        programs.add(name)
    script = table.get("build")
    targets = {"src/main.rs", "src/lib.rs", string(mapping(toml.get("lib")).get("path"))}
    targets |= {string(script) if isinstance(script, str) else "build.rs", *(string(b.get("path")) for b in listed)}
    targets |= {each for each in own if _OWN_PROGRAM.fullmatch(each)}
    for kind, place in _OTHERS.items():
        # Cargo reads no manifest that lists one which is not there.
        for each in _tables(toml.get(kind)):
            stem = f"{place}/{string(each.get('name'))}"
            targets |= {string(each.get("path")), f"{stem}.rs", f"{stem}/main.rs"}
    default = string(table.get("default-run"))
    return Package(
        folder=folder,
        name=name,
        programs=tuple(sorted(programs)),
        default_program=default if default in programs else "",
        targets=tuple(sorted(f"{inside}{each}" for each in targets & own)),
    )


def _built(packages: list[Package], workspace: Mapping[str, Any]) -> list[Package]:
    """Return the packages that ``cargo build`` builds: those named, else the root's, else all."""
    named = [str(each).strip("/") for each in workspace.get("default-members") or () if isinstance(each, str)]
    if named:
        return [package for package in packages if package.folder in named]
    return [package for package in packages if not package.folder] or packages


def _web(packages: list[Package], programs: tuple[str, ...]) -> str:
    if len(programs) == 1:
        return programs[0]
    defaults = [package.default_program for package in packages if package.default_program]
    if len(defaults) == 1:
        return defaults[0]
    usual = ("web", "server", "api", "app", "http")
    roots = [package.name for package in packages if not package.folder]
    return next((name for name in (*usual, *roots) if name in programs), "")


def _tables(value: object) -> list[Mapping[str, Any]]:
    return [mapping(each) for each in value] if isinstance(value, list) else []
