"""What builders read at the limit, and one past it: refused with a reason, or not looked into any more."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Mapping

import pytest

from agent.builders import go, java_manifests, local, node_manifests, python_manifests, python_web, rust_manifests
from agent.builders.context import MAX_EXTENDED, ContextPlan, TarRewriter, context
from agent.builders.dockerignore import MAX_PATTERNS, MAX_WILD, parse_ignore
from agent.builders.files import MAX_LOCK, MAX_MANIFEST, MAX_SOURCE, Files
from agent.builders.project_toml import MAX_ENTRIES, read_project
from agent.builders.versions import MAX_RANGE, parse_range
from agent.errors import UserError
from agent.ports.images import BuildOptions
from tests.builders.sketching import refusal, sketch
from tests.fakes.source import FakeTree
from tests.support.archived import ArchivedTree


async def opened(files: Mapping[str, str | bytes]) -> Files:
    contents = {name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
    return await Files.of(FakeTree("1" * 40, contents), BuildOptions())


async def test_a_manifest_may_have_a_million_bytes_and_a_lock_file_32_mebibytes() -> None:
    files = await opened({"fits": b"x" * MAX_MANIFEST, "more": b"x" * (MAX_MANIFEST + 1)})
    assert len(await files.text("fits")) == MAX_MANIFEST
    with pytest.raises(UserError, match="more is too large"):
        await files.text("more")
    files = await opened({"fits.lock": b"x" * MAX_LOCK, "more.lock": b"x" * (MAX_LOCK + 1)})
    assert (await files.head("fits.lock")).startswith("xxx")
    with pytest.raises(UserError, match=r"more\.lock is too large"):
        await files.head("more.lock")


async def test_a_source_file_is_looked_into_up_to_200_000_bytes() -> None:
    files = await opened({"fits.py": b"x" * MAX_SOURCE, "more.py": b"x" * (MAX_SOURCE + 1)})
    assert len(await files.code("fits.py")) == MAX_SOURCE
    assert await files.code("more.py") == ""


def ignoring(count: int) -> object:
    return parse_ignore(b"*.log\n" * count)


def wild(count: int) -> object:
    return parse_ignore(b"a**b" + b"*".join([b"c"] * count))


def versions(count: int) -> object:
    return parse_range(">=1," + " " * (count - 6) + "<9")


def variables(count: int) -> object:
    build = {"env": [{"name": f"K{number}", "value": "x"} for number in range(count)]}
    return read_project({"build": build}, invalid=lambda text: UserError("x", text))


def buildpacks(count: int) -> object:
    build = {"buildpacks": [{"id": "a/b"}] * count}
    return read_project({"build": build}, invalid=lambda text: UserError("x", text))


@pytest.mark.parametrize(
    ("read", "most", "says"),
    [
        (ignoring, MAX_PATTERNS, "more than 1,000 patterns"),
        (wild, MAX_WILD, r"more than 4 wildcards beside a \*\*"),
        (versions, MAX_RANGE, "a version or a range of versions"),
        (variables, MAX_ENTRIES, "more than 200 of env"),
        (buildpacks, MAX_ENTRIES, "more than 200 of group"),
    ],
)
def test_as_much_as_the_limit_is_read_and_more_refused(read: Callable[[int], object], most: int, says: str) -> None:
    assert read(most)
    with pytest.raises((UserError, ValueError), match=says):
        read(most + 1)


async def test_a_context_may_have_as_many_bytes_as_its_limit() -> None:
    tree = ArchivedTree({"a": b"x" * 600, "b": b"x" * 400})
    assert b"".join([piece async for piece in context(tree, ContextPlan(max_bytes=1_000))])
    with pytest.raises(UserError, match="too large"):
        async for _ in context(tree, ContextPlan(max_bytes=999)):
            pass


@pytest.mark.parametrize("past", [0, 1])
def test_an_extended_header_may_have_64_kibibytes(past: int) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, MAX_EXTENDED + past
    size = f"{header.size} "
    record = f"{size}x=".encode().ljust(header.size - 1, b"y") + b"\n"
    rewriter = TarRewriter(ContextPlan())
    data = header.tobuf(tarfile.USTAR_FORMAT) + record.ljust(-(-header.size // 512) * 512, b"\0")
    if past:
        with pytest.raises(ValueError, match="65537 bytes"):
            rewriter.feed(data)
    else:
        assert rewriter.feed(data) == b""


def included(count: int) -> dict[str, str]:
    lines = "".join(f"-r r{number}.txt\n" for number in range(count))
    return {"requirements.txt": lines, **{f"r{number}.txt": "" for number in range(count)}}


def workspaces(count: int) -> dict[str, str]:
    package = json.dumps({"workspaces": ["p/*"], "scripts": {"start": "node ."}})
    return {"package.json": package, **{f"p/n{number}/package.json": "{}" for number in range(count)}}


def crates(count: int) -> dict[str, str]:
    files = {f"c{number}/Cargo.toml": f'[package]\nname = "c{number}"\n' for number in range(count - 1)}
    return {"Cargo.toml": '[package]\nname = "root"\n', "src/main.rs": "", **files}


def folders(count: int) -> dict[str, str]:
    """Return an app of uv with so many packages in folders of its own."""
    package = '[[package]]\nname = "p{0}"\nversion = "1"\nsource = {{ directory = "p{0}" }}\n'
    return {"pyproject.toml": "[project]\n", "uv.lock": "".join(package.format(each) for each in range(count))}


@pytest.mark.parametrize(
    ("reader", "files", "most"),
    [
        (python_manifests.read_manifest, folders, local.MAX_LOCAL),
        (python_manifests.read_manifest, included, python_manifests.MAX_INCLUDED),
        (node_manifests.read_manifest, workspaces, node_manifests.MAX_WORKSPACES),
        (rust_manifests.read_manifest, crates, rust_manifests.MAX_PACKAGES),
    ],
    ids=["packages in folders", "requirement files", "workspaces", "packages of Rust"],
)
async def test_with_more_manifests_than_are_read_packages_are_installed_after_the_files_came(
    reader: object, files: Callable[[int], dict[str, str]], most: int
) -> None:
    fits = await reader(await opened(files(most)))  # type: ignore[operator]
    more = await reader(await opened(files(most + 1)))  # type: ignore[operator]
    assert not fits.needs_source and more.needs_source


async def test_a_program_of_go_is_looked_for_in_60_folders() -> None:
    def files(count: int) -> dict[str, str]:
        empty = {f"cmd/a{number:03}/x.go": "package x" for number in range(count - 1)}
        return {"go.mod": "module x\n", **empty, "cmd/web/x.go": "package main\n"}

    found = await sketch(go.Go(), files(go.MAX_LOOKED_INTO))
    assert found is not None and "/app/bin/web" in found.why
    assert "no program" in await refusal(go.Go(), files(go.MAX_LOOKED_INTO + 1))


async def test_an_app_object_of_python_is_looked_for_in_40_files() -> None:
    async def guess(count: int) -> object:
        empty = {f"a{number:03}.py": "" for number in range(count - 1)}
        files = await opened({**empty, "z.py": "from flask import Flask\napp = Flask(__name__)\n"})
        return await python_web.guess(files, frozenset({"flask", "gunicorn"}), file="requirements.txt")

    assert await guess(python_web.MAX_LOOKED_INTO)
    with pytest.raises(UserError):
        await guess(python_web.MAX_LOOKED_INTO + 1)


async def test_a_framework_of_java_is_looked_for_in_40_build_files() -> None:
    async def framework(count: int) -> str:
        modules = {f"a{number:03}/pom.xml": "" for number in range(count - 2)}
        files = await opened({"pom.xml": "", **modules, "z/pom.xml": "spring-boot"})
        manifest = await java_manifests.read_manifest(files)
        assert manifest is not None
        return manifest.framework

    assert await framework(java_manifests.MAX_BUILD_FILES) == "Spring Boot"
    assert await framework(java_manifests.MAX_BUILD_FILES + 1) == ""
