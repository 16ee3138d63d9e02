"""What is made of pages, and of front ends that put some out."""

from __future__ import annotations

import json

import pytest

from agent.builders.static import Static
from agent.errors import UserError
from agent.ports.images import BuildOptions
from tests.builders.sketching import DEBIAN, agrees, dockerfile, sketch, store, why

STATIC = Static()
FRONT_END = {
    "package.json": json.dumps({"scripts": {"build": "vite build"}, "devDependencies": {"vite": "5"}}),
    "package-lock.json": "{}",
    "index.html": "",
}


async def test_the_dockerfile_of_pages_reads_as_it_did() -> None:
    agrees("static", await dockerfile(STATIC, {"index.html": "", "a.css": ""}))


async def test_the_dockerfile_of_a_front_end_reads_as_it_did() -> None:
    agrees("static-built", await dockerfile(STATIC, FRONT_END))
    on_debian = await dockerfile(STATIC, FRONT_END, BuildOptions(base_image=DEBIAN), images=store(DEBIAN))
    agrees("static-built-on-debian", on_debian)


@pytest.mark.parametrize(
    ("files", "folder", "says"),
    [
        ({"index.html": ""}, "", "index.html, so files as they are"),
        ({"public/index.html": "", "package.json": "{}"}, "", "public/index.html, so files as they are"),
        ({"index.html": "", "site/index.html": ""}, "site", "site/index.html, so files as they are"),
        (FRONT_END, "", "package-lock.json and a script build with nothing to start, so Node with npm, then what the "
         "build puts out"),
        (FRONT_END, "web/out", "package-lock.json and a script build with nothing to start, so Node with npm, then "
         "web/out"),
    ],
)  # fmt: skip
async def test_what_was_found_is_said(files: dict[str, str], folder: str, says: str) -> None:
    assert await why(STATIC, files, BuildOptions(static_folder=folder)) == says


async def test_the_folder_that_was_told_is_the_only_one_looked_into() -> None:
    assert await sketch(STATIC, {"index.html": ""}, BuildOptions(static_folder="site")) is None
    text = await dockerfile(STATIC, FRONT_END, BuildOptions(static_folder="web/out"))
    assert "for folder in web/out; do" in text
    assert "COPY site/ ./" in await dockerfile(STATIC, {"site/index.html": ""}, BuildOptions(static_folder="site"))


@pytest.mark.parametrize("folder", ["$(x)", "a b", "a;b", "-x", "é"])
async def test_a_folder_with_an_unusual_name_is_refused(folder: str) -> None:
    with pytest.raises(UserError, match="has an unusual name"):
        await sketch(STATIC, FRONT_END, BuildOptions(static_folder=folder))


async def test_what_has_no_page_is_none() -> None:
    assert await sketch(STATIC, {"README.md": "", "package.json": "{}"}) is None


HIDDEN = r'location ~ "^/(?:Procfile|app\.json%s)$" { return 404; }'


@pytest.mark.parametrize(
    ("files", "options", "more"),
    [
        ({"index.html": ""}, {}, ""),
        ({"index.html": ""}, {"procfile_path": "deploy/Procfile.web"}, r"|deploy/Procfile\.web"),
        ({"public/index.html": ""}, {"procfile_path": "./public/run", "app_json_path": "a.json"},
         r"|public/run|run|a\.json"),
        (FRONT_END, {"app_json_path": "public/deploy.json"}, r"|public/deploy\.json|deploy\.json"),
        (FRONT_END, {"static_folder": "out", "app_json_path": "public/a.json"}, r"|public/a\.json"),
        # Nothing leads out of its line, and the port is filled in elsewhere.
        ({"index.html": ""}, {"procfile_path": 'x" {}\n$y/PORT\N{SNOWMAN}'}, "|x.{6}y/P.RT.{3}"),
    ],
)  # fmt: skip
async def test_procfile_and_app_json_are_not_for_visitors_wherever_settings_say_that_they_are(
    files: dict[str, str], options: dict[str, str], more: str
) -> None:
    text = await dockerfile(STATIC, files, BuildOptions(app_name="blog", **options))  # type: ignore[arg-type]
    assert HIDDEN % more in text
