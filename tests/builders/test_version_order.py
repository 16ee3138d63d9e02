"""Which file counts where several ask for a version: the order that docs/builders.md has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.builders.deno import Deno
from agent.builders.elixir import Elixir
from agent.builders.go import Go
from agent.builders.java import Java
from agent.builders.language import Language
from agent.builders.node import Node
from agent.builders.php import Php
from agent.builders.python import Python
from agent.builders.ruby import Ruby
from agent.builders.rust import Rust
from tests.builders.sketching import sketch

Source = tuple[str, str, str]
"""A file, what it says, and the version that it is."""

PAGE = Path(__file__).parents[2] / "docs" / "builders.md"
WEB = {"Procfile": "web: x"}
POETRY = '[tool.poetry.dependencies]\npython = "^3.10"\n'
PYTHON: tuple[Source, ...] = (
    (".python-version", "3.14\n", "3.14"),
    ("runtime.txt", "python-3.13.1\n", "3.13.1"),
    (".tool-versions", "ruby 3.3.0\npython 3.12.7\n", "3.12.7"),
    ("mise.toml", '[tools]\npython = "3.12"\n', "3.12"),
    ("pyproject.toml", f'[project]\nrequires-python = ">=3.11"\n{POETRY}', ">=3.11"),
    ("pyproject.toml", POETRY, "^3.10"),
    ("Pipfile", '[requires]\npython_full_version = "3.9.1"\npython_version = "3.9"\n', "3.9.1"),
    ("Pipfile", '[requires]\npython_version = "3.9"\n', "3.9"),
)
NODE: tuple[Source, ...] = (
    ("package.json", '{"engines": {"node": ">=22"}}', ">=22"),
    (".nvmrc", "v20.11.0\n", "v20.11.0"),
    (".node-version", "20\n", "20"),
    (".tool-versions", "nodejs 18.20.4\n", "18.20.4"),
    ("mise.toml", '[tools]\nnode = "18"\n', "18"),
)
RUBY: tuple[Source, ...] = (
    (".ruby-version", "3.4.1\n", "3.4.1"),
    ("Gemfile", 'ruby "3.3.6"\n', "3.3.6"),
    (".tool-versions", "ruby 3.2.2\n", "3.2.2"),
    ("mise.toml", '[tools]\nruby = "3.2"\n', "3.2"),
    ("Gemfile.lock", "RUBY VERSION\n   ruby 3.1.2p20\n", "3.1.2"),
)
PHP: tuple[Source, ...] = (
    (".php-version", "8.4\n", "8.4"),
    (".tool-versions", "php 8.3.1\n", "8.3.1"),
    ("composer.json", '{"config": {"platform": {"php": "8.2.1"}}, "require": {"php": "^8.1"}}', "8.2.1"),
    ("composer.json", '{"require": {"php": "^8.1"}}', "^8.1"),
)
GO: tuple[Source, ...] = (("go.work", "go 1.24\n", ">=1.24"), ("go.mod", "module x\ngo 1.22\n", ">=1.22"))
CARGO: tuple[Source, ...] = (
    ("rust-toolchain.toml", '[toolchain]\nchannel = "1.85.0"\n', "1.85.0"),
    ("rust-toolchain", "1.84.0\n", "1.84.0"),
    (".tool-versions", "rust 1.83.0\n", "1.83.0"),
    ("Cargo.toml", '[package]\nname = "x"\nrust-version = "1.75"\n', ">=1.75"),
)
ELIXIR: tuple[Source, ...] = (
    ("elixir_buildpack.config", "elixir_version=1.18.1\n", "1.18.1"),
    (".tool-versions", "elixir 1.17.3-otp-27\n", "1.17.3"),
    ("mix.exs", '[app: :x, elixir: "~> 1.16"]', "~> 1.16"),
)
JAVA: tuple[Source, ...] = (
    ("system.properties", "java.runtime.version=25\n", "25"),
    (".java-version", "21.0.4\n", "21"),
    (".tool-versions", "java temurin-17.0.9\n", "17"),
    ("pom.xml", "<java.version>11</java.version>", ">=11"),
)
DENO: tuple[Source, ...] = (
    (".deno-version", "2.6.9\n", "2.6.9"),
    (".dvmrc", "2.4.0\n", "2.4.0"),
    (".tool-versions", "deno 2.1.4\n", "2.1.4"),
)


@pytest.mark.parametrize(
    ("language", "sources", "bare"),
    [
        (Python(), PYTHON, {"requirements.txt": ""}),
        (Node(), NODE, {"package.json": "{}"}),
        (Ruby(), RUBY, {"Gemfile": ""}),
        (Php(), PHP, {"composer.json": "{}"}),
        (Go(), GO, {"go.mod": "module x\n", "x.go": "package main"}),
        (Rust(), CARGO, {"Cargo.toml": '[package]\nname = "x"\n', "src/main.rs": ""}),
        (Elixir(), ELIXIR, {"mix.exs": "[app: :x]"}),
        (Java(), JAVA, {"pom.xml": ""}),
        (Deno(), DENO, {"deno.json": "{}"}),
    ],
    ids=lambda it: it.name if hasattr(it, "name") else "",
)
async def test_the_first_file_in_the_order_that_is_told_counts(
    language: Language, sources: tuple[Source, ...], bare: Mapping[str, str]
) -> None:
    for first in range(len(sources)):
        # Of a file that is there twice, the first says all that the later ones do.
        files = {**bare, **WEB, **{name: text for name, text, _ in reversed(sources[first:])}}
        found = await sketch(language, files)
        assert found is not None
        name, _, version = sources[first]
        assert (found.needs[0].said_in, found.needs[0].wanted.text) == (name, version)
    found = await sketch(language, {**bare, **WEB})
    assert found is not None and not found.needs[0].wanted.alternatives
    table = PAGE.read_text().partition("## The version of the language")[2].partition("\n## ")[0]
    [row] = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith(f"| {found.needs[0]} |")]
    places = [row[1].index(f"`{name}`") for name, _, _ in sources if f"`{name}`" in row[1]]
    assert places == sorted(places) and row[2] == ", ".join(found.needs[0].runtime.offered)


async def test_a_tool_that_is_said_to_be_the_systems_own_asks_for_no_version() -> None:
    found = await sketch(Python(), {**WEB, "requirements.txt": "", ".tool-versions": "python system\n"})
    assert found is not None and not found.needs[0].wanted.alternatives
