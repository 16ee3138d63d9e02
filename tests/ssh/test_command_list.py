"""The list of refs that a pushing client sends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import UserError
from agent.git.command_list import MAX_REFS, NOTHING, CommandList, CommandListReader

OLD, NEW = "1" * 40, "2" * 40


def packet(line: str | bytes) -> bytes:
    data = line if isinstance(line, bytes) else line.encode()
    return b"%04x" % (len(data) + 4) + data


def command(ref: str, *, old: str = OLD, new: str = NEW, capabilities: str | None = None) -> bytes:
    return packet(f"{old} {new} {ref}" + ("" if capabilities is None else f"\0 {capabilities}") + "\n")


def whole(data: bytes) -> CommandList:
    commands = CommandListReader().feed(data)
    assert commands is not None
    return commands


def test_an_empty_push_is_four_bytes() -> None:
    assert whole(b"0000").updates == ()


def test_a_list_is_read_with_its_capabilities_and_what_follows_is_kept() -> None:
    data = packet(f"shallow {OLD}\n") + command("refs/heads/main", capabilities="report-status quiet") + b"0000PACK"
    commands = whole(data)
    assert [(u.old, u.new, u.ref, u.branch) for u in commands.updates] == [(OLD, NEW, "refs/heads/main", "main")]
    assert commands.capabilities == {"report-status", "quiet"}
    assert commands.raw == data
    assert commands.has_pack and commands.problem is None


@given(st.lists(st.integers(1, 30), max_size=60))
def test_however_it_is_cut_it_reads_the_same(cuts: list[int]) -> None:
    data = command("refs/heads/main", capabilities="report-status") + command("refs/tags/v1", new=NOTHING) + b"0000"
    reader = CommandListReader()
    position, commands = 0, None
    for size in [*cuts, len(data)]:
        if commands is None and position < len(data):
            commands = reader.feed(data[position : position + size])
            position += size
    assert commands is not None
    assert [(u.ref, u.is_deletion) for u in commands.updates] == [("refs/heads/main", False), ("refs/tags/v1", True)]


@given(st.binary(max_size=300))
def test_garbage_is_refused_or_waited_for_and_nothing_else(data: bytes) -> None:
    try:
        commands = CommandListReader().feed(data)
    except UserError as error:
        assert error.code == "push.garbled"
    else:
        assert commands is None or commands.raw == data


@pytest.mark.parametrize(
    "data",
    [b"zzzz", b"0001", b"0004", packet("hello"), packet(f"{OLD} {NEW}"), packet("push-cert\0x"), b"SSH-", b"-001"],
)
def test_what_is_no_list_is_refused(data: bytes) -> None:
    with pytest.raises(UserError, match="does not speak"):
        CommandListReader().feed(data)


def test_capabilities_belong_to_the_first_command_alone() -> None:
    with pytest.raises(UserError, match="does not speak"):
        CommandListReader().feed(command("refs/heads/a") + command("refs/heads/b", capabilities="x"))


@pytest.mark.parametrize("ref", ["refs/heads/$(id)", "refs/heads/-x", "HEAD", "refs/notes/x", "refs/heads/a\x1b[2J"])
def test_a_hostile_name_is_the_problem_of_the_whole_list(ref: str) -> None:
    commands = whole(command("refs/heads/main") + command(ref) + b"0000")
    assert commands.problem is not None and commands.problem.code == "push.ref-name"


def test_a_name_that_is_no_utf8_is_refused() -> None:
    commands = whole(packet(f"{OLD} {NEW} refs/heads/".encode() + b"\xff\xfe\n") + b"0000")
    assert commands.problem is not None


def test_too_many_refs_are_counted_not_kept() -> None:
    data = b"".join(command(f"refs/heads/b{number}") for number in range(MAX_REFS + 5)) + b"0000"
    commands = whole(data)
    assert commands.problem is not None and commands.problem.code == "push.too-many-refs"
    assert len(commands.updates) == MAX_REFS


def test_a_list_without_an_end_is_refused() -> None:
    reader = CommandListReader()
    shallow = packet(f"shallow {OLD}\n") * 1_000
    with pytest.raises(UserError, match="more than 1,048,576 bytes"):
        for _ in range(100):
            reader.feed(shallow)


def test_a_list_may_be_as_long_as_the_limit_and_not_a_byte_longer() -> None:
    data = packet(f"shallow {OLD}\n") * 20 + command("refs/heads/main") + b"0000"
    fits = CommandListReader(max_bytes=len(data)).feed(data + b"PACK" * 1_000)
    assert fits is not None and fits.problem is None
    assert (fits.size, len(fits.raw)) == (len(data), len(data) + 4_000)
    for cut in (1, 4, len(data)):
        reader = CommandListReader(max_bytes=len(data) - 1)
        with pytest.raises(UserError) as refused:
            for start in range(0, len(data), cut):
                reader.feed(data[start : start + cut])
        assert refused.value.code == "push.list-too-long"


def test_as_many_refs_as_the_limit_and_not_one_more() -> None:
    def problem(count: int) -> UserError | None:
        data = b"".join(command(f"refs/heads/b{number}") for number in range(count)) + b"0000"
        commands = CommandListReader(max_refs=3).feed(data)
        assert commands is not None
        return commands.problem

    assert problem(3) is None
    refused = problem(4)
    assert refused is not None and refused.code == "push.too-many-refs" and "more than 3 refs" in refused.message


def test_a_refusal_names_every_ref_in_the_form_that_the_client_asked_for() -> None:
    plain = whole(command("refs/heads/a", capabilities="report-status") + command("refs/heads/b") + b"0000")
    assert plain.refusal("no") == (
        packet("unpack ok\n") + packet("ng refs/heads/a no\n") + packet("ng refs/heads/b no\n") + b"0000"
    )
    banded = whole(command("refs/heads/a", capabilities="report-status side-band-64k") + b"0000")
    inner = packet("unpack ok\n") + packet("ng refs/heads/a no\n") + b"0000"
    assert banded.refusal("no") == packet(b"\1" + inner) + b"0000"
    assert whole(command("refs/heads/a") + b"0000").refusal("no") == b""
