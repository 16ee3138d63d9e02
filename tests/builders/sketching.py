"""Languages at work on files of dictionaries, and the Dockerfiles that come of them, which are golden.

To accept a change: ``PUSHBOAT_WRITE_GOLDEN=1 pytest tests/builders``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.builders.bases import Bases
from agent.builders.files import Files
from agent.builders.language import Language, Sketch, found_bases
from agent.builders.plan import render
from agent.errors import UserError
from agent.ports.images import BuildOptions, ImageInfo
from tests.fakes.images import FakeImages
from tests.fakes.source import FakeTree

GOLDEN = Path(__file__).parents[1] / "golden" / "plans"
DEBIAN = "debian:bookworm-slim"


def store(*images: str, **env: str) -> FakeImages:
    """Return a store that holds these images, each with these variables."""
    found = FakeImages()
    for image in images:
        found.have(ImageInfo(id=f"sha256:{image}", env=env), image)
    return found


async def sketch(language: Language, files: Mapping[str, str], options: BuildOptions | None = None) -> Sketch | None:
    options = options or BuildOptions()
    tree = FakeTree("1" * 40, {name: text.encode() for name, text in files.items()})
    return await language.sketch(await Files.of(tree, options), options)


async def why(language: Language, files: Mapping[str, str], options: BuildOptions | None = None) -> str:
    found = await sketch(language, files, options)
    assert found is not None
    return found.why


async def refusal(language: Language, files: Mapping[str, str]) -> str:
    with pytest.raises(UserError) as refused:
        await sketch(language, files)
    return f"{refused.value.message} {refused.value.hint}"


async def dockerfile(
    language: Language,
    files: Mapping[str, str],
    options: BuildOptions | None = None,
    *,
    images: FakeImages | None = None,
) -> str:
    """Return the Dockerfile of a build on the official images, or on those that there are."""
    found = await sketch(language, files, options)
    assert found is not None
    if images is None:
        official = {need.runtime.official.format(v) for need in found.needs for v in need.runtime.offered}
        pinned = {need.runtime.official.format(need.wanted.pinned) for need in found.needs if need.wanted.pinned}
        images = store(*official, *pinned)
    bases = await found_bases(Bases(images), found, options or BuildOptions(app_name="blog"), lambda line: None)
    return render(found.plan(bases))


def agrees(name: str, text: str) -> None:
    """Compare with the golden Dockerfile, or write it if asked to."""
    path = GOLDEN / f"{name}.Dockerfile"
    if os.environ.get("PUSHBOAT_WRITE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text, f"{path.name} differs; see the docstring of {Path(__file__).name}"
