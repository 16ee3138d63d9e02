"""Python apps with packages in their own repository, and those that say elsewhere what they depend on."""

from __future__ import annotations

import pytest

from agent.builders.python import Python
from tests.builders.sketching import agrees, dockerfile, refusal, sketch, why

PYTHON = Python()
WEB = {"Procfile": "web: x"}
UV = """
[project]
name = "shop"
version = "1"
dependencies = ["flask", "greet", "pathy", "own"]
[tool.uv.workspace]
members = ["packages/*"]
[tool.uv.sources]
greet = { workspace = true }
pathy = { path = "libs/pathy" }
own = { path = "wheels/own-1.0-py3-none-any.whl" }
"""
UV_LOCK = """version = 1

[[package]]
name = "flask"
version = "3.1.0"
source = { registry = "https://example.com/simple" }

[[package]]
name = "greet"
source = { editable = "packages/greet" }

[[package]]
name = "own"
version = "1.0"
source = { path = "wheels/own-1.0-py3-none-any.whl" }

[[package]]
name = "pathy"
version = "1"
source = { directory = "libs/pathy" }

[[package]]
name = "shop"
version = "1"
source = { virtual = "." }
"""
WITH_UV = {
    **WEB,
    "pyproject.toml": UV,
    "uv.lock": UV_LOCK,
    "uv.toml": "",
    "packages/greet/pyproject.toml": "",
    "libs/pathy/pyproject.toml": "",
    "wheels/own-1.0-py3-none-any.whl": "",
}
POETRY_LOCK = """[[package]]
name = "pathy"
version = "1"
develop = true

[package.source]
type = "directory"
url = "libs/pathy"

[[package]]
name = "own"

[package.source]
type = "file"
url = "wheels/own-1.0.tar.gz"
"""
WITH_POETRY = {
    **WEB,
    "pyproject.toml": "[tool.poetry]\npackage-mode = false\n[tool.poetry.dependencies]\npathy={path='libs/pathy'}\n",
    "poetry.lock": POETRY_LOCK,
    "libs/pathy/pyproject.toml": "",
    "wheels/own-1.0.tar.gz": "",
}
FLASK = {"app.py": "from flask import Flask\n\napp = Flask(__name__)\n"}
DYNAMIC = '[project]\nname = "shop"\ndynamic = ["dependencies", "version"]\n'
SETUPTOOLS = f'{DYNAMIC}[build-system]\nrequires = ["setuptools"]\n[tool.setuptools.dynamic]\n'
INSTALLS = (
    "pip install --requirement",
    "pipenv sync",
    "pdm sync",
    "poetry install",
    "uv sync",
    " > /tmp/requirements.txt",
)
"""The words of each tool's first installation."""
ALL_AGAIN = "Every change of the app installs all again, as "


async def notes(files: dict[str, str]) -> tuple[str, ...]:
    found = await sketch(PYTHON, files)
    assert found is not None
    return found.notes


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("python-uv-local", WITH_UV),
        ("python-poetry-local", WITH_POETRY),
        (
            "python-dynamic-listed",
            {**FLASK, "pyproject.toml": f'{SETUPTOOLS}dependencies = {{file = ["deps/base.txt"]}}\n',
             "deps/base.txt": "-r more.txt\nflask\n", "deps/more.txt": "gunicorn\n", "shop/__init__.py": ""},
        ),
        ("python-dynamic", {**WEB, "pyproject.toml": DYNAMIC, "setup.py": "", "shop/__init__.py": ""}),
    ],
)  # fmt: skip
async def test_the_dockerfile_reads_as_it_did(name: str, files: dict[str, str]) -> None:
    agrees(name, await dockerfile(PYTHON, files))


