from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.builders.protobuf import data, field, fields, number, text

VALUES = st.one_of(st.integers(0, 2**64 - 1), st.binary(max_size=300))


@given(st.lists(st.tuples(st.integers(1, 2**29 - 1), VALUES), max_size=10))
def test_what_is_written_is_read(written: list[tuple[int, int | bytes]]) -> None:
    assert list(fields(b"".join(field(key, value) for key, value in written))) == written


@given(st.binary(max_size=100))
def test_nonsense_is_read_or_refused_and_nothing_else(message: bytes) -> None:
    try:
        list(fields(message))
    except ValueError:
        return


def test_a_field_that_is_left_out_is_empty_and_one_of_the_wrong_kind_is_refused() -> None:
    assert (text(None), number(None)) == ("", 0)
    assert text(b"\xff") == "\N{REPLACEMENT CHARACTER}"
    for wrong in (lambda: data(1), lambda: text(1), lambda: number(b"")):
        with pytest.raises(ValueError):
            wrong()
