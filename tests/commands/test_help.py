"""Help and documentation are derived from the commands; what people see of them is golden.

To accept a change: ``PUSHBOAT_WRITE_GOLDEN=1 pytest tests/commands/test_help.py``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from agent.commands import reference
from agent.commands.arguments import Argument, Flag, Option
from agent.commands.catalogue import every_command
from agent.commands.helping import Guide
from agent.commands.parsing import HelpWanted, parse
from agent.commands.registry import Entry
from agent.commands.words import split
from tests.commands.desk import Desk

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "help"
TOPICS = ("", "apps", "config", "ps", "config:set", "ps:scale", "run", "logs", "git:set", "releases:rollback")


def agrees(path: Path, text: str) -> None:
    """Compare with the golden file, or write it if asked to."""
    if os.environ.get("PUSHBOAT_WRITE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text, f"{path.name} differs; see the docstring of {Path(__file__).name}"


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic or "overview")
def test_help_reads_as_it_did(topic: str) -> None:
    lines = Guide(every_command()).help(topic)
    agrees(GOLDEN / f"{(topic or 'overview').replace(':', '.')}.txt", "\n".join(lines) + "\n")


def test_the_documentation_is_what_the_commands_say() -> None:
    agrees(ROOT / "docs" / "commands.md", reference.text())


def test_every_argument_says_what_it_is() -> None:
    for entry in every_command().entries():
        assert 10 < len(entry.summary) < 120, entry.name
        for parameter in (*entry.signature.arguments, *entry.signature.named()):
            kind = parameter.kind
            assert isinstance(kind, Argument | Flag | Option) and kind.help.endswith((".", "?")), entry.name


@pytest.mark.parametrize("entry", every_command().entries(), ids=lambda entry: entry.name)
def test_every_command_is_shown_at_work_by_examples_that_can_be_given(entry: Entry) -> None:
    assert entry.command.examples
    for example in entry.command.examples:
        line = re.split(r" (?:<|>|&&) ", example)[0]
        try:
            found = parse(split(line), registry=every_command()).entry.name
        except HelpWanted as wanted:
            found = "help"
            assert wanted.topic
        assert found == entry.name, example


async def test_help_is_asked_for_in_every_usual_way(desk: Desk) -> None:
    overview = await desk.give("help")
    assert overview.status == 0 and "Usage:" in overview.out
    for line in ("", "--help", "-h"):
        assert (await desk.give(line)).out == overview.out, line
    command = await desk.give("help config:set")
    for line in ("config:set --help", "config:set blog -h", "--help config:set", "config:set:help"):
        assert (await desk.give(line)).out == command.out, line
    noun = await desk.give("config:help")
    for line in ("config", "help config", "config --help"):
        assert (await desk.give(line)).out == noun.out, line
    assert "apps:create <name>" in (await desk.give("help --all")).out


async def test_what_is_unknown_gets_a_suggestion(desk: Desk) -> None:
    assert "Did you mean: apps:list" in (await desk.give("app:list")).err
    assert "Did you mean: config:set" in (await desk.give("cofnig:set a B=c")).err
    assert "See what there is with: help" in (await desk.give("zzzz")).err
    flag = await desk.give("config:set blog --no-restrat A=1")
    assert flag.status == 1 and "Did you mean --no-restart?" in flag.err
    assert (await desk.give("help nope")).status == 1


async def test_completion_knows_commands_flags_and_apps(desk: Desk) -> None:
    await desk.give("apps:create blog")
    assert (await desk.give("complete -- apps:cr")).out == "apps:create\n"
    assert (await desk.give("complete -- config:set --no")).out == "--no-restart\n"
    assert (await desk.give("complete -- logs bl")).out == "blog\n"
    assert "complete" not in (await desk.give("complete -- ''")).out.split()
    assert "complete" not in (await desk.give("help --all")).out.split()
