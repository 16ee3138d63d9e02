"""What is made of Python apps."""

from __future__ import annotations

import pytest

from agent.builders.python import Python
from agent.ports.images import BuildOptions
from tests.builders.sketching import DEBIAN, agrees, dockerfile, refusal, sketch, store, why

PYTHON = Python()
FLASK = {"app.py": "from flask import Flask\n\napp = Flask(__name__)\n"}
POETRY = """
[tool.poetry]
name = "site"
[tool.poetry.dependencies]
python = "^3.11"
fastapi = "^0.115"
uvicorn = {version = "*"}
"""
PROJECT = """
[project]
name = "api"
version = "1"
requires-python = ">=3.10"
dependencies = ["starlette", "uvicorn[standard]>=0.30; python_version > '3'"]
"""
API = "from fastapi import FastAPI\n\napi: FastAPI = FastAPI()\n"
DJANGO = {
    "requirements.txt": "Django>=5\ngunicorn\n",
    "manage.py": "",
    "shop/wsgi.py": "",
    "shop/settings.py": "STATIC_ROOT = BASE_DIR / 'collected'\n",
}


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("python-pip", {**FLASK, "requirements.txt": "Flask\ngunicorn\n", ".python-version": "3.12.4\n"}),
        (
            "python-pip-included",
            {**FLASK, "requirements.txt": "-r deps/base.txt\ngunicorn # x\n", "deps/base.txt": "flask\n-c c.txt",
             "deps/c.txt": ""},
        ),
        ("python-django", {**DJANGO, "runtime.txt": "python-3.11.9"}),
        ("python-poetry", {"pyproject.toml": POETRY, "poetry.lock": "", "main.py": API}),
        ("python-uv", {"pyproject.toml": PROJECT, "uv.lock": "", "src/api/app.py": "from starlette.applications import"
                       " Starlette\napp = Starlette()"}),
        ("python-pdm", {"pyproject.toml": PROJECT, "pdm.lock": "", "Procfile": "web: x"}),
        ("python-project", {"pyproject.toml": PROJECT + "[build-system]\nrequires=[]\n", "api/__init__.py": "",
                            "Procfile": "web: x"}),
        ("python-pipenv", {"Pipfile": "[packages]\nflask='*'\ngunicorn='*'\n[requires]\npython_version='3.13'\n",
                           "Pipfile.lock": "{}", **FLASK}),
    ],
)  # fmt: skip
async def test_the_dockerfile_reads_as_it_did(name: str, files: dict[str, str]) -> None:
    agrees(name, await dockerfile(PYTHON, files))


async def test_on_debian_the_language_is_installed_first_and_pip_stays_behind() -> None:
    files = {**FLASK, "requirements.txt": "flask\ngunicorn"}
    text = await dockerfile(PYTHON, files, BuildOptions(base_image=DEBIAN), images=store(DEBIAN))
    agrees("python-on-debian", text)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"requirements.txt": "", "Procfile": "web: x"}, "requirements.txt, so Python with pip"),
        ({"requirements.txt": "", "Procfile": "web: x", ".python-version": "# mine\ncpython@3.12\n"},
         "requirements.txt and .python-version, so Python 3.12 with pip"),
        ({"pyproject.toml": PROJECT, "Procfile": "web: x"}, "pyproject.toml, so Python >=3.10 with pip"),
        ({"requirements.txt": "FastAPI[standard]", "main.py": API},
         "requirements.txt, so Python with pip; FastAPI in main.py, so web: uvicorn main:api --host 0.0.0.0 --port "
         '"${PORT:-5000}"'),
        ({**DJANGO, "requirements.txt": "django\nuvicorn", "shop/asgi.py": ""},
         "requirements.txt, so Python with pip; Django in shop/asgi.py, so web: uvicorn shop.asgi:application --host "
         '0.0.0.0 --port "${PORT:-5000}"'),
        ({"requirements.txt": "flask\ngunicorn", "shop/__init__.py": "def create_app():\n    return Flask(__name__)"},
         "requirements.txt, so Python with pip; Flask in shop/__init__.py, so web: gunicorn shop:create_app()"),
    ],
)  # fmt: skip
async def test_what_was_found_is_said(files: dict[str, str], says: str) -> None:
    assert await why(PYTHON, files) == says


async def test_what_is_no_python_app_is_left_to_others() -> None:
    assert await sketch(PYTHON, {"app.py": "x", "package.json": "{}"}) is None
    assert await sketch(PYTHON, {"pyproject.toml": "[tool.ruff]\nline-length = 120\n"}) is None


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({**FLASK, "requirements.txt": "flask"}, "is not among the packages of requirements.txt. Add gunicorn"),
        ({"requirements.txt": "fastapi", "main.py": API}, "uvicorn is not among the packages"),
        ({"requirements.txt": "requests"}, "no framework that is known here is among the packages. Say it in a file"),
        ({"requirements.txt": "flask\ngunicorn"}, "Flask is used, but no file makes the app: app = Flask(…)"),
        ({"requirements.txt": "django\ngunicorn", "manage.py": ""}, "Django is used, but there is no wsgi.py"),
        ({"pyproject.toml": "[project]\nname = = 1\n"}, "Line 2 of pyproject.toml cannot be read: Invalid value"),
        ({"pyproject.toml": "x = " + "[" * 5000}, "pyproject.toml is nested too deeply"),
        ({"requirements.txt": "", ".python-version": "3.12; x"}, ".python-version asks for Python '3.12; x'"),
        ({"Pipfile": "[packages"}, "Line 1 of Pipfile cannot be read"),
    ],
)  # fmt: skip
async def test_mistakes_are_named_with_what_to_do(files: dict[str, str], says: str) -> None:
    assert says in await refusal(PYTHON, files)


@pytest.mark.parametrize(
    "line", ["-e .", ".", "./lib", "file:lib.whl", "lib @ file:lib", "-r ../up.txt", "-r $(x).txt", "--editable=lib"]
)
async def test_packages_that_are_in_the_app_itself_are_installed_after_its_files_came(line: str) -> None:
    files = {**FLASK, "requirements.txt": f"flask\ngunicorn\n{line}\n", "$(x).txt": ""}
    text = await dockerfile(PYTHON, files)
    assert text.index("COPY . ./") < text.index("pip install --requirement")
    found = await sketch(PYTHON, files)
    assert found is not None and "Every change of the app installs all again" in found.notes[0]


async def test_a_procfile_with_nothing_but_a_release_task_leaves_the_web_process_to_be_guessed() -> None:
    files = {**DJANGO, "Procfile": "release: python manage.py migrate\n"}
    assert 'CMD ["gunicorn", "shop.wsgi:application"]' in await dockerfile(PYTHON, files)
    assert "CMD" not in await dockerfile(PYTHON, {**files, "Procfile": "worker: python work.py\n"})


async def test_static_files_are_collected_unless_it_is_switched_off_or_there_is_no_place_for_them() -> None:
    assert "collectstatic --noinput" in await dockerfile(PYTHON, DJANGO)
    assert "collectstatic" not in await dockerfile(PYTHON, DJANGO, BuildOptions(has_collectstatic=False))
    assert "collectstatic" not in await dockerfile(PYTHON, {**DJANGO, "shop/settings.py": ""})
