from __future__ import annotations

from types import ModuleType
from typing import Annotated

import msgspec
import pytest

from agent.commands.arguments import App, AppOrGlobal, Argument, Flag, Option
from agent.commands.catalogue import every_command
from agent.commands.command import Command
from agent.commands.parsing import Invocation, parse
from agent.commands.registry import Registry
from agent.commands.words import split
from agent.errors import UserError

REGISTRY = every_command()


def read(line: str, *, linked: str = "") -> Invocation:
    """Return what a line asks for."""
    return parse(split(line), registry=REGISTRY, linked_app=linked)


def facts(line: str, *, linked: str = "") -> dict[str, object]:
    """Return the fields of what a line asks for."""
    return msgspec.structs.asdict(read(line, linked=linked).command)


@pytest.mark.parametrize(
    "line",
    [
        "config:set blog A=1 B=2 --no-restart",
        "config:set --no-restart blog A=1 B=2",
        "--app blog config:set A=1 B=2 --no-restart",
        "config:set A=1 --app blog B=2 --no-restart",
        "config:set A=1 B=2 --no-restart --app=blog",
        "--quiet config:set --no-restart blog -- A=1 B=2",
    ],
)
def test_flags_and_the_app_may_stand_anywhere(line: str) -> None:
    invocation = read(line)
    assert invocation.app == "blog"
    assert facts(line) == {"app": "blog", "pairs": ("A=1", "B=2"), "is_encoded": False, "is_draft": True}


@pytest.mark.parametrize(
    ("line", "app", "words"),
    [
        ("run blog ls -la --color", "blog", ("ls", "-la", "--color")),
        ("run --app blog ls --app x", "blog", ("ls", "--app", "x")),
        ("run blog -- ls --help", "blog", ("ls", "--help")),
        ("run -e A=1 blog env -e B=2", "blog", ("env", "-e", "B=2")),
        ("run -- blog ls", "blog", ("ls",)),
    ],
)
def test_what_run_passes_on_is_not_looked_into(line: str, app: str, words: tuple[str, ...]) -> None:
    invocation = read(line)
    assert invocation.app == app
    assert facts(line)["words"] == words


def test_the_linked_app_is_used_where_the_words_make_sense_without_one() -> None:
    assert read("logs", linked="blog").app == "blog"
    assert read("logs other", linked="blog").app == "other"
    assert read("config:get KEY", linked="blog").app == "blog"
    assert read("config:get other KEY", linked="blog").app == "other"
    assert read("config:set A=1 B=2", linked="blog").app == "blog"
    assert read("config:set --global A=1", linked="blog").app is None
    assert read("ps:restart --all", linked="blog").app is None
    assert read("run ls -la", linked="blog").app == "blog"
    assert facts("run ls -la", linked="blog")["words"] == ("ls", "-la")
    entered = {"app": "blog", "process": "worker", "words": ("ps",), "container": ""}
    assert facts("enter worker ps", linked="blog") == entered
    assert read("apps:rename journal", linked="blog").app == "blog"


def test_the_linked_app_may_be_named_all_the_same() -> None:
    assert facts("releases:rollback blog", linked="blog")["version"] is None
    assert facts("releases:rollback blog v3", linked="blog")["version"] == 3
    assert facts("deploys:output blog", linked="blog")["deploy"] == ""
    assert facts("ps:scale blog web=2", linked="blog")["quantities"] == ("web=2",)
    assert facts("run blog ls -la", linked="blog")["words"] == ("ls", "-la")
    assert facts("enter blog web.2 ls", linked="blog")["process"] == "web.2"
    # Of the two that one word can mean, it is the one that makes a whole command.
    assert facts("run web", linked="web")["words"] == ("web",)
    assert facts("apps:rename blog", linked="blog")["new_name"] == "blog"


def test_words_that_need_no_app_are_left_alone() -> None:
    assert facts("apps:create new", linked="blog") == {"app_name": "new"}
    assert facts("apps:create", linked="blog") == {"app_name": "blog"}
    assert read("config:set --app shop A=1", linked="blog").app == "shop"


