"""Text from apps cannot act on a terminal."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.sanitise import MASK, MIN_SECRET, RESET, clean, in_json, plain, without

_SGR = re.compile(r"\x1b\[[0-9;]*m")
_ACTS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

TRICKS = (
    "\x1b|[|\x1b[|\x9b|\x1b]0;|\x07|\x1b\\|\x9c|\x1bP|m|31|;|8|2J|\x1b[31m|\x1b[0m|\x1b[8m|"
    "\x1b(0|\x90|\u202e|\ud800|\r|\n|\t|?25l|H"
).split("|")
PIECES = st.text(st.characters(), max_size=8) | st.sampled_from(TRICKS)
HOSTILE = st.lists(PIECES, max_size=30).map("".join)


@settings(deadline=None)
@given(HOSTILE)
def test_nothing_but_colours_is_left_of_what_a_terminal_acts_on(text: str) -> None:
    assert not _ACTS.search(_SGR.sub("", clean(text)))
    assert not _ACTS.search(plain(text))


@settings(deadline=None)
@given(HOSTILE)
def test_cleaning_twice_changes_nothing(text: str) -> None:
    assert clean(clean(text)) == clean(text)
    assert plain(plain(text)) == plain(text)


@settings(deadline=None)
@given(HOSTILE.map(lambda text: text.encode("utf-8", "ignore").decode()))
def test_json_is_harmless_and_says_the_same(text: str) -> None:
    shown = in_json(json.dumps({text: text}, ensure_ascii=False))
    assert clean(shown) == shown
    assert json.loads(shown) == {text: text}


@settings(deadline=None)
@given(HOSTILE)
def test_a_colour_ends_with_its_text(text: str) -> None:
    codes = _SGR.findall(clean(text))
    assert not codes or codes[-1] == RESET


@settings(deadline=None)
@given(HOSTILE)
def test_plain_is_clean_without_its_colours(text: str) -> None:
    assert plain(text) == plain(clean(text))


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Cs"]) | st.sampled_from("\n\t")))
def test_harmless_text_stays_as_it_is(text: str) -> None:
    assert clean(text) == text
    assert plain(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("\x1b[1;38;5;8mgrey", "\x1b[1;38;5;8mgrey\x1b[0m"),
        ("\x1b[38;2;8;8;8mdark", "\x1b[38;2;8;8;8mdark\x1b[0m"),
        ("\x1b[8mhidden", "hidden"),
        ("\x1b[0;8mhidden", "hidden"),
        ("\x1b[2J\x1b[Hgone", "gone"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]52;c;cm0gLXJmIH4=\x1b\\text", "text"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0\x1b\\x", "x"),
        ("\x1b_Gi=1;AAAA\x1b\\x", "x"),
        ("\x9b2Jx\x9d0;t\x9cy", "xy"),
        ("\x1b]0;never ends", "0;never ends"),
        ("\x1b(0lqqk\x1bc", "lqqk"),
        ("50%\r100%\x08\x7f", "50%100%"),
        ("user\u202e\u2066 admin\u2069", "user admin"),
        ("a\x1b\x1b[31m[2J", "a\x1b[31m[2J\x1b[0m"),
        ("family: 👨\u200d👩\u200d👧 ok", "family: 👨\u200d👩\u200d👧 ok"),
    ],
)
def test_known_tricks(text: str, shown: str) -> None:
    assert clean(text) == shown


@pytest.mark.parametrize("unit", ["\x1b]", "\x1b[", "\x1b[3", "\x1bP", "\x9b;", "\x1b ", "\x1b[" + "0;" * 40])
def test_a_long_hostile_line_is_read_in_linear_steps(unit: str) -> None:
    # Ten thousand repetitions of what makes a backtracking expression explode: this ends, or the test never does.
    assert "\x1b" not in plain(unit * 10_000)


def test_secrets_are_masked_whole_and_line_by_line() -> None:
    masked = without(["hunter2", "hunter2-and-more", "first line\n second line ", "ab", ""])
    assert masked("a hunter2-and-more hunter2 first line / second line ab") == "a ******* ******* ******* / ******* ab"
    assert without([])("nothing") == "nothing"


def test_each_of_ten_thousand_lines_of_a_secret_is_masked() -> None:
    lines = [f"{number * 7919:08d}" for number in range(10_000)]
    masked = without(["\n".join(lines)])
    assert [masked(f"<{line}> {line}x") for line in lines[::99]] == [f"<{MASK}> {MASK}x"] * len(lines[::99])


@given(st.lists(st.text("abc", min_size=MIN_SECRET, max_size=8), min_size=1, max_size=8), st.text("abc ", max_size=60))
def test_what_is_masked_is_what_an_expression_of_all_secrets_finds(secrets: list[str], text: str) -> None:
    longest = sorted(secrets, key=len, reverse=True)
    assert without(secrets)(text) == re.sub("|".join(map(re.escape, longest)), MASK, text)
