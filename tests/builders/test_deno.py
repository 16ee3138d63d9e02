"""What is made of Deno apps."""

from __future__ import annotations

import json

import pytest

from agent.builders.deno import Deno
from agent.errors import UserError
from agent.ports.images import BuildOptions
from tests.builders.sketching import DEBIAN, agrees, dockerfile, refusal, sketch, store, why

DENO = Deno()
SERVE = "export default {\n  fetch(request) {}\n}\n"


def app(**manifest: object) -> dict[str, str]:
    """Return an app with these words in its deno.json."""
    return {"deno.json": json.dumps(manifest), "deno.lock": "{}", "main.ts": ""}


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("deno", app(tasks={"start": "deno run -A main.ts", "build": "deno run build.ts"})),
        ("deno-first", {**app(), ".deno-version": "1.46.3"}),
    ],
)
async def test_the_dockerfile_reads_as_it_did(name: str, files: dict[str, str]) -> None:
    agrees(name, await dockerfile(DENO, files))


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (app(), "deno.lock, so Deno; web: deno run --allow-env --allow-net --allow-read main.ts"),
        ({**app(), "main.ts": SERVE}, 'deno.lock, so Deno; web: deno serve --host 0.0.0.0 --port "${PORT:-5000}" '
         "main.ts"),
        (app(tasks={"start": "deno task serve", "serve": {"command": "deno run -A x.ts"}}),
         "deno.lock, so Deno; web: deno run -A x.ts"),
        ({"deno.jsonc": '{ // a\n "tasks": {"start": "x //no"}, /* b */ }', ".dvmrc": "2.1"},
         "deno.jsonc and .dvmrc, so Deno 2.1; web: x //no"),
        ({**app(), "Procfile": "web: x", ".tool-versions": "deno 2.1.4"},
         "deno.lock and .tool-versions, so Deno 2.1.4"),
        ({**app(tasks={"start": "x"}), "package.json": "{}"}, "deno.lock, so Deno; web: x"),
    ],
)  # fmt: skip
async def test_what_was_found_is_said(files: dict[str, str], says: str) -> None:
    assert await why(DENO, files) == says


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"deno.json": '{\n"a" 1}'}, "Line 2 of deno.json cannot be read"),
        ({"deno.json": "[]"}, "Line 1 of deno.json is no object"),
        ({"deno.lock": "{}"}, "no task start, and no main.ts or server.ts. Say it in a file named Procfile"),
        (app(tasks={"start": "deno task start"}) | {"main.ts": "", ".deno-version": "?"}, "asks for Deno '?', which"),
    ],
)
async def test_mistakes_are_named_with_what_to_do(files: dict[str, str], says: str) -> None:
    assert says in await refusal(DENO, files)


async def test_a_part_of_a_version_becomes_a_whole_one_as_images_go_by_those() -> None:
    assert "FROM denoland/deno:2.1.4" in await dockerfile(DENO, {**app(), ".deno-version": "2.1"})


async def test_debian_has_no_deno_and_it_says_what_does() -> None:
    with pytest.raises(UserError) as refused:
        await dockerfile(DENO, app(), BuildOptions(base_image=DEBIAN, app_name="blog"), images=store(DEBIAN))
    assert "Debian has no Deno of its own" in refused.value.hint and "DENO_VERSION" in refused.value.hint
    images = store("house/deno:2", DENO_VERSION="2.9.8")
    assert "FROM house/deno:2" in await dockerfile(DENO, app(), BuildOptions(base_image="house/deno:2"), images=images)


async def test_a_node_app_that_only_uses_denos_tools_is_left_to_node() -> None:
    assert await sketch(DENO, {**app(), "package.json": "{}"}) is None
    assert await sketch(DENO, {"main.ts": ""}) is None
