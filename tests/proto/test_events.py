"""Events are a file format: what an older Pushboat stored is read, whole, by every later one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from proto.events import EVENT_TYPES, decode, encode, tag_of

EXAMPLES = sorted((Path(__file__).parent.parent / "golden" / "events").glob("*.json"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_a_stored_example_is_read_with_all_that_it_says(example: Path) -> None:
    stored = msgspec.json.decode(example.read_bytes())
    event = decode(example.read_bytes())
    read = msgspec.json.decode(encode(event))
    assert {name: read[name] for name in stored} == stored
    assert tag_of(type(event)) == stored["type"]
    assert example.name.startswith(f"{stored['type']}.")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_a_field_of_a_newer_version_does_no_harm(example: Path) -> None:
    stored = msgspec.json.decode(example.read_bytes())
    assert decode(msgspec.json.encode({**stored, "mood": "cheerful"})) == decode(example.read_bytes())


def test_every_event_has_an_example_and_a_tag_of_its_own() -> None:
    assert {tag_of(event_type) for event_type in EVENT_TYPES} == {
        msgspec.json.decode(example.read_bytes())["type"] for example in EXAMPLES
    }
    assert len({tag_of(event_type) for event_type in EVENT_TYPES}) == len(EVENT_TYPES)


@pytest.mark.parametrize("body", [b'{"type":"app.reborn","app":"a"}', b'{"type":"app.created","app":7}', b"", b"\xff"])
def test_what_cannot_be_read_says_so(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode(body)
