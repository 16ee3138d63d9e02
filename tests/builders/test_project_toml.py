"""What a project descriptor may ask of buildpacks, and what is refused by name."""

from __future__ import annotations

import tomllib

import pytest

from agent.builders.project_toml import Project, Wanted, left_out, read_project, speaks_of_buildpacks
from agent.errors import UserError


def read(text: str) -> Project:
    return read_project(tomllib.loads(text), invalid=lambda problem: UserError("manifest.invalid", f"It {problem}."))


def test_schema_0_2_is_read() -> None:
    project = read(
        """
        [_]
        schema-version = "0.2"
        [io.buildpacks]
        builder = "house/builder:1"
        include = ["src/", "*.go"]
        [[io.buildpacks.group]]
        id = "house/go"
        version = "1.2"
        [[io.buildpacks.group]]
        uri = "urn:cnb:builder:house/procfile@2.0"
        [[io.buildpacks.build.env]]
        name = "BP_GO_FLAGS"
        value = "-tags x"
        """
    )
    assert project.builder == "house/builder:1"
    assert project.include == ("src/", "*.go")
    assert project.group == (Wanted("house/go", "1.2"), Wanted("house/procfile", "2.0"))
    assert project.env == {"BP_GO_FLAGS": "-tags x"}


def test_schema_0_1_is_read() -> None:
    project = read(
        """
        [project]
        id = "blog"
        [build]
        builder = "house/builder:1"
        exclude = ["spec/"]
        [[build.buildpacks]]
        id = "house/go"
        [[build.env]]
        name = "A"
        value = "1"
        """
    )
    assert (project.builder, project.exclude, project.env) == ("house/builder:1", ("spec/",), {"A": "1"})
    assert project.group == (Wanted("house/go"),)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("[io.buildpacks]\n", True),
        ('[_]\nid = "x"\n', True),
        ("[build]\n", True),
        ("", False),
        ("[tool.x]\n", False),
        ("[io.other]\n", False),
        ("build = 1\n", False),
    ],
)
def test_a_descriptor_is_told_from_a_file_of_that_name(text: str, is_one: bool) -> None:
    assert speaks_of_buildpacks(tomllib.loads(text)) is is_one


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[_]\nschema-version = "9"\n[io.buildpacks]', "schema-version '9'; known are 0.1 and 0.2"),
        ('[io.buildpacks]\ninclude=["a"]\nexclude=["b"]', "both include and exclude"),
        ('[io.buildpacks]\ninclude="a"', "include that is no list of patterns"),
        ('[[io.buildpacks.group]]\nuri="https://example.com/x.tgz"', "only those in the builder image are supported"),
        (
            '[[io.buildpacks.group]]\nid="x"\n[io.buildpacks.group.script]\ninline="ls"',
            "(script), which is not",
        ),
        ('[[io.buildpacks.pre.group]]\nid="x"', "[io.buildpacks.pre], which is not supported"),
        ('[[io.buildpacks.group]]\nid="../x"', "names a buildpack that is none"),
        ('[[io.buildpacks.group]]\nid="x"\nversion="1\\n2"', "names a buildpack that is none"),
        ('[[io.buildpacks.build.env]]\nname="../../etc/passwd"\nvalue="x"', "or with one that is none"),
        ('[[io.buildpacks.build.env]]\nname="A"\nvalue=1', "gives A a value that is no text"),
        ("[io.buildpacks.build]\nenv = 3", "env that is no list of tables"),
    ],
)
def test_what_cannot_be_done_is_refused_and_named(text: str, says: str) -> None:
    with pytest.raises(UserError) as refused:
        read(text)
    assert says in refused.value.message


PATHS = ("go.mod", "main.go", "cmd/web/main.go", "spec/a.txt", "cmd/spec/b.txt", "notes.md", "docs/spec.md")


@pytest.mark.parametrize(
    ("project", "out"),
    [
        (Project(), ()),
        (Project(exclude=("spec/",)), ("spec/a.txt", "cmd/spec/b.txt")),
        (Project(exclude=("/spec/",)), ("spec/a.txt",)),
        (Project(exclude=("*.md", "!notes.md")), ("docs/spec.md",)),
        (Project(exclude=("cmd/spec",)), ("cmd/spec/b.txt",)),
        (Project(include=("*.go", "go.mod")), ("spec/a.txt", "cmd/spec/b.txt", "notes.md", "docs/spec.md")),
    ],
)
def test_files_are_kept_out_by_patterns_of_gitignore(project: Project, out: tuple[str, ...]) -> None:
    assert left_out(project, PATHS) == frozenset(out)
