"""The data folder at the start: database and key file are made together, belong together, or the start is refused."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from agent.bootstrap.memory import memory
from agent.errors import Misconfigured
from agent.settings import DataSettings, Settings
from agent.state.database import Database
from proto.names import AppId
from proto.wire import Exit
from tests.fakes.world import FakeClock, SeededIds

BLOG = AppId("ablog")


def settings(folder: Path) -> Settings:
    return Settings(data=DataSettings(folder=str(folder)))


async def open_and_set(folder: Path, value: str = "1") -> None:
    async with memory(settings(folder), clock=FakeClock(), ids=SeededIds()) as (database, _):
        await _set(database, value)


async def _set(database: Database, value: str) -> None:
    async with database.transaction() as tx:
        await tx.configs.put(BLOG, {"SECRET": value})


async def test_the_first_start_makes_a_private_folder_a_key_and_a_database(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with memory(settings(folder), clock=FakeClock(), ids=SeededIds()) as (database, vault):
        await _set(database, "1")
        sealed = await database.read.configs.get(BLOG)
        assert sealed == {"SECRET": "1"}
        assert vault.fingerprint(b"x")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {file.name for file in folder.iterdir()} == {"key", "pushboat.db", "pushboat.db.lock"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    await open_and_set(folder, "2")


async def refused(folder: Path) -> Misconfigured:
    with pytest.raises(Misconfigured) as found:
        await open_and_set(folder)
    assert found.value.status == Exit.MISCONFIGURED == 78
    return found.value


async def test_a_database_without_its_key_file_is_refused_and_no_new_key_is_made(tmp_path: Path) -> None:
    await open_and_set(tmp_path)
    (tmp_path / "key").unlink()
    error = await refused(tmp_path)
    assert error.code == "key.missing"
    assert str(tmp_path / "key") in error.message
    assert not (tmp_path / "key").exists()


async def test_a_database_with_another_key_file_is_refused(tmp_path: Path) -> None:
    await open_and_set(tmp_path)
    (tmp_path / "key").write_bytes(bytes(range(32)))
    error = await refused(tmp_path)
    assert error.code == "key.wrong"
    assert "not the one" in error.message and str(tmp_path / "key") in error.message


async def test_a_database_that_knows_no_key_yet_is_not_given_a_wrong_one(tmp_path: Path) -> None:
    """An older Pushboat left no check value; what it sealed tells."""
    async with memory(settings(tmp_path), clock=FakeClock(), ids=SeededIds()) as (database, _):
        await _set(database, "1")
        async with database.transaction() as tx:
            await tx.server.forget("key.check")
    right = (tmp_path / "key").read_bytes()
    (tmp_path / "key").write_bytes(bytes(range(32)))
    assert (await refused(tmp_path)).code == "key.wrong"
    (tmp_path / "key").write_bytes(right)
    await open_and_set(tmp_path)
    (tmp_path / "key").write_bytes(bytes(range(32)))
    assert "not the one" in (await refused(tmp_path)).message


async def test_a_copied_database_gives_no_config_away(tmp_path: Path) -> None:
    async with memory(settings(tmp_path), clock=FakeClock(), ids=SeededIds()) as (database, _):
        await _set(database, "canary-7b1f0c")
        for number in range(30):
            await _set(database, f"canary-7b1f0c-{number}")
        await database.back_up()
        assert [path.name for path in tmp_path.iterdir() if b"canary-7b1f0c" in path.read_bytes()] == []
    assert [path.name for path in tmp_path.iterdir() if b"canary-7b1f0c" in path.read_bytes()] == []


async def test_a_data_folder_that_cannot_be_one_is_told_by_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match=r"data\.folder .* cannot be used") as refused:
        await open_and_set(tmp_path / "file")
    assert refused.value.status == Exit.MISCONFIGURED
