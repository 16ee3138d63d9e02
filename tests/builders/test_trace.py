from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.builders.trace import Output, Status, Trace, Vertex, Warning, read_trace
from tests.support.protobuf import field, message, trace


def test_each_kind_of_news_is_read() -> None:
    vertex = Vertex(digest="d", name="[1/2] RUN ä", is_cached=True, started=5.5, completed=7.0, error="e")
    told = Trace(
        vertexes=(vertex, Vertex(digest="other")),
        statuses=(Status(id="layer", vertex="d", current=3, total=2**40, completed=1.0),),
        outputs=(Output(vertex="d", data=b"line\n\xff"),),
        warnings=(Warning(vertex="d", short="careful"),),
    )
    assert read_trace(trace(told)) == told


def test_fields_of_later_versions_are_skipped() -> None:
    later = message(field(1, "d"), field(3, "name"), field(77, "new"), field(78, 5)) + b"\xfd\x04" + bytes(4)
    assert read_trace(field(1, later) + field(9, b"new")).vertexes == (Vertex(digest="d", name="name"),)


@pytest.mark.parametrize(
    "garbage",
    [b"\x0a", b"\x0a\x05ab", b"\xff" * 11, b"\x0b", b"\x08\x01", b"\x0a\x02\x0a\x7f", b"\x0a\x04\x22\x02ab", b"\x0c"],
)
def test_what_is_no_message_is_refused(garbage: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_trace(garbage)


@given(st.binary(max_size=300))
def test_garbage_raises_nothing_but_value_errors(garbage: bytes) -> None:
    try:
        read_trace(garbage)
    except ValueError:
        return


@given(st.data())
def test_a_damaged_message_raises_nothing_but_value_errors(data: st.DataObject) -> None:
    told = Trace(vertexes=(Vertex(digest="d" * 71, name="x", started=1.5),), outputs=(Output(vertex="d", data=b"x"),))
    good = bytearray(trace(told))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_trace(bytes(good[: data.draw(st.integers(0, len(good)))]))
    except ValueError:
        return
