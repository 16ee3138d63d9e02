"""What is stored, held against itself: a whole folder has nothing wrong with it, and each kind of damage is named."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agent.bootstrap.memory import memory
from agent.bootstrap.soundness import Soundness, soundness
from agent.errors import Misconfigured
from agent.git.repos import GitRepos
from agent.lifecycle import apps
from agent.settings import DataSettings, Settings
from agent.state import plans
from agent.state.plans import Plan
from proto.names import AppId, AppName
from proto.wire import Exit
from tests.fakes.world import FakeClock, SeededIds

BLOG, SHOP = AppId("ablog"), AppId("ashop")
GONE = "0" * 40


@pytest.fixture
async def settings(tmp_path: Path) -> AsyncIterator[Settings]:
    """Yield the settings of an agent that has two apps with config, and has ended."""
    settings = Settings(data=DataSettings(folder=str(tmp_path)))
    repos = GitRepos(tmp_path / "repos")
    async with memory(settings, clock=FakeClock(), ids=SeededIds()) as (database, _):
        for app, name in ((BLOG, "blog"), (SHOP, "shop")):
            await repos.create(app)
            async with database.transaction() as tx:
                await apps.create(tx, app=app, name=AppName(name), by="ann")
                await tx.configs.put(app, {"COLOUR": "blue"})
                await tx.properties.set(app, "builder.build-args", "TOKEN=1", is_secret=True)
    yield settings


@contextlib.contextmanager
def by_hand(settings: Settings) -> Iterator[sqlite3.Connection]:
    """Yield the database for changes that no agent would make."""
    connection = sqlite3.connect(settings.folder / "pushboat.db")
    try:
        yield connection
        connection.commit()
    finally:
        connection.close()


def wrong(found: Soundness) -> list[str]:
    return [finding.message for finding in found.findings]


async def test_what_an_agent_stored_is_sound_also_while_one_runs(settings: Settings) -> None:
    found = await soundness(settings)
    assert found == Soundness(
        (
            "The database holds 2 apps.",
            "The key file is held against 4 sealed values.",
            "2 repositories were read.",
        ),
        (),
    )
    async with memory(settings, clock=FakeClock(), ids=SeededIds()):
        assert await soundness(settings) == found


async def test_a_folder_without_a_database_is_not_made_one(tmp_path: Path) -> None:
    found = await soundness(Settings(data=DataSettings(folder=str(tmp_path))))
    assert found.findings == () and found.looked_at == (f"Nothing is stored in {tmp_path} yet.",)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE apps SET live_release = 3 WHERE id = 'ablog'", "app blog has a live release that is not stored"),
        (
            "INSERT INTO deliveries (event_id, handler, app, due_at) VALUES (999, 'builder.build', 'ablog', 0)",
            "handler builder.build is owed an event that is not stored",
        ),
        (
            "INSERT INTO deploys (id, app, kind, status, by, why, created_at)"
            " VALUES ('d1', 'ablog', 'push', 'live', 'ann', 'x', 0)",
            "app blog has an ended deploy without an outcome, or one with an outcome that goes on",
        ),
        ("DELETE FROM apps WHERE id = 'ashop'", "a row of domains refers to none of apps"),
    ],
)
async def test_rows_that_contradict_each_other_are_named(settings: Settings, change: str, says: str) -> None:
    with by_hand(settings) as connection:
        connection.execute("INSERT INTO domains (domain, app, added_at) VALUES ('shop.example.com', 'ashop', 0)")
        connection.execute(change)
    assert f"Database: {says}." in wrong(await soundness(settings))


async def test_a_release_without_its_config_and_a_commit_that_is_gone_are_named(settings: Settings) -> None:
    with by_hand(settings) as connection:
        connection.execute(
            "INSERT INTO deploys (id, app, kind, status, by, why, created_at, ended_at)"
            " VALUES ('d1', 'ablog', 'push', 'live', 'ann', 'x', 0, 1)"
        )
        connection.execute(
            "INSERT INTO releases (app, version, deploy, image, plan, commit_id, by, why, created_at)"
            " VALUES ('ablog', 1, 'd1', 'sha256:1', ?, ?, 'ann', 'x', 0)",
            (plans.encode(Plan(processes=())), GONE),
        )
        connection.execute("UPDATE apps SET live_release = 1 WHERE id = 'ablog'")
    assert wrong(await soundness(settings)) == [
        "Database: app blog would give a release a number that one has.",
        "Database: a release of app blog has no config of its own.",
        f"The repository of blog (ablog) lacks commit {GONE}.",
    ]


async def test_a_damaged_file_is_named_with_what_to_type(settings: Settings) -> None:
    path = settings.folder / "pushboat.db"
    data = bytearray(path.read_bytes())
    data[4096 : 4096 * 12] = b"\xff" * (4096 * 11)
    path.write_bytes(data)
    found = await soundness(settings)
    assert found.findings and "damaged" in found.findings[0].message + found.findings[0].hint
    path.write_bytes(b"not a database at all")
    assert "damaged" in wrong(await soundness(settings))[0]


async def test_a_sealed_value_that_was_moved_does_not_open(settings: Settings) -> None:
    with by_hand(settings) as connection:
        connection.execute(
            "UPDATE configs SET sealed = (SELECT sealed FROM configs WHERE app = 'ashop') WHERE app = 'ablog'"
        )
    assert wrong(await soundness(settings)) == ["Database: what is stored for app:ablog/release:0 does not open."]


async def test_another_key_is_told_once_and_a_missing_one_refused(settings: Settings) -> None:
    key = settings.folder / "key"
    key.write_bytes(b"x" * 32)
    assert wrong(await soundness(settings)) == [
        f"The key file {key} is not the one that this database was sealed with."
    ]
    key.unlink()
    with pytest.raises(Misconfigured, match=r"key\.missing|missing"):
        await soundness(settings)


async def test_repositories_that_are_gone_broken_or_nobodys_are_named(settings: Settings) -> None:
    repos = settings.folder / "repos"
    shutil.rmtree(repos / BLOG)
    (repos / SHOP / "refs" / "heads" / "main").write_text(f"{GONE[:-1]}1\n")
    (repos / "astray").mkdir()
    os.utime(repos / "astray", (0.0, 0.0))
    (repos / "anew").mkdir()
    found = wrong(await soundness(settings))
    assert found[0] == "The repository of blog (ablog) is missing."
    assert found[1].startswith("The repository of shop (ashop) is damaged: ")
    assert found[2:] == ["The repository astray is that of no app."]


async def test_an_older_database_is_left_to_the_start(settings: Settings) -> None:
    with by_hand(settings) as connection:
        connection.execute("PRAGMA user_version = 1")
    found = await soundness(settings)
    assert found.findings == () and "another version" in found.looked_at[0]


@pytest.mark.slow
async def test_the_program_says_it_and_ends_with_1_where_something_is_wrong(settings: Settings) -> None:
    def check(*options: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "PUSHBOAT_DATA_FOLDER": str(settings.folder)}
        command = [sys.executable, "-m", "agent", "check", *options]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    whole = check()
    assert (whole.returncode, whole.stderr) == (Exit.OK, "")
    assert "-----> The database holds 2 apps.\n" in whole.stdout
    shutil.rmtree(settings.folder / "repos" / BLOG)
    broken = check()
    assert broken.returncode == Exit.FAILED
    assert " !     The repository of blog (ablog) is missing.\n       It may be" in broken.stderr
    alone = check("--settings-only")
    assert (alone.returncode, alone.stdout) == (Exit.OK, "")