def test_an_app_that_is_to_be_made_can_be_named_by_the_flag_too() -> None:
    assert facts("--app blog apps:create") == {"app_name": "blog"}
    invocation = read("apps:create --app blog")
    assert invocation.app is None, "it is not there yet, so nobody may look for it"
    for line, code in (
        ("apps:create new --app blog", "argument.too-many"),
        ("apps:create --app B", "app.invalid-name"),
    ):
        with pytest.raises(UserError) as caught:
            read(line)
        assert caught.value.code == code


def test_what_enter_passes_on_is_not_looked_into_either() -> None:
    assert facts("enter --app blog web ls --app x")["words"] == ("ls", "--app", "x")
    assert facts("enter blog web.2 ls --help -la")["words"] == ("ls", "--help", "-la")
    assert facts("enter blog --container-id 3f2a -- ls -la") == {
        "app": "blog",
        "process": "ls",
        "container": "3f2a",
        "words": ("-la",),
    }


def test_short_options_may_be_joined() -> None:
    assert facts("logs blog -tn5")["num"] == 5
    assert facts("logs blog -tq -n 7") == {**facts("logs blog -t -q --num=7")}


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("config:get blog", "argument.missing"),
        ("config:set", "argument.missing"),
        ("logs", "argument.missing"),
        ("logs blog -n", "argument.missing"),
        ("logs blog -n x", "argument.number"),
        ("logs blog -n -5", "argument.number"),
        ("logs blog more words", "argument.too-many"),
        ("logs blog --format yaml", "argument.format"),
        ("logs blog --tail=yes", "argument.flag-value"),
        ("apps:list --app blog", "argument.no-app"),
        ("apps:create Blog", "app.invalid-name"),
        ("apps:create -- -x", "app.invalid-name"),
        ("config:export blog --format yaml", "argument.choice"),
        ("ps:report blog --one --two", "argument.two-rows"),
        ("--nope apps:list", "argument.unknown-flag"),
        ("ps:scale blog 'web", "command.open-quote"),
    ],
)
def test_what_is_wrong_is_named_by_a_constant_code(line: str, code: str) -> None:
    with pytest.raises(UserError) as caught:
        read(line)
    assert caught.value.code == code
    assert caught.value.hint


def module_of(*commands: type[Command]) -> ModuleType:
    """Return a module that defines these commands."""
    module = ModuleType(__name__, "``x:*``: things.")
    vars(module).update({command.__name__: command for command in commands})
    return module


class Good(Command, frozen=True, kw_only=True):
    """Do a good thing."""

    name = "x:good"
    permission = "read"
    app: App


def test_a_wrong_declaration_stops_the_start() -> None:
    class NoPermission(Command, frozen=True, kw_only=True):
        """Do something."""

        name = "x:no"

    class NoHelp(Command, frozen=True, kw_only=True):
        name = "x:help-less"
        permission = "read"

    class NotSaid(Command, frozen=True, kw_only=True):
        """Do something."""

        name = "x:unsaid"
        permission = "read"
        word: str

    class AppLast(Command, frozen=True, kw_only=True):
        """Do something."""

        name = "x:last"
        permission = "read"
        word: Annotated[str, Argument(help="A word.")]
        app: AppOrGlobal

    class RestFirst(Command, frozen=True, kw_only=True):
        """Do something."""

        name = "x:rest"
        permission = "read"
        words: Annotated[tuple[str, ...], Argument(help="Words.")]
        word: Annotated[str, Argument(help="A word.")]

    assert Registry([module_of(Good)]).get("x:good")
    for wrong in (NoPermission, NoHelp, NotSaid, AppLast, RestFirst):
        with pytest.raises((TypeError, NameError)):
            Registry([module_of(wrong)])
    with pytest.raises(TypeError, match="defined twice"):
        Registry([module_of(Good), module_of(Good)])


def test_each_flag_is_one_word_that_begins_with_a_dash() -> None:
    for entry in REGISTRY.entries():
        for parameter in entry.signature.named():
            assert isinstance(parameter.kind, Flag | Option)
            for name in parameter.kind.names:
                assert name.startswith("--") or (name.startswith("-") and len(name) == 2), (entry.name, name)
