"""What is made of PHP apps."""

from __future__ import annotations

import json

import pytest

from agent.builders.php import Php
from agent.ports.images import BuildOptions
from tests.builders.sketching import DEBIAN, agrees, dockerfile, refusal, sketch, store, why

PHP = Php()


def composed(**manifest: object) -> dict[str, str]:
    """Return an app with these words in its composer.json."""
    return {"composer.json": json.dumps(manifest), "public/index.php": ""}


LOCK = json.dumps(
    {
        "packages": [{"name": "laravel/framework", "require": {"ext-mbstring": "*", "ext-gd": "*"}}],
        "platform": {"ext-redis": "*"},
    }
)
LARAVEL = {**composed(require={"php": "^8.2", "laravel/framework": "^11"}), "composer.lock": LOCK}
FRONT_END = {"package.json": json.dumps({"scripts": {"build": "vite build"}}), "package-lock.json": "{}"}


@pytest.mark.parametrize(
    ("name", "files"),
    [("php", {"index.php": ""}), ("php-composer", composed()), ("php-laravel", {**LARAVEL, **FRONT_END})],
)
async def test_the_dockerfile_reads_as_it_did(name: str, files: dict[str, str]) -> None:
    agrees(name, await dockerfile(PHP, files))


async def test_on_debian_extensions_are_packages() -> None:
    options, images = BuildOptions(base_image=DEBIAN), store(DEBIAN)
    agrees("php-on-debian", await dockerfile(PHP, LARAVEL, options, images=images))


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"index.php": "", "style.css": ""}, "index.php, so PHP; web: Apache serves all files"),
        ({**LARAVEL, **FRONT_END}, "composer.lock and composer.json, so PHP ^8.2 with Composer, and Node with npm for "
         "package.json; web: Apache serves public"),
        ({**composed(), "package.json": "{}"}, "composer.json, so PHP with Composer; web: Apache serves public"),
        ({**composed(config={"platform": {"php": "8.3.1"}}), "Procfile": "web: x"},
         "composer.json, so PHP 8.3.1 with Composer"),
        ({"composer.json": "{}", "web/index.php": "", ".php-version": "8.3"},
         "composer.json and .php-version, so PHP 8.3 with Composer; web: Apache serves web"),
    ],
)  # fmt: skip
async def test_what_was_found_is_said(files: dict[str, str], says: str) -> None:
    assert await why(PHP, files) == says


async def test_the_folder_that_was_told_is_served() -> None:
    files = {**composed(), "site/x.php": ""}
    text = await dockerfile(PHP, files, BuildOptions(static_folder="site"))
    assert "'DocumentRoot /app/site'" in text


@pytest.mark.parametrize(
    "files",
    [{"composer.json": "{}"}, {"composer.json": "{}", "src/a.php": ""}, {"index.html": ""}, {"lib/index.php": ""}],
)
async def test_what_serves_no_page_is_left_to_others(files: dict[str, str]) -> None:
    assert await sketch(PHP, files) is None


@pytest.mark.parametrize(
    ("wanted", "image"),
    [
        ("~8.1", "php:8.4-apache-bookworm"),
        ("~8.2.0", "php:8.2-apache-bookworm"),
        ("^8.1 | ^7.4", "php:8.4-apache-bookworm"),
        (">=8.1 <8.4", "php:8.3-apache-bookworm"),
        ("8.1.*", "php:8.1-apache-bookworm"),
    ],
)
async def test_composers_ranges_mean_what_composer_says(wanted: str, image: str) -> None:
    assert f"FROM {image}" in await dockerfile(PHP, composed(require={"php": wanted}))


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (composed(require={"php": "8; x"}), "composer.json asks for PHP '8; x', which is not a version"),
        ({**composed(), "composer.lock": "{"}, "Line 1 of composer.lock cannot be read"),
        ({"composer.json": "[]", "index.php": ""}, "Line 1 of composer.json is no object"),
    ],
)
async def test_mistakes_are_named_with_what_to_do(files: dict[str, str], says: str) -> None:
    assert says in await refusal(PHP, files)


async def test_what_should_be_known_is_noted() -> None:
    found = await sketch(PHP, composed(require={"ext-swoole": "*"}, repositories=[{"type": "path", "url": "x"}]))
    assert found is not None
    assert [note.partition(":")[0] for note in found.notes] == [
        "There is no composer.lock",
        "Every change of the app installs all again, as composer.json has packages in folders of the app",
        "The extension swoole is not known here",
    ]


async def test_procfile_and_app_json_are_not_for_visitors_wherever_settings_say_that_they_are() -> None:
    options = BuildOptions(procfile_path="public/run.procs", app_json_path="deploy/app.json")
    text = await dockerfile(PHP, {"public/index.php": "", "composer.json": "{}"}, options)
    named = r"Procfile|app\.json|public/run\.procs|run\.procs|deploy/app\.json"
    assert rf'"^/(vendor/|(composer\.(json|lock)|{named})$)"' in text
