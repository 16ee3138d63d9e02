"""An image with this machine's Python in it: what no registry is needed for, in two seconds."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Mapping
from pathlib import Path

from scripts.house.engine import Engine, EngineError
from tests.support.rig import BASE

PYTHON = "pushboat-bench/python:1"
"""Shared by all runs on the machine, and left there."""
LEFT_OUT = re.compile(r"/(test|tests|idlelib|tkinter|lib2to3|ensurepip|__pycache__|\w+-packages|config-[^/]+)(/|$)")
ENTRY = "/bin/python3"


def ensure_python(engine: Engine) -> str:
    """Make the image if it is not there; return its name."""
    if not engine.has_image(BASE):
        engine.make_base(BASE)
    if not engine.has_image(PYTHON):
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        home = Path(sysconfig.get_path("stdlib")).parent.parent
        recipe = f"FROM {BASE}\nADD root.tar /\nENV PYTHONHOME={home}\nRUN {ENTRY} -c 'import asyncio'\n"
        build(engine, PYTHON, {"Dockerfile": recipe.encode(), "root.tar": _root(version)})
    return PYTHON


def build(engine: Engine, tag: str, files: Mapping[str, bytes]) -> None:
    """Build an image of these files, the Dockerfile among them, under that name.

    Raises:
        EngineError: it was not built.
    """
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    said = engine.call("POST", "/build", output.getvalue(), t=tag)
    if not engine.has_image(tag):
        raise EngineError(f"{tag} was not built: {said}")


def _root(version: str) -> bytes:
    """Return the interpreter, its standard library and what both are linked with, as a tar."""
    program = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    linked = _linked(program)
    for module in (library / "lib-dynload").glob("*.so"):
        linked |= _linked(module)
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.GNU_FORMAT, dereference=True) as archive:
        archive.add(program, f"bin/python{version}")
        link = tarfile.TarInfo(ENTRY.lstrip("/"))
        link.type, link.linkname = tarfile.SYMTYPE, f"python{version}"
        archive.addfile(link)
        for path in sorted(linked):
            archive.add(path, str(path).lstrip("/"))
        archive.add(library, str(library).lstrip("/"), filter=_without_ballast)
    return output.getvalue()


def _linked(program: Path) -> set[Path]:
    """Return the shared libraries that a program is started with, its loader included."""
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    return {Path(path) for path in re.findall(r"(/\S+) \(0x", done.stdout)}


def _without_ballast(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if LEFT_OUT.search(f"/{member.name}") else member
