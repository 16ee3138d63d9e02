"""Sealed values open with their key, in their place, and nowhere else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import Misconfigured
from agent.vault import Vault
from tests.fakes.world import SeededIds

CONTEXT = "app:ablog/release:3"


@given(data=st.binary(max_size=2_000), context=st.text(max_size=60))
def test_what_was_sealed_opens_again_and_shows_nothing(data: bytes, context: str) -> None:
    vault = Vault(bytes(32), token=os.urandom)
    sealed = vault.seal(data, context=context)
    assert vault.unseal(sealed, context=context) == data
    assert len(data) < 8 or data not in sealed
    assert sealed != vault.seal(data, context=context)


def test_what_is_drawn_is_all_that_is_random(tmp_path: Path) -> None:
    first, second = (
        Vault.open(tmp_path / name, may_create=True, token=SeededIds(seed=seed).token)
        for name, seed in (("first", 1), ("second", 1))
    )
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    for data in (b"SECRET=1", b"SECRET=1", b""):
        assert first.seal(data, context=CONTEXT) == second.seal(data, context=CONTEXT)
    other = Vault((tmp_path / "first").read_bytes(), token=SeededIds(seed=2).token)
    assert other.seal(b"", context=CONTEXT) != first.seal(b"", context=CONTEXT)


def test_a_value_opens_in_its_own_place_only(vault: Vault) -> None:
    sealed = vault.seal(b"SECRET=1", context=CONTEXT)
    with pytest.raises(Misconfigured, match="release:4") as refused:
        vault.unseal(sealed, context="app:ablog/release:4")
    assert refused.value.code == "key.wrong"


def test_a_value_opens_with_its_own_key_only(vault: Vault) -> None:
    with pytest.raises(Misconfigured):
        Vault(os.urandom(32), token=os.urandom).unseal(vault.seal(b"SECRET=1", context=CONTEXT), context=CONTEXT)


@pytest.mark.parametrize("place", [0, 15, -1])
def test_a_changed_value_does_not_open(vault: Vault, place: int) -> None:
    sealed = bytearray(vault.seal(b"SECRET=1", context=CONTEXT))
    sealed[place] ^= 1
    with pytest.raises(Misconfigured):
        vault.unseal(bytes(sealed), context=CONTEXT)
    with pytest.raises(Misconfigured):
        vault.unseal(b"short", context=CONTEXT)


def test_fingerprints_are_equal_for_equal_data_under_one_key_only(vault: Vault) -> None:
    assert vault.fingerprint(b"spec") == vault.fingerprint(b"spec")
    assert vault.fingerprint(b"spec") != vault.fingerprint(b"spec2")
    assert vault.fingerprint(b"spec") != Vault(os.urandom(32), token=os.urandom).fingerprint(b"spec")
    assert len(bytes.fromhex(vault.fingerprint(b"spec"))) == 32


def test_stored_formats_do_not_change() -> None:
    """Values and labels outlive a process: a change here would orphan every one of them."""
    vault = Vault(bytes(range(32)), token=os.urandom)
    assert vault.fingerprint(b"spec") == "f8f0fb3a327d56d3b2c7a6daca1a4104830a8be8ff0c1e267e303cf5b01c26b5"
    sealed = bytes.fromhex("b7adc4698bccd343e4b69dc1aed544c21005e9e9cae3e9ca1ddb51b778aafe33fe225938")
    assert vault.unseal(sealed, context=CONTEXT) == b"SECRET=1"


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    sealed = Vault.open(path, may_create=True, token=os.urandom).seal(b"x", context=CONTEXT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_bytes()) == 32
    assert list(tmp_path.iterdir()) == [path]
    assert Vault.open(path, may_create=True, token=os.urandom).unseal(sealed, context=CONTEXT) == b"x"
    assert Vault.open(path, may_create=False, token=os.urandom).unseal(sealed, context=CONTEXT) == b"x"


def test_a_crash_while_the_key_is_made_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "key.new").write_bytes(b"half a k")
    Vault.open(tmp_path / "key", may_create=True, token=os.urandom)
    assert [file.name for file in tmp_path.iterdir()] == ["key"]


def test_a_missing_key_is_not_replaced_when_there_is_something_to_open(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as refused:
        Vault.open(tmp_path / "key", may_create=False, token=os.urandom)
    assert refused.value.code == "key.missing"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_reach_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    Vault.open(path, may_create=True, token=os.urandom)
    path.chmod(mode)
    with pytest.raises(Misconfigured) as refused:
        Vault.open(path, may_create=True, token=os.urandom)
    assert (refused.value.code, refused.value.hint) == ("key.exposed", f"Type: chmod 600 {path}")


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_bytes(b"k" * size)
    with pytest.raises(Misconfigured) as refused:
        Vault.open(path, may_create=True, token=os.urandom)
    assert refused.value.code == "key.wrong-size"