async def test_uv_and_poetry_install_what_is_in_the_app_after_all_else() -> None:
    uv = await dockerfile(PYTHON, WITH_UV)
    first, last = uv.split("COPY . ./")
    assert "--no-install-package greet --no-install-package pathy" in first and "--no-install-package" not in last
    assert "COPY wheels/own-1.0-py3-none-any.whl wheels/" in first
    poetry = await dockerfile(PYTHON, WITH_POETRY)
    first, last = poetry.split("COPY . ./")
    assert "poetry install --only main --no-root --no-interaction --no-directory" in first
    assert "poetry install --only main --no-interaction --no-root" in last
    assert await notes(WITH_UV) == await notes(WITH_POETRY) == ()


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"Pipfile": '[packages]\nshop = {path = ".", editable = true}\n', "Pipfile.lock": "{}"},
         "Pipfile has packages in folders of the app"),
        ({"Pipfile": '[packages]\nown = {file = "own.whl"}\n', "Pipfile.lock": "{}"},
         "Pipfile has packages in folders of the app"),
        ({"pyproject.toml": '[project]\ndependencies = ["lib @ file:./lib"]\n'},
         "pyproject.toml has packages in folders of the app"),
        ({"pyproject.toml": '[project]\ndependencies = ["lib @ file:///${PROJECT_ROOT}/lib"]\n', "pdm.lock": ""},
         "pyproject.toml has packages in folders of the app"),
        ({"pyproject.toml": "[project]\n", "pdm.lock": '[[package]]\nname = "lib"\npath = "./lib"\n'},
         "pdm.lock has packages in folders of the app"),
        ({"pyproject.toml": '[tool.poetry.dependencies]\nlib = [{path = "lib"}, {version = "1"}]\n'},
         "pyproject.toml has packages in folders of the app"),
        ({**WITH_UV, "uv.lock": UV_LOCK.replace("wheels/own", "../wheels/own")},
         "uv.lock has packages in files with unusual names, or very many in folders of the app"),
        ({"requirements.txt": "--no-index\n--find-links wheels\nflask\n", "wheels/flask.whl": ""},
         "requirements.txt names files of the app itself"),
        ({"requirements.txt": "-r deps/a.txt\n", "deps/a.txt": "-e .\n"}, "deps/a.txt names files of the app itself"),
    ],
)  # fmt: skip
async def test_what_no_tool_can_leave_out_is_there_before_anything_is_installed(
    files: dict[str, str], reason: str
) -> None:
    text = await dockerfile(PYTHON, {**WEB, **files})
    installs = [text.index(words) for words in INSTALLS if words in text]
    assert len(installs) == 1 and text.index("COPY . ./") < installs[0] and text.count("COPY ") == 3
    assert f"{ALL_AGAIN}{reason}" in await notes({**WEB, **files})


async def test_names_in_a_lock_file_stay_in_their_line_whatever_they_are() -> None:
    evil = UV_LOCK.replace('"greet"', '"greet; rm"').replace('"pathy"', '"$(x)"')
    text = await dockerfile(PYTHON, {**WITH_UV, "uv.lock": evil})
    assert "greet" not in text and "$(x)" not in text and "--no-install-project\n" in text


async def test_dependencies_that_a_file_lists_are_seen_when_the_web_process_is_guessed() -> None:
    setuptools = f'{SETUPTOOLS}dependencies = {{file = "deps.txt"}}\n'
    hatch = f'{DYNAMIC}[tool.hatch.metadata.hooks.requirements_txt]\nfiles = ["deps.txt"]\n'
    for text in (setuptools, hatch):
        files = {**FLASK, "pyproject.toml": text, "deps.txt": "flask\ngunicorn\n"}
        assert await why(PYTHON, files) == "deps.txt, so Python with pip; Flask in app.py, so web: gunicorn app:app"


async def test_dependencies_that_are_known_to_the_build_alone_are_not_taken_for_none() -> None:
    files = {**FLASK, "pyproject.toml": DYNAMIC}
    said = "which packages it has is known to its own build alone (dynamic dependencies in pyproject.toml)"
    assert said in await refusal(PYTHON, files)
    assert (await notes({**files, **WEB}))[0].startswith(f"{ALL_AGAIN}what the app depends on is known to its own")
    assert "pip install ." in await dockerfile(PYTHON, {**files, **WEB})
    missing = {**files, "pyproject.toml": f'{SETUPTOOLS}dependencies = {{file = "none.txt"}}\n'}
    assert said in await refusal(PYTHON, missing)


async def test_a_lock_file_tells_what_dynamic_dependencies_are() -> None:
    lock = '[[package]]\nname = "flask"\nversion = "1"\n\n[[package]]\nname = "gunicorn"\nversion = "1"\n'
    files = {**FLASK, "pyproject.toml": DYNAMIC, "uv.lock": lock}
    assert "Flask in app.py, so web: gunicorn app:app" in await why(PYTHON, files)
    assert await notes(files) == ()
    assert (await notes({**FLASK, "pyproject.toml": DYNAMIC, "pdm.lock": lock}))[0].startswith(ALL_AGAIN)
    poetry = f'{DYNAMIC}[tool.poetry.dependencies]\nflask = "*"\ngunicorn = "*"\n'
    assert await notes({**FLASK, "pyproject.toml": poetry, "poetry.lock": ""}) == ()


@pytest.mark.parametrize(
    "files",
    [
        {"pyproject.toml": '[tool.poetry.dependencies]\nfastapi = {version = "*", extras = ["standard"]}\n',
         "poetry.lock": ""},
        {"pyproject.toml": '[tool.poetry.dependencies]\nfastapi = [{version = "*", extras = ["all"]}]\n',
         "poetry.lock": ""},
        {"Pipfile": '[packages]\nfastapi = {version = "*", extras = ["standard"]}\n', "Pipfile.lock": "{}"},
    ],
)  # fmt: skip
async def test_extras_that_are_given_in_tables_bring_their_server(files: dict[str, str]) -> None:
    api = {"main.py": "from fastapi import FastAPI\n\napi = FastAPI()\n"}
    assert "FastAPI in main.py, so web: uvicorn main:api" in await why(PYTHON, {**files, **api})
