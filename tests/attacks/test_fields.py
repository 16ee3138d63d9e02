"""Each field of each command is given what a shell, a path, an option or a terminal would act on, and is used after.

What a command was given is stored whole, or refused with a sentence; then the app is deployed with it, renamed and
destroyed. A shell would leave a file behind. What the real parts make of it: ``tests/flow/test_attacked.py``.
"""

from __future__ import annotations

import itertools
import os
import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import msgspec
import pytest

from agent.commands.arguments import Flag, Option, Parameter
from agent.commands.registry import Entry
from agent.lifecycle.properties import PROPERTIES
from tests.attacks.harbour import Server, Told, attack, prepare
from tests.attacks.lines import ENTRIES, HOSTILE, SHELLED, Line, sensible
from tests.commands.desk import Answer

SHARE = int(os.environ.get("PUSHBOAT_TEST_PAYLOADS", "16"))
"""Each field gets every so-many-th payload, another one first each time; 1: all."""

AT_ONCE = 6
"""Commands whose fields one server gets payloads in."""

MISPLACED = "misplaced-5b20d3"

TAKING = ("apps:rename", "apps:destroy")
"""Commands after which there may be no blog any more: each of their lines gets a server of its own."""

REBUILD = "ps:rebuild {}"
USES = (
    "config:export {}",
    "apps:report {}",
    "events --app {}",
    "apps:rename {} journal",
    "releases journal",
    "apps:destroy journal --force",
)
"""What is done with the app after: a deploy, looks at it, another name, its end."""


@cache
def server() -> Server:
    """Return the prepared server, made once."""
    return prepare()


def line_for(entry: Entry, field: Parameter, payload: str) -> Line:
    """Return a line that has `payload` in one field, and what is sensible in those that must be there."""
    words = [entry.name, *(["--force"] if entry.command.destroys else [])]
    if isinstance(field.kind, Option):
        words.append(f"{field.kind.names[0]}={payload}")
    arguments = entry.signature.arguments
    last = arguments.index(field) if field in arguments else sum(one.is_required for one in arguments) - 1
    values = [payload if one is field else sensible(entry, one)[0] for one in arguments[: last + 1]]
    return Line(shlex.join([*words, "--", *values]))


def fields(entry: Entry) -> list[Parameter]:
    """Return what of a command has a value."""
    named = [parameter for parameter in entry.signature.named() if not isinstance(parameter.kind, Flag)]
    return [*entry.signature.arguments, *named]


def payloads_for(number: int) -> Sequence[str]:
    """Return the payloads that the field of this number gets."""
    return HOSTILE[number % SHARE :: SHARE]


def wrong(answers: Sequence[Told]) -> list[Told]:
    """Return what went wrong."""
    return [told for told in answers if told.complaints]


def given_and_used(lines: Sequence[Line], *, app: str = "blog") -> None:
    """Give the lines, and use the app after. What was stored may fail its deploy, and nothing else."""
    told = attack(server(), [*lines, *(Line(use.format(app)) for use in (REBUILD, *USES))])
    assert wrong(told) == []
    rebuilt, *used = [one.status for one in told[len(lines) : -1]]
    assert rebuilt in (0, 1) and used == [0] * len(USES), (lines, rebuilt, used)


def name_after(line: Line) -> str:
    """Return what blog is called after a line; nothing: it is gone."""
    answers: list[Answer] = []
    attack(server(), [line, Line("apps:list --quiet")], hear=answers.append)
    return "".join(set(answers[-1].out.split()) - {"draft", "shop.eu"})


@pytest.mark.slow
def test_a_payload_in_any_field_is_stored_whole_or_refused_and_has_no_effect_later() -> None:
    canary = Path(SHELLED)
    canary.unlink(missing_ok=True)
    numbers = itertools.count()
    lines = {
        entry.name: [line_for(entry, field, text) for field in fields(entry) for text in payloads_for(next(numbers))]
        for entry in ENTRIES
    }
    taking = [line for name in TAKING for line in lines.pop(name)]
    for line in taking:
        if app := name_after(line):
            given_and_used([line], app=app)
        else:
            assert line.text.startswith("apps:destroy")
    left = list(lines.values())
    for start in range(0, len(left), AT_ONCE):
        given_and_used([line for some in left[start : start + AT_ONCE] for line in some])
    number, count = next(numbers), len(taking) + sum(map(len, left))
    assert number > 180 and count > number * len(HOSTILE) / SHARE / 2
    assert not canary.exists()


