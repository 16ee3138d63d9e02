"""Whatever line is sent: an answer that a person can use, of a known status, without a secret, and soon.

The lines are drawn from the registry by ``lines``, the server and what is wrong about an answer are ``harbour``'s.
None starts a program, by what Python itself says. 100,000 of them: ``scripts/torture commands``.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.attacks.harbour import ANSWER_SECONDS, BATCH, STORED, Server, attack, batch, prepare, too_slow, wrong
from tests.attacks.lines import CANARY, ENTRIES, Line, draw, fitting
from tests.attacks.torture import some
from tests.commands.desk import Answer
from tests.support.audited import STARTING

FIXED = 1_000
"""The first of the seeds that are the same in each run."""


@cache
def server() -> Server:
    """Return the prepared server, made once."""
    return prepare()


@settings(max_examples=32, deadline=None, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.builds(draw, st.randoms(use_true_random=False)), min_size=BATCH, max_size=BATCH))
@pytest.mark.slow
def test_no_command_line_leads_to_a_traceback(lines: list[Line]) -> None:
    assert [told for told in attack(server(), lines) if told.complaints] == []


@pytest.mark.slow
def test_fifteen_hundred_lines_are_answered_as_people_need_it() -> None:
    chosen = random.SystemRandom().randrange(1 << 40)
    print(f"seeds {FIXED} and {chosen}; replay one: scripts/torture commands --seed SEED")
    fixed = some(server(), range(FIXED, FIXED + 40))
    assert fixed.broken == ()
    assert {0, 1, 20} <= fixed.statuses.keys()
    assert some(server(), range(chosen, chosen + 20)).broken == ()


def test_every_command_is_among_the_lines_and_every_kind_of_answer() -> None:
    chance = random.Random(1)
    for entry in ENTRIES:
        assert fitting(entry, chance)[0] == entry.name
    lines = [line for seed in range(200) for line in batch(seed)]
    named = {entry.name for entry in ENTRIES if any(entry.name in line.text for line in lines)}
    assert named == {entry.name for entry in ENTRIES}
    assert any("\0" in line.text for line in lines) and any("\n" in line.text for line in lines)
    assert any(len(line.text) > 4_000 for line in lines) and any(CANARY in line.text for line in lines)


REFUSED = " !     It is not there.\n       Make it: apps:create\n"


@pytest.mark.parametrize(
    ("text", "answer", "complaint"),
    [
        ("apps:list", Answer(0, "blog\n", ""), ""),
        ("apps:exists x", Answer(20, "", REFUSED), ""),
        ("apps:exists x", Answer(20, "", '{"error":{"code":"a","message":"b","hint":"c"}}\n'), ""),
        ("config:get blog A", Answer(0, CANARY, ""), ""),
        ("apps:list", Answer(70, "", REFUSED), "status 70"),
        ("apps:list", Answer(255, "", REFUSED), "status 255"),
        ("apps:list", Answer(1, "", " !     No.\n"), "no way out"),
        ("apps:list", Answer(1, "", '{"error":{"code":"a","message":"b","hint":""}}\n'), "no way out"),
        ("apps:list", Answer(0, "\x1b[2J", ""), "output has"),
        ("apps:list", Answer(0, "\x9b31m", ""), "output has"),
        ("apps:list", Answer(1, "", f"\x07{REFUSED}"), "error has"),
        ("config:get blog A", Answer(1, "", f"\x1b]0;x\x07{REFUSED}"), "error has"),
        ("apps:list", Answer(0, STORED, ""), "a secret"),
        ("config:get blog A", Answer(1, "", REFUSED + CANARY), "a secret"),
        ("apps:list", Answer(1, "", f"Traceback (most recent call last):\n{REFUSED}"), "a traceback"),
    ],
)
def test_what_is_wrong_about_an_answer_is_seen(text: str, answer: Answer, complaint: str) -> None:
    found = list(wrong(Line(text), answer))
    assert not found if not complaint else any(complaint in one for one in found)


def test_an_answer_that_takes_longer_than_promised_is_seen() -> None:
    assert list(too_slow(ANSWER_SECONDS)) == []
    assert list(too_slow(2.26)) == ["it took 2.3 s of processor time, and 2 are promised"]


WAYS: list[Callable[[], object]] = [
    lambda: subprocess.run(["true"], check=True),
    lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0),
    *(partial(sys.audit, event, "/bin/true") for event in sorted(STARTING)),
]


@pytest.mark.parametrize("start", WAYS, ids=["run", "spawned", *sorted(STARTING)])
def test_a_program_that_is_started_on_the_way_is_seen(start: Callable[[], object]) -> None:
    [listed, at_rest] = attack(server(), [Line("apps:list")], hear=lambda answer: start() and None)
    assert listed.complaints and all("a program was started: " in one for one in listed.complaints)
    assert at_rest.complaints == ()


def test_a_nul_character_in_a_command_for_a_container_is_refused() -> None:
    """It went as far as the list of what containers may be asked for, which made a bug of it."""
    answers = attack(server(), [Line("run blog 'a\0b'"), Line("enter blog web 'a\0b'")])
    assert [told.status for told in answers[:2]] == [1, 1]
    assert [told.complaints for told in answers] == [(), (), ()]
