from __future__ import annotations

import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.commands.words import split
from agent.errors import UserError

LINES = st.text(alphabet=st.sampled_from(list("ab=-'\"\\ \n\t$`;|&#é\x1b")), max_size=40)


@settings(deadline=None)
@given(LINES)
def test_words_are_split_as_a_posix_shell_splits_them(line: str) -> None:
    try:
        expected = shlex.split(line)
    except ValueError:
        with pytest.raises(UserError):
            split(line)
    else:
        assert split(line) == expected


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0"), max_size=20), max_size=5))
def test_quoted_words_come_back_as_they_were(words: list[str]) -> None:
    assert split(shlex.join(words)) == words


def test_an_open_quote_is_named() -> None:
    with pytest.raises(UserError, match=r"quote \('\) is not closed"):
        split("config:set 'A=b")


def test_no_word_has_a_nul_character() -> None:
    with pytest.raises(UserError, match="NUL"):
        split("run blog 'a\0b'")