@pytest.mark.parametrize("name", ["0x10", "true", "9" * 40])
def test_an_app_with_a_strange_name_is_used_like_any_other(name: str) -> None:
    rename = Line(f"apps:rename blog {name}")
    assert name_after(rename) == name
    given_and_used([rename], app=name)


def given(*lines: str) -> list[Answer]:
    """Return the answers of a server of one's own."""
    answers: list[Answer] = []
    told = attack(server(), [Line(line) for line in lines], hear=answers.append)
    assert wrong(told) == []
    return answers


WRITABLE = [payload for payload in HOSTILE if "\0" not in payload]


def test_a_value_of_config_comes_back_as_it_was_given() -> None:
    lines = [shlex.join(["config:set", "--no-restart", "blog", f"K{n}={text}"]) for n, text in enumerate(WRITABLE)]
    answers = given(*lines, "apps:rename blog journal", "config:export journal --format json")
    assert [answer.status for answer in answers] == [0] * len(answers)
    stored = msgspec.json.decode(answers[-1].out, type=dict[str, str])
    assert {f"K{n}": stored.get(f"K{n}") for n in range(len(WRITABLE))} == {
        f"K{n}": text for n, text in enumerate(WRITABLE)
    }


def test_a_build_argument_comes_back_as_it_was_given() -> None:
    words = [shlex.join(["--build-arg", f"K{n}={text}"]) for n, text in enumerate(WRITABLE)]
    answers = given(*(shlex.join(["docker-options:add", "blog", "build", word]) for word in words))
    taken = [n for n, answer in enumerate(answers) if answer.status == 0]
    assert len(taken) > len(words) / 2
    [*_, listed] = given(
        *(shlex.join(["docker-options:add", "blog", "build", words[n]]) for n in taken),
        "docker-options:list --format json blog build",
    )
    shown = msgspec.json.decode(listed.out, type=dict[str, str | None])
    assert {f"K{n}": shown.get(f"K{n}") for n in taken} == {f"K{n}": WRITABLE[n] for n in taken}


def flattened(value: object) -> list[object]:
    """Return all that is not a list or an object itself."""
    if isinstance(value, dict):
        return [inner for key, one in value.items() for inner in (key, *flattened(one))]
    return [inner for one in value for inner in flattened(one)] if isinstance(value, list) else [value]


@pytest.mark.slow
def test_a_property_is_stored_as_its_check_says_or_not_at_all() -> None:
    visible = [one for one in PROPERTIES.values() if not one.is_hidden]
    known = {entry.name for entry in ENTRIES}
    chosen = WRITABLE if SHARE == 1 else WRITABLE[::3]
    tried = 0
    for property in visible:
        command = f"{property.noun}:set"
        if command not in known:
            continue
        lines = []
        for payload in chosen:
            lines += [
                shlex.join([command, "--", "blog", property.key, payload]),
                f"{property.noun}:report blog --format json",
            ]
        answers = given(*lines)
        for payload, answer, shown in zip(chosen, answers[::2], answers[1::2], strict=True):
            tried += 1
            if answer.status == 0 and payload:
                row = msgspec.json.decode(shown.out, type=dict[str, object])
                assert property.check(payload) in [str(one) for one in flattened(row)], (property.name, payload, row)
    assert tried > 300


def test_names_are_taken_as_they_are_or_not_at_all() -> None:
    answers = given(*(shlex.join(["apps:create", "--", payload]) for payload in HOSTILE), "apps:list --quiet")
    made = {payload for payload, answer in zip(HOSTILE, answers, strict=False) if answer.status == 0}
    assert made == {"0", "0x10", "1e309", "nan", "null", "true", "9" * 18, "9" * 40, "2147483648"}
    assert set(answers[-1].out.split()) == made | {"blog", "draft", "shop.eu"}


def test_a_secret_typed_in_the_wrong_place_is_not_repeated_by_the_refusal() -> None:
    """What stands after an ``=`` may be one, and what a command says lands in the logs of whatever runs it."""
    for start in range(0, len(ENTRIES), AT_ONCE):
        lines = [
            line_for(entry, field, f"{before}={MISPLACED}")
            for entry in ENTRIES[start : start + AT_ONCE]
            for field in fields(entry)
            for before in ("TOKEN", "https://git.example.com/a.git?token")
        ]
        answers: list[Answer] = []
        attack(server(), lines, hear=answers.append)
        told = zip(lines, answers, strict=True)
        assert [(line.text, answer.err) for line, answer in told if MISPLACED in answer.err] == []
