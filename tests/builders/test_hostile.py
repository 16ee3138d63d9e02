"""Manifests that mean harm: whatever they hold, what comes of them is a mistake with a name, or our own Dockerfile."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.builders import LANGUAGES
from agent.builders.go import Go
from agent.builders.language import Language
from agent.builders.python import Python
from agent.errors import UserError
from tests.builders.sketching import dockerfile, sketch

pytestmark = pytest.mark.slow

EVIL = "evil"
"""In every word of a manifest. It may be seen in comments, in the command, and in plain names of files."""

LINE = re.compile(r"(?:FROM|ENV|RUN|COPY|WORKDIR|USER|ENTRYPOINT|CMD|#|    (?:&&|'|>))(?: .*|$)|#.*|    .*|")

words = st.one_of(
    st.sampled_from(
        [
            f"$({EVIL})", f"`{EVIL}`", f"\nRUN {EVIL}", f"{EVIL}\\", f"{EVIL}; x", f'"{EVIL}"', f"'{EVIL}",
            f"../{EVIL}", f"-{EVIL}", f" {EVIL}", f"20 || {EVIL}", f">=3.9,{EVIL}", f"npm run {EVIL}",
            f"-r {EVIL}.txt", f"{EVIL}é",
        ]
    ),
    st.text(max_size=20).map(lambda text: f"{text}{EVIL}{text}"),
)  # fmt: skip
values = st.recursive(
    st.one_of(words, st.integers(), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=8,
)
KEYS = ("name", "main", "engines", "scripts", "packageManager", "workspaces", "devDependencies", "dependencies")
packages = st.fixed_dictionaries({}, optional={key: values for key in KEYS}) | st.fixed_dictionaries(
    {"scripts": st.fixed_dictionaries({}, optional=dict.fromkeys(("start", "build", "prestart", "install"), words))},
    optional={"engines": st.fixed_dictionaries({"node": words}), "packageManager": words, "main": words},
)
names = st.one_of(words, st.sampled_from(["server.js", "Procfile", "pnpm-lock.yaml", "yarn.lock", "dist/index.html"]))


async def outcome(language: Language, files: Mapping[str, str]) -> str:
    """Return the Dockerfile that comes of `files`; nothing if they are refused, or none of this language's."""
    try:
        if await sketch(language, files) is None:
            return ""
        return await dockerfile(language, files)
    except UserError:
        return ""


PLAIN = re.compile(rf"crates/[A-Za-z0-9_.@+-]+(?=/src)|(?<=for file in ){EVIL}(?= )")
"""Folders that Cargo is given empty programs in, and a file of one, if it is called just so."""


def harmless(text: str) -> None:
    for line in PLAIN.sub("", text).splitlines():
        assert LINE.fullmatch(line), line
        if not line.startswith(("#", "CMD ", "COPY ")):
            assert EVIL not in line
        if line.startswith("COPY "):
            assert re.fullmatch(r"COPY(?: --from=\w+)?(?: --chown=[\d:]+)? [A-Za-z0-9._@+/ -]+", line)
        if line.startswith("CMD "):
            assert all(isinstance(word, str) for word in json.loads(line.removeprefix("CMD ")))


@settings(max_examples=150, deadline=None)
@given(packages, st.dictionaries(names, words, max_size=4))
def test_a_package_json_may_hold_anything(package: dict[str, object], others: dict[str, str]) -> None:
    files = {"package.json": json.dumps(package), "server.js": "", **others}
    for language in LANGUAGES:
        harmless(asyncio.run(outcome(language, files)))


@settings(max_examples=150, deadline=None)
@given(st.lists(words, max_size=5), words, words, st.dictionaries(names, words, max_size=4))
def test_so_may_what_python_reads(lines: list[str], version: str, code: str, others: dict[str, str]) -> None:
    files = {
        "requirements.txt": "\n".join(["flask", "gunicorn", *lines]),
        ".python-version": version,
        "app.py": f"app = Flask({code})\n{code}",
        f"{EVIL}.txt": "",
        **others,
    }
    harmless(asyncio.run(outcome(Python(), files)))
    project = {"requires-python": version, "dependencies": lines, "name": code}
    toml = "\n".join(["[project]", *(f"{key} = {json.dumps(value)}" for key, value in project.items())])
    harmless(asyncio.run(outcome(Python(), {"pyproject.toml": toml, "uv.lock": "", "Procfile": "web: x", **others})))


@settings(max_examples=100, deadline=None)
@given(words, words, words)
def test_so_may_what_go_reads(module: str, version: str, folder: str) -> None:
    files = {"go.mod": f"module {module}\ngo {version}\n", f"cmd/{folder}/main.go": "package main", "main.go": module}
    harmless(asyncio.run(outcome(Go(), files)))


@settings(max_examples=100, deadline=None)
@example(name="evil", version="$(evil)", folder="evil", line="$(evil)", others={"evil": "$(evil)"})
@given(words, words, words, words, st.dictionaries(names, words, max_size=4))
def test_so_may_what_the_others_read(name: str, version: str, folder: str, line: str, others: dict[str, str]) -> None:
    quoted = json.dumps(name)
    files = {
        "Gemfile": f'ruby "{version}"\ngem {quoted}\n{line}\n',
        "Gemfile.lock": f"PATH\n  remote: {folder}\nGEM\n  specs:\n    puma (1)\n    {name} (1)\n",
        "config.ru": line,
        "Cargo.toml": f"[package]\nname = 'x'\n[[bin]]\nname = {quoted}\npath = {json.dumps(folder)}\n",
        f"crates/{folder}/Cargo.toml": "[package]\nname = 'y'",
        f"crates/{folder}/src/main.rs": line,
        "src/main.rs": line,
        "Cargo.lock": f'name = "{name}"',
        "rust-toolchain": version,
        "pom.xml": f"<java.version>{version}</java.version>{line}",
        "system.properties": f"java.runtime.version={version}",
        "mix.exs": f'[app: :x, elixir: "{version}"] {line} "assets.deploy"',
        f"apps/{folder}/mix.exs": line,
        "assets/package.json": json.dumps({"scripts": {"build": line}, "packageManager": name}),
        "composer.json": json.dumps({"require": {"php": version, f"ext-{name}": "*"}, "repositories": {name: line}}),
        "index.php": line,
        "deno.json": json.dumps({"tasks": {"start": line, name: line}}),
        ".deno-version": version,
        ".tool-versions": f"ruby {version}\nrust {name}\n",
        **others,
    }
    for language in LANGUAGES:
        harmless(asyncio.run(outcome(language, files)))
        without = {key: text for key, text in files.items() if key not in ("rust-toolchain", ".tool-versions")}
        harmless(asyncio.run(outcome(language, {**without, "Procfile": "web: x"})))


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.name)
async def test_files_that_are_not_text_are_refused_or_left_alone(language: Language) -> None:
    names = (
        "package.json", "requirements.txt", "pyproject.toml", "Pipfile", "go.mod", ".nvmrc", "index.html", "Gemfile",
        "Cargo.toml", "pom.xml", "mix.exs", "composer.json", "composer.lock", "deno.json", "index.php",
    )  # fmt: skip
    await outcome(language, dict.fromkeys(names, "\x00\x01\ufffd{["))
