"""Ranges of versions, as the tools of several languages write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.builders.versions import Range, numbers, parse_range


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("3.12", ["3.12.0", "3.12.9"], ["3.11.9", "3.13.0"]),
        ("v20.11.1", ["20.11.1"], ["20.11.2", "20.12.0"]),
        ("20.x", ["20.0.0", "20.99.0"], ["19.0.0", "21.0.0"]),
        ("==3.12.*", ["3.12.4"], ["3.13.0"]),
        (">=3.10,<4", ["3.10.0", "3.13.1"], ["3.9.9", "4.0.0"]),
        (">=18 <21", ["18.0.0", "20.9.0"], ["21.0.0", "17.9.0"]),
        (">= 18", ["18.0.0", "99.0.0"], ["17.0.0"]),
        ("^18 || ^20.1", ["18.4.0", "20.1.0"], ["19.0.0", "20.0.9", "21.0.0"]),
        ("^3.11", ["3.11.0", "3.14.0"], ["3.10.0", "4.0.0"]),
        ("^0.2.3", ["0.2.3", "0.2.9"], ["0.3.0"]),
        ("~3.11", ["3.11.4"], ["3.12.0"]),
        ("~18", ["18.9.0"], ["19.0.0"]),
        ("~=3.11", ["3.11.0", "3.12.0"], ["4.0.0", "3.10.0"]),
        ("~=3.11.2", ["3.11.2", "3.11.9"], ["3.12.0", "3.11.1"]),
        (">3.9, !=3.11.*", ["3.10.0", "3.12.0"], ["3.9.1", "3.11.4"]),
        ("16 - 18", ["16.0.0", "18.9.9"], ["15.9.9", "19.0.0"]),
        ("<=20", ["20.5.0"], ["21.0.0"]),
        ("*", ["1.0.0"], []),
        ("lts/*", ["1.0.0"], []),
    ],
)
def test_a_range_holds_what_its_tool_says(text: str, inside: list[str], outside: list[str]) -> None:
    found = parse_range(text)
    assert [each for each in inside if not found.holds(numbers(each))] == []
    assert [each for each in outside if found.holds(numbers(each))] == []


@pytest.mark.parametrize("text", ["3.12; rm", "$(x)", "latest-ish", "1.2.3.4", "3.12\n", "a" * 300, ">=", "lts/iron x"])
def test_what_is_no_range_is_refused(text: str) -> None:
    if text == "3.12\n":  # white space around it is nothing
        assert parse_range(text).pinned == "3.12"
        return
    with pytest.raises(ValueError):
        parse_range(text)


def test_a_bare_version_is_pinned_and_a_range_is_not() -> None:
    assert [parse_range(text).pinned for text in ("3.12", "==3.12.4", "v20", ">=3", "20.x", "")] == [
        "3.12", "3.12.4", "20", "", "20", ""
    ]  # fmt: skip


def test_the_best_that_is_offered_is_taken() -> None:
    offered = ("3.13", "3.12", "3.11")
    assert parse_range(">=3.9,<3.13").best_of(offered) == "3.12"
    assert parse_range(">=3.13.4").best_of(offered) == "3.13"
    assert parse_range("<3").best_of(offered) is None
    assert Range().best_of(offered) == "3.13"


@given(st.text())
def test_nothing_but_digits_and_dots_is_ever_pinned(text: str) -> None:
    try:
        pinned = parse_range(text).pinned
    except ValueError:
        return
    assert set(pinned) <= set("0123456789.")
