"""The simulation itself: it repeats itself in any process, it covers every handler, and it finds what is broken."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agent.bootstrap.handlers import HANDLERS as SHIPPED
from agent.lifecycle import config
from agent.logs.segments import Shelf
from agent.ports.images import ImageInfo
from agent.ports.logs import Position
from agent.ports.proxy import Upstream
from agent.state.database import Database
from agent.state.deploys import Deploys
from proto.names import AppId, AppName, DeployId
from tests.fakes.core import FOLLOWING as SIMULATED
from tests.fakes.core import core
from tests.simulation import dying, promises
from tests.simulation.dying import exhaust, settle
from tests.simulation.ledger import CANARY, AppLedger
from tests.simulation.leftovers import leftovers
from tests.simulation.secrecy import where_told
from tests.simulation.stored import FOLDER
from tests.simulation.stories import STORIES
from tests.simulation.test_walks import PARTS
from tests.simulation.virtual import without_pauses
from tests.simulation.walk import Broken, walk
from tests.support.deaths import ALL_TESTS
from tests.support.places import in_memory

pytestmark = pytest.mark.filterwarnings(  # What a broken walk leaves half done complains when it is collected.
    "ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

GONE = AppId("agone2222222")
ROOT = Path(__file__).parent.parent.parent

REPLAY = """
import sys
from tests.support.places import in_memory
from tests.simulation.virtual import without_pauses
from tests.simulation.walk import walk
with in_memory() as folder, without_pauses():
    print(walk(int(sys.argv[1]), folder).digest)
"""


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    """Collect what is half done here, where complaints are expected, and not in whichever test comes next."""
    yield
    gc.collect()


@pytest.fixture
def folder() -> Iterator[Path]:
    with in_memory() as found:
        yield found


def test_every_handler_that_is_shipped_is_simulated() -> None:
    assert set(SHIPPED) == set(SIMULATED)


def test_all_tests_that_die_are_counted() -> None:
    assert len(STORIES) + PARTS == ALL_TESTS


@pytest.mark.slow
def test_a_seed_is_the_same_walk_in_another_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", REPLAY, "7"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def broken_by(folder: Path, *, walks: int = 60) -> str:
    """Return the first promise that a walk finds broken."""
    with without_pauses():
        for seed in range(1, walks + 1):
            try:
                walk(seed, folder)
            except Broken as error:
                return str(error)
    return ""


@pytest.mark.slow
def test_an_update_without_its_guard_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def move(self: Deploys, deploy: str, *, old: object, new: str, at: float | None = None) -> bool:
        rows = await self._sql.run("UPDATE deploys SET status = ?, ended_at = ? WHERE id = ?", (new, at, deploy))
        return rows.changed == 1

    monkeypatch.setattr(Deploys, "move", move)
    assert "scripts/torture simulation --seed" in broken_by(folder)


@pytest.mark.slow
def test_dying_finds_a_push_that_nobody_undoes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(database: Database, repos: object) -> None:
        """Leave it as it broke off."""

    settled = settle(folder)
    monkeypatch.setattr(dying, "undo_broken_off", nothing)
    with pytest.raises(AssertionError, match="a commit that nobody deployed"):
        exhaust(folder, "push", settled)


@pytest.mark.slow
def test_dying_finds_lines_that_are_stored_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settled = settle(folder)
    monkeypatch.setattr(Shelf, "position", lambda self, replica: Position())
    with pytest.raises(AssertionError, match="is there twice"):
        exhaust(folder, "restart of one type", settled)


@pytest.mark.slow
def test_dying_finds_an_event_that_is_not_stored_with_its_change(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two transactions instead of one: only who dies between them sees the difference."""
    from_before = Database._commit

    async def commit(self: Database, tx: object) -> None:
        sql = self._writer
        assert sql is not None
        owed = await sql.run("DELETE FROM deliveries WHERE event_id IN (SELECT MAX(id) FROM events) RETURNING *")
        await from_before(self, tx)  # type: ignore[arg-type]
        if owed.rows:
            marks = ", ".join("?" * len(owed.rows[0]))
            await sql.run("BEGIN IMMEDIATE")
            await sql.run_many(f"INSERT OR IGNORE INTO deliveries VALUES ({marks})", owed.rows)
            await sql.run("COMMIT")

    settled = settle(folder)
    monkeypatch.setattr(Database, "_commit", commit)
    with pytest.raises(AssertionError, match="dying instead of step"):
        exhaust(folder, "push", settled)


