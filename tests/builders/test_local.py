"""Packages that lie in the app's own repository: what comes with the manifests, and when all files come first."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from agent.builders.deno import Deno
from agent.builders.elixir import Elixir
from agent.builders.java import Java
from agent.builders.language import Language
from agent.builders.local import Local, local
from agent.builders.php import Php
from agent.builders.ruby import Ruby
from agent.builders.rust import Rust
from tests.builders.sketching import agrees, dockerfile, sketch
from tests.builders.test_limits import opened

ELIXIR = {"mix.exs": '[app: :shop, deps: [{:a, path: "libs/a"}, {:b, "~> 1.0"}, {:c, path: "deps/c"}]]', "mix.lock": ""}
RUBY = {"Gemfile": 'gem "a", path: "gems/a"\n', "Procfile": "web: x", "gems/a/a.gemspec": ""}
RUST = {"Cargo.toml": '[package]\nname = "shop"\n', "Cargo.lock": "", "src/main.rs": ""}
DENO = {"deno.lock": "{}", "main.ts": ""}
ALL = "COPY . ./"


async def parts(language: Language, files: Mapping[str, str], install: str) -> tuple[str, str]:
    """Return what of the build comes before the first words of an installation, and what comes after."""
    before, found, after = (await dockerfile(language, files)).partition(install)
    assert found
    return before, after


async def notes(language: Language, files: Mapping[str, str]) -> str:
    found = await sketch(language, files)
    assert found is not None
    return " ".join(found.notes)


async def test_paths_are_folders_or_files_of_the_app_and_what_is_not_there_is_left_out() -> None:
    files = await opened({"a/b/c.txt": "", "x.whl": "", "d/e": ""})
    assert local(files, ["./a/b/", "a/b", "x.whl", "none"]) == Local(folders=("a/b",), files=("x.whl",))
    assert local(files, ["../d", "../x.whl"], base="a") == Local(folders=("d",), files=("x.whl",))
    assert local(files, []).is_empty and local(files, ["none", "d/none"]).is_empty


@pytest.mark.parametrize("path", ["", ".", "..", "../a", "/a", "a/..", "a b", "$(x)", "a\nb", "-a", "a" * 201])
async def test_the_whole_app_and_what_cannot_be_named_make_all_files_come_first(path: str) -> None:
    assert local(await opened({"a/b": "", "a b/c": ""}), ["a", path]) == Local(is_all=True)


@pytest.mark.parametrize(
    ("name", "language", "files"),
    [
        ("elixir-local", Elixir(), {**ELIXIR, "libs/a/mix.exs": "", "deps/c/mix.exs": ""}),
        ("ruby-local", Ruby(), RUBY),
        (
            "rust-listed",
            Rust(),
            {
                **RUST,
                "Cargo.toml": '[package]\nname = "shop"\n[dependencies]\nx = {path = "vendor/x"}\n'
                '[[bench]]\nname = "fast"\n[[test]]\nname = "t"\npath = "checks/t.rs"\n'
                '[[example]]\nname = "none"\n[[example]]\nname = "e"\n',
                "benches/fast.rs": "", "checks/t.rs": "", "examples/e/main.rs": "", "vendor/x/Cargo.toml": "",
            },
        ),
        (
            "deno-workspace",
            Deno(),
            {
                **DENO,
                "deno.json": '{"workspace": ["./a", "./b"], "importMap": "./map.json", "links": ["./own"], '
                '"vendor": true}',
                "a/deno.json": "{}", "b/package.json": "{}", "b/node_modules/x/package.json": "{}", "map.json": "{}",
                "own/deno.json": "{}", "vendor/x.ts": "", ".npmrc": "",
            },
        ),
    ],
)  # fmt: skip
async def test_the_dockerfile_reads_as_it_did(name: str, language: Language, files: dict[str, str]) -> None:
    agrees(name, await dockerfile(language, files))


async def test_packages_of_an_umbrellas_apps_are_found_from_their_folders() -> None:
    files = {
        "mix.exs": '[apps_path: "apps", releases: [all: []], deps: [{:x, "~> 1.0"}]]',
        "apps/web/mix.exs": '[app: :web, deps: [{:a, path: "../../libs/a"}]]',
        "libs/a/mix.exs": "",
    }
    before, _ = await parts(Elixir(), files, "mix deps.compile")
    assert "COPY apps/web/mix.exs apps/web/" in before and "COPY libs/a/ libs/a/" in before and ALL not in before


@pytest.mark.parametrize(
    ("language", "files", "install", "reason"),
    [
        (Elixir(), {**ELIXIR, "mix.exs": '[app: :a, deps: [{:a, path: "../a"}, {:b, "~> 1.0"}]]'}, "mix deps.get",
         "mix.exs has packages in folders with unusual names"),
        (Elixir(), {**ELIXIR, "mix.exs": '[app: :a, version: File.read!("VERSION"), deps: [{:b, "~> 1.0"}]]'},
         "mix deps.get", "mix.exs reads other files"),
        (Ruby(), {**RUBY, "Gemfile": "source 'x'\ngemspec\n"}, "bundle install", "the app is a gem itself"),
        (Ruby(), {**RUBY, "Gemfile": "gem 'a', path: '../a'\n"}, "bundle install", "in folders with unusual names"),
        (Ruby(), {**RUBY, "Gemfile": 'Dir["gems/*"].each { |gem| path gem }\n'}, "bundle install", "reads other files"),
        (Ruby(), {**RUBY, "Gemfile": 'gem "a", File.read("VERSION")\n'}, "bundle install", "reads other files"),
        (Rust(), {**RUST, "a b/Cargo.toml": '[package]\nname = "b"\n'}, "cargo build", "packages with unusual names"),
        (Php(), {"composer.json": '{"repositories": [{"type": "vcs", "url": "./own"}]}', "index.php": ""},
         "composer install", "composer.json has a repository in a folder of the app"),
        (Php(), {"composer.json": "{}", "composer.lock": '{"packages": [{"name": "a/b", "dist": {"type": "path"}}]}',
                 "index.php": ""}, "composer install", "composer.json has packages in folders of the app"),
        (Php(), {"composer.json": '{"extra": {"patches": {}}}', "index.php": ""}, "composer install",
         "composer.json has patches, or parts in other files"),
        (Deno(), {**DENO, "deno.json": '{"importMap": "../map.json"}'}, "deno install", "deno.json names files with"),
    ],
)  # fmt: skip
async def test_where_manifests_name_more_than_can_be_copied_all_files_come_first(
    language: Language, files: dict[str, str], install: str, reason: str
) -> None:
    before, after = await parts(language, files, install)
    assert ALL in before and ALL not in after
    assert f"all again, as {reason}"[:9] in await notes(language, files) and reason in await notes(language, files)


@pytest.mark.parametrize(
    ("language", "files", "install"),
    [
        (
            Ruby(),
            {**RUBY, "Gemfile": "ruby File.read('.ruby-version')\ngem 'a', :path => 'gems/a'\n"},
            "bundle install",
        ),
        (Deno(), {**DENO, "deno.json": '{"importMap": "https://example.com/map.json"}'}, "deno install"),
        (
            Elixir(),
            {**ELIXIR, "mix.exs": '[app: :a, deps: [{:b, "~> 1.0"}], releases: [a: [path: "rel"]]]'},
            "mix deps.get",
        ),
    ],
)
async def test_what_only_looks_like_a_file_of_the_app_changes_nothing(
    language: Language, files: dict[str, str], install: str
) -> None:
    before, after = await parts(language, files, install)
    assert ALL not in before and ALL in after and "all again" not in await notes(language, files)


async def test_a_build_of_java_has_all_modules_as_it_has_no_layer_of_packages() -> None:
    before, after = await parts(Java(), {"pom.xml": "<modules><module>a</module></modules>", "a/pom.xml": ""}, "mvn ")
    assert ALL in before and ALL not in after
