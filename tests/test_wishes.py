"""The words that a container gets as its command."""

from __future__ import annotations

import pytest

from agent.lifecycle.wishes import command_words
from agent.state.plans import Plan

ENV = {"PORT": "5000", "TOKEN": "a b", "DYNO": "web.1"}
TO_AN_ENTRYPOINT = {
    "serve --port $PORT": ("serve", "--port", "5000"),
    "serve ${TOKEN}": ("serve", "a b"),
    "serve 'two words' $PORT": ("serve", "two words", "5000"),
    "serve --to=$NOTHING": ("serve", "--to="),
    "serve 'open": ("serve 'open",),
}


@pytest.mark.parametrize(("line", "words"), TO_AN_ENTRYPOINT.items())
def test_an_entrypoint_gets_the_line_as_words_with_variables_filled_in(line: str, words: tuple[str, ...]) -> None:
    assert command_words(line, plan=Plan(processes=(), port=5000, has_entrypoint=True), env=ENV) == words


def test_without_an_entrypoint_a_value_of_the_config_is_no_argument() -> None:
    words = command_words("serve --token $TOKEN", plan=Plan(processes=(), port=5000), env=ENV)
    assert not any("a b" in word for word in words)
