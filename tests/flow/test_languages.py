"""The examples of languages, pushed as a user would: real packages, on a Debian that no registry is needed for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.debian import ensure_debian
from tests.support.rig import Checkout, Done, Rig

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

EXAMPLES = Path(__file__).parents[2] / "examples"
KILLED = 137


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def harbour(boat: Rig) -> AsyncIterator[Rig]:
    """A Pushboat that builds languages on Debian's own packages."""
    image = await asyncio.to_thread(ensure_debian)
    await boat.must("builder:set", "--global", "base-image", image)
    yield boat
    await boat.must("builder:set", "--global", "base-image")


def example(boat: Rig, name: str, *, app: str) -> Checkout:
    folder = EXAMPLES / name
    files = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    return boat.checkout(app, files)


async def pushed(boat: Rig, app: Checkout) -> str:
    done = await boat.git_push(app, seconds=400)
    assert done.status == 0, done.err
    return done.err


async def change(app: Checkout, name: str) -> None:
    path = app.folder / name
    assert "version 1" in path.read_text()
    path.write_text(path.read_text().replace("version 1", "version 2"))


def cached(said: str, step: str) -> bool:
    """Tell whether the step that holds these words was cached."""
    lines = [line for line in said.splitlines() if step in line]
    assert len(lines) == 1, said
    return lines[0].endswith("CACHED")


async def runs_as(boat: Rig, app: str) -> str:
    replica, *_ = await boat.replicas(app)
    return (await boat.docker("exec", replica, "id", "-u")).out.strip()


async def exit_status(boat: Rig, app: str) -> int:
    """Stop the app, and return the status that its process ended with after SIGTERM."""
    replica, *_ = await boat.replicas(app)  # the newest comes first; older ones may still drain
    watching = await boat.spawn(
        "docker", "--host", f"unix://{boat.boat.engine.path}", "events", "--filter", f"container={replica}",
        "--filter", "event=die", "--since", "1m", "--format", "{{.Actor.Attributes.exitCode}}",
    )  # fmt: skip
    try:
        await boat.must("ps:stop", app)
        assert watching.stdout
        return int(await asyncio.wait_for(watching.stdout.readline(), 60))
    finally:
        watching.kill()
        await watching.wait()


async def report(boat: Rig, app: str) -> dict[str, str]:
    found = json.loads(await boat.must("builder:report", app, "--format", "json"))
    assert isinstance(found, dict)
    return found


async def plan(boat: Rig, app: str) -> Done:
    return await boat.ssh("builder:plan", app)


async def test_flask_with_pip(harbour: Rig) -> None:
    app = example(harbour, "python-flask", app="flask")
    said = await pushed(harbour, app)
    why = "requirements.txt, so Python with pip; Flask in app.py, so web: gunicorn app:app"
    assert f"with python\n       {why}\n" in said
    assert (await harbour.http("flask.localhost", "/?name=Ada")).text == "Hello from Flask, Ada. This is version 1.\n"
    assert await runs_as(harbour, "flask") == "10001"
    await change(app, "app.py")
    said = await pushed(harbour, app)
    assert cached(said, "pip install --requirement")
    assert (await harbour.http("flask.localhost")).text == "Hello from Flask, you. This is version 2.\n"
    found = await report(harbour, "flask")
    assert (found["detected"], found["detected-because"]) == ("python", why)
    assert await exit_status(harbour, "flask") != KILLED


async def test_a_printed_plan_is_a_dockerfile_that_builds_the_app(harbour: Rig) -> None:
    app = example(harbour, "python-flask", app="taken")
    await harbour.must("apps:create", "taken")
    nothing = await plan(harbour, "taken")
    assert nothing.status == 1 and "Nothing was pushed" in nothing.err
    await pushed(harbour, app)
    printed = await plan(harbour, "taken")
    assert printed.status == 0 and "requirements.txt, so Python with pip" in printed.err
    app.write({"Dockerfile": printed.out})
    said = await pushed(harbour, app)
    assert "with dockerfile" in said
    assert (await harbour.http("taken.localhost")).text == "Hello from Flask, you. This is version 1.\n"
    # The printed text is the same again, now that it is the app's own.
    await harbour.must("builder:set", "taken", "selected", "python")
    assert (await plan(harbour, "taken")).out == printed.out
