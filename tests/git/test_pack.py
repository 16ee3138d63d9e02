"""Packs looked through as they stream past: real ones pass, bombs are known by what they say of themselves."""

from __future__ import annotations

import os
import struct
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.errors import UserError
from agent.git.pack import PackLimits, PackReader
from tests.support import bombs
from tests.support.git_client import Client

MIB = 1 << 20
ANYTHING = 1 << 450
"""More than an object of a pack can say that it unfolds to, in the 64 bytes that we read of its head."""


def look(data: bytes, *, cut: int = 65_536, **limits: int) -> PackReader:
    reader = PackReader(PackLimits(**limits))
    for start in range(0, len(data), cut):
        reader.feed(data[start : start + cut])
    return reader


def packed(client: Client, *options: str) -> bytes:
    return client.git("pack-objects", "--stdout", "--all", "--delta-base-offset", "-q", *options, data=b"")


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--no-delta-base-offset",), ("--window=0",)])
@pytest.mark.parametrize("cut", [1, 7, 1_000, 1 << 20])
def test_a_real_pack_is_read_to_its_end(client: Client, options: tuple[str, ...], cut: int) -> None:
    noise = os.urandom(30_000)
    for number in range(8):
        files = {f"d{n}/f": f"{number} {n}\n" * 200 for n in range(20)}
        client.commit({**files, "empty": b"", "noise": noise + bytes([number]), "zeros": bytes(100_000)})
    reader = look(packed(client, *options), cut=cut, object_bytes=100_000)
    assert reader._left == 0 and not reader._is_lost
    with pytest.raises(UserError, match=r"larger than 97\.6553 KiB"):
        look(packed(client, *options), cut=cut, object_bytes=99_999)


@pytest.mark.parametrize("cut", [1, 100_000])
def test_a_file_that_only_a_delta_makes_is_known_by_the_delta(client: Client, cut: int) -> None:
    base = bombs.small(bombs.BLOB, os.urandom(50_000))
    threefold = bombs.repeated(base, 50_000, times=3)
    data = bombs.pack([base, threefold])
    client.git("index-pack", "--stdin", data=data)  # git takes it
    look(data, cut=cut, object_bytes=150_000)
    with pytest.raises(UserError, match="larger than"):
        look(data, cut=cut, object_bytes=149_999)


def test_a_gigabyte_of_zeros_is_known_by_its_first_bytes() -> None:
    data = bombs.pack([(40 * "0", bombs._head(bombs.BLOB, 1 << 30) + zlib.compress(bytes(1_000)))])
    with pytest.raises(UserError) as refused:
        look(data[:20], object_bytes=(1 << 30) - 1)
    assert refused.value.code == "source.too-large"


def test_zeros_within_the_limit_pass_and_cost_no_memory() -> None:
    blob = bombs.zeros(16 * MIB)
    reader = look(bombs.pack([blob, bombs.commit(blob[0])]), object_bytes=16 * MIB)
    assert reader._left == 0 and not reader._is_lost and reader._rest == b""


def test_entries_of_a_folder_are_counted() -> None:
    blob = bombs.small(bombs.BLOB, b"x")
    folder = bombs.tree(*(("100644", f"{number:04}", blob[0]) for number in range(2_000)))
    data = bombs.pack([blob, folder, bombs.commit(folder[0])])
    for cut in (1, 100, 65_536):
        look(data, cut=cut, folder_entries=2_000)
        with pytest.raises(UserError, match="more than 1,999 files"):
            look(data, cut=cut, folder_entries=1_999)


def test_a_size_that_no_number_of_gits_can_hold_is_too_large_too() -> None:
    head = b"\x90" + b"\x80" * 8 + b"\x05"
    with pytest.raises(UserError) as refused:
        look(b"PACK" + struct.pack(">II", 2, 3) + head, cut=1, object_bytes=5 * (1 << 60) - 1)
    assert refused.value.code == "source.too-large"


@given(st.binary(max_size=500), st.integers(1, 50))
@example(b"\x90\x80\x80\x80\x80\x80\x80\x80\x80\x05", 1)  # a commit that says it has 5 << 60 bytes
@example(b"\xb0" + b"\xff" * 62 + b"\x7f", 7)
def test_rubbish_passes_and_is_gits_to_refuse(rubbish: bytes, cut: int) -> None:
    look(rubbish, cut=cut)
    look(b"PACK" + struct.pack(">II", 2, 3) + rubbish, cut=cut, object_bytes=ANYTHING)


@given(st.binary(min_size=1, max_size=30), st.integers(12, 400))
def test_a_damaged_pack_passes(damage: bytes, where: int) -> None:
    blob = bombs.small(bombs.BLOB, b"some text " * 30)
    data = bytearray(bombs.pack([blob, bombs.commit(blob[0])]))
    data[where : where + len(damage)] = damage
    look(bytes(data), cut=33, object_bytes=ANYTHING, folder_entries=ANYTHING)
