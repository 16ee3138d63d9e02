"""Which builder is taken, and what is said when none fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.builders import Means, choose, every_builder
from agent.builders.dockerfile import DockerfileBuilder, dockerfile_of, folder_of
from agent.docker.build_limits import BuildLimits
from agent.docker.engine import Engine
from agent.docker.workshops import DockerWorkshops
from agent.errors import UserError
from agent.git.tree import GitTree
from agent.ports.addresses import Bridges
from agent.ports.images import BUILDER_NAMES, BuildOptions, Choice, ImageBuilder
from tests.fakes.images import FakeImages
from tests.fakes.source import FakeTree
from tests.support.git_client import LINK, Client


async def chosen(tmp_path: Path, files: dict[str, Any], options: BuildOptions) -> ImageBuilder:
    client = Client(tmp_path / "client.git")
    async with Engine.open(f"unix://{tmp_path}/none.sock", instance="t") as engine:
        tree = GitTree(client.folder, commit=client.commit(files))
        return (
            await choose([DockerfileBuilder(engine, FakeImages(), BuildLimits(engine, memory_bytes=0))], tree, options)
        ).builder


@pytest.mark.parametrize(
    ("files", "options"),
    [
        ({"Dockerfile": "x"}, BuildOptions()),
        ({"docker/Prod": "x"}, BuildOptions(dockerfile_path="docker/Prod")),
        ({"app/Dockerfile": "x"}, BuildOptions(build_folder="app/")),
    ],
)
async def test_the_dockerfile_builder_is_taken_where_its_file_is(
    tmp_path: Path, files: dict[str, Any], options: BuildOptions
) -> None:
    assert (await chosen(tmp_path, files, options)).name == "dockerfile"


@pytest.mark.parametrize(
    ("files", "options", "says"),
    [
        ({}, BuildOptions(), "The commit holds no files. Add the app's files"),
        ({"a": "x"}, BuildOptions(), "nothing to build in the root of the repository. Looked for: a Dockerfile"),
        ({"dockerfile": "x"}, BuildOptions(), "There is a dockerfile: rename it to Dockerfile"),
        ({"app/Dockerfile": "x"}, BuildOptions(), "There is app/Dockerfile: if that is the app, use builder:set"),
        ({"Dockerfile": (LINK, b"x")}, BuildOptions(), "Dockerfile is a symbolic link: name its target"),
        ({"Dockerfile": "x"}, BuildOptions(dockerfile_path="Prod"), "There is no Prod; set another with"),
        ({"Dockerfile": "x"}, BuildOptions(build_folder="app"), "The build folder app is not in the commit"),
        ({"app/x": "x"}, BuildOptions(build_folder="app"), "nothing to build in the folder app"),
        ({"a": "x"}, BuildOptions(build_folder="../up"), "The build folder, ../up, leads out of it"),
        ({"a": "x"}, BuildOptions(dockerfile_path="a/../../b"), "leads out of it"),
    ],
)
async def test_what_was_looked_for_is_said_and_what_may_be_meant(
    tmp_path: Path, files: dict[str, Any], options: BuildOptions, says: str
) -> None:
    with pytest.raises(UserError) as refused:
        await chosen(tmp_path, files, options)
    assert says in f"{refused.value.message} {refused.value.hint}"


async def every(tmp_path: Path, files: dict[str, str], options: BuildOptions) -> Choice:
    async with Engine.open(f"unix://{tmp_path}/none.sock", instance="t") as engine:
        workshops = DockerWorkshops(engine, bridges=Bridges())
        limits = BuildLimits(engine, memory_bytes=0)
        builders = every_builder(Means(engine=engine, images=FakeImages(), limits=limits, workshops=workshops))
        assert tuple(builder.name for builder in builders) == BUILDER_NAMES
        tree = FakeTree("1" * 40, {name: text.encode() for name, text in files.items()})
        return await choose(builders, tree, options)


async def test_a_dockerfile_comes_first_unless_another_builder_is_selected(tmp_path: Path) -> None:
    files = {"Dockerfile": "FROM x", "requirements.txt": "", "Procfile": "web: x"}
    choice = await every(tmp_path, files, BuildOptions())
    assert (choice.builder.name, choice.why) == ("dockerfile", "Dockerfile, so what it says")
    choice = await every(tmp_path, files, BuildOptions(selected="python"))
    assert (choice.builder.name, choice.why) == ("python", "requirements.txt, so Python with pip")


async def test_a_selected_builder_that_finds_nothing_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        await every(tmp_path, {"Dockerfile": "FROM x"}, BuildOptions(selected="python"))
    assert "Looked for: requirements.txt, pyproject.toml or Pipfile (python)." in refused.value.message
    assert refused.value.hint == "To have every builder look, select none: builder:set <app> selected"


async def test_a_project_descriptor_comes_before_a_dockerfile_if_it_speaks_of_buildpacks(tmp_path: Path) -> None:
    files = {"Dockerfile": "FROM x", "project.toml": '[io.buildpacks]\nbuilder = "house/builder:1"'}
    choice = await every(tmp_path, files, BuildOptions())
    assert (choice.builder.name, choice.why) == ("pack", "project.toml, so buildpacks of house/builder:1")
    of_another_program = {**files, "project.toml": "[tool.of-julia]"}
    assert (await every(tmp_path, of_another_program, BuildOptions())).builder.name == "dockerfile"


async def test_buildpacks_that_are_selected_need_no_descriptor(tmp_path: Path) -> None:
    choice = await every(tmp_path, {"Dockerfile": "FROM x"}, BuildOptions(selected="pack"))
    assert (choice.builder.name, choice.why) == ("pack", "it is selected, so buildpacks of heroku/builder:24")


@pytest.mark.parametrize(
    ("files", "builder", "said"),
    [
        ({"go.mod": "module x", "main.go": "package main", "package.json": "{}"}, "go",
         "; left alone: package.json (node)"),
        ({"Gemfile": "gem 'rack'", "config.ru": "", "requirements.txt": ""}, "ruby",
         "; left alone: requirements.txt (python)"),
        ({"composer.json": "{}", "index.php": "", "package.json": '{"scripts": {"build": "x"}}'}, "php",
         "serves all files"),
        ({"composer.json": "{}", "package.json": "{}", "Procfile": "web: x"}, "php",
         "; left alone: package.json (node)"),
        ({"pom.xml": "", "package.json": "{}", "a/go.mod": ""}, "java", "; left alone: package.json (node)"),
        ({"package.json": '{"scripts": {"build": "x"}}', "index.html": ""}, "static", "then what the build puts out"),
        ({"index.php": "", "index.html": ""}, "php", "serves all files"),
        ({"composer.json": "{}", "package.json": "{}", "server.js": ""}, "node", "; left alone: composer.json (php)"),
    ],
)  # fmt: skip
async def test_where_several_could_build_the_sensible_one_does_and_says_what_it_leaves_alone(
    tmp_path: Path, files: dict[str, str], builder: str, said: str
) -> None:
    choice = await every(tmp_path, files, BuildOptions())
    assert choice.builder.name == builder and choice.why.endswith(said)
    if builder != "static":
        assert "left alone" not in (await every(tmp_path, files, BuildOptions(selected=builder))).why


async def test_the_files_of_the_build_folder_decide(tmp_path: Path) -> None:
    files = {"Dockerfile": "x", "api/requirements.txt": "", "api/Procfile": "web: x"}
    assert (await every(tmp_path, files, BuildOptions(build_folder="api"))).builder.name == "python"


def test_paths_are_cleaned() -> None:
    assert folder_of(BuildOptions(build_folder="/a/./b//")) == "a/b"
    assert folder_of(BuildOptions(build_folder="/")) == ""
    assert dockerfile_of(BuildOptions(dockerfile_path="./x/Prod")) == "x/Prod"
    assert dockerfile_of(BuildOptions(dockerfile_path="")) == "Dockerfile"