@pytest.mark.parametrize("what", ["another port", "a domain less", "the page of no release"])
async def test_a_route_that_is_not_as_it_should_be_is_found(tmp_path: Path, what: str) -> None:
    async with core(tmp_path) as c:
        await c.global_domain()
        app = await c.create()
        await c.push(app, {"Dockerfile": "FROM scratch\nEXPOSE 8080\n"})
        async with c.database.transaction() as tx:
            await tx.domains.add(app.id, "blog.test", at=tx.now)
        await c.settle()
        c.bus.nudge(app.id, names=["proxy.route"])
        await c.settle()
        await promises.check(c)
        route = c.proxy.served[app.id]
        (upstream,) = route.upstreams
        c.proxy.served[app.id] = {
            "another port": msgspec.structs.replace(route, upstreams=(Upstream(upstream.name, upstream.host, 1),)),
            "a domain less": msgspec.structs.replace(route, domains=()),
            "the page of no release": msgspec.structs.replace(route, is_deployed=False),
        }[what]
        with pytest.raises(AssertionError):
            await promises.check(c)


LEFT = {
    "an image": lambda c, folder: c.images.have(ImageInfo(id="sha256:old"), c.images.tag_for(GONE, DeployId("dgone"))),
    "a volume": lambda c, folder: c.workshops.volumes.update({GONE: {"cache"}}),
    "a repository": lambda c, folder: c.repos.put(GONE, "c" * 40, {}),
    "files": lambda c, folder: (folder / FOLDER / GONE).mkdir(),
    "what the deploy": lambda c, folder: c.transcripts.say(GONE, "dgone", "Building"),
}
"""What an app that is gone may have left, as it is told."""


@pytest.mark.parametrize("what", LEFT)
async def test_what_an_app_leaves_is_found(tmp_path: Path, what: str) -> None:
    async with core(tmp_path) as c:
        app = await c.create()
        await c.push(app, {"Dockerfile": "FROM scratch\nEXPOSE 8080\n"})
        await c.settle()
        (tmp_path / FOLDER).mkdir()
        assert await leftovers(c, tmp_path) == []
        LEFT[what](c, tmp_path)
        (found,) = await leftovers(c, tmp_path)
        assert found.startswith(what if what != "an image" else "the image")


async def test_a_row_of_an_app_that_is_gone_is_found(tmp_path: Path) -> None:
    async with core(tmp_path) as c:
        async with c.database.transaction() as tx:
            await tx.properties.set(GONE, "ps.strategy", "rolling")
        assert await leftovers(c, tmp_path) == [f"rows of {GONE} in properties"]


async def test_a_secret_is_found_wherever_it_is_to_be_read(tmp_path: Path) -> None:
    secret = f"{CANARY}0123456789"
    async with core(tmp_path) as c:
        app = await c.create()
        async with c.database.transaction() as tx:
            await config.set_values(tx, app=app.id, values={"TOKEN": secret})
        await c.push(app, {"Dockerfile": "FROM scratch\nEXPOSE 8080\n"})
        await c.settle()
        assert await where_told(c, tmp_path, logged=[]) == []
        async with c.database.transaction() as tx:
            await tx.properties.set(app.id, "git.deploy-branch", secret)
        c.transcripts.say(app.id, "d", secret)
        (replica,) = c.scheduler.wishes
        c.scheduler.wishes[replica] = msgspec.structs.replace(c.scheduler.wishes[replica], command=(secret,))
        found = await where_told(c, tmp_path, logged=[secret])
    assert {"the agent's log", "a transcript", "a container of blog, beside its environment"} <= set(found)
    assert any(place.startswith("state.db") for place in found)


def test_what_people_are_told_of_deploys_is_kept() -> None:
    ledger = AppLedger(AppName("blog"))
    ledger.heard("-----> Rolling blog back to v3\n       To stop it: deploys:cancel blog d1\n", status=None)
    ledger.heard("       Cancel it: deploys:cancel blog d2\n", status=0)
    ledger.heard("Cancelling deploy d3 of blog\n", status=0)
    assert (ledger.deploys, ledger.went_live, ledger.cancelled) == ({"d1", "d2"}, {"d2"}, {"d3"})
    assert ledger.went_back == {3: 1}
