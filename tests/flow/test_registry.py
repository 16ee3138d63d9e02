"""Images that come from a registry: pulled, watched while they come, and deployed."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from scripts.house import processes
from tests.support.docker import until
from tests.support.registry import Registry, noise, registry
from tests.support.rig import BASE, Rig

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

CANCEL_SECONDS = 2.0
"""Within which a cancelled pull has ended: a promise."""
STILL_SECONDS = 0.3
"""A closed tap lets six drops through in that time, while anybody is there to take them."""
LAYER_BYTES = 12_000_000
"""A closed tap lets it through in 37 s: more than two reports need, less than anybody's patience."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shelf() -> AsyncIterator[Registry]:
    with tempfile.TemporaryDirectory(prefix="pb-") as name:
        async with registry(Path(name)) as r:
            yield r


async def stocked(shelf: Registry, boat: Rig, name: str) -> str:
    """Put a web app with a large layer into the registry, and nowhere else; return its reference."""
    reference = shelf.reference(name)
    folder = boat.boat.folder / name
    folder.mkdir()
    (folder / "noise.tar").write_bytes(noise(LAYER_BYTES))
    (folder / "index.html").write_text(f"from the registry: {name}\n")
    (folder / "Dockerfile").write_text(
        f"FROM {BASE}\nCOPY noise.tar index.html /www/\nEXPOSE 5000\nCMD exec httpd -f -p $PORT -h /www\n"
    )
    for words in (("build", "-q", "-t", reference, str(folder)), ("push", "-q", reference), ("rmi", reference)):
        done = await boat.docker(*words)
        assert done.status == 0, done.err
    return reference


async def read_until(stream: asyncio.StreamReader, text: str, *, times: int, seconds: float = 90.0) -> list[str]:
    """Return the lines that came until `times` of them held `text`."""
    lines: list[str] = []
    async with asyncio.timeout(seconds):
        while sum(text in line for line in lines) < times:
            line = await stream.readline()
            assert line, f"it ended: {lines}"
            lines.append(line.decode())
    return lines


async def forget(boat: Rig, reference: str) -> None:
    await boat.docker("rmi", "-f", reference)


async def test_an_image_is_deployed_from_its_registry_and_the_pull_tells_how_far_it_is(
    shelf: Registry, boat: Rig
) -> None:
    reference = await stocked(shelf, boat, "shelved")
    await boat.must("apps:create", "shelved")
    shelf.tap.close()
    asked = await boat.spawn(*boat.boat.ssh_command(("git:from-image", "shelved", reference)))
    try:
        assert asked.stdout
        lines = await read_until(asked.stdout, f"Pulling {reference}: ", times=2)
        shelf.tap.open()
        rest = (await asyncio.wait_for(asked.communicate(), 120))[0].decode()
    finally:
        shelf.tap.open()
        if asked.returncode is None:
            asked.kill()
    assert asked.returncode == 0, rest
    first, second = (int(line.split(": ")[1].split()[0]) for line in lines if f"Pulling {reference}: " in line)
    assert 0 <= first <= second < 12
    assert all(line.rstrip().endswith("of 12 MB") for line in lines if f"Pulling {reference}: " in line)
    assert (await boat.page("shelved.localhost", "from the registry: shelved")).status == 200
    # It is known by our own tag alone, with which it goes.
    assert (await boat.docker("image", "inspect", reference)).status != 0
    await boat.must("apps:destroy", "shelved", "--force")
    await forget(boat, reference)


async def is_still(shelf: Registry) -> bool:
    """Tell whether nobody takes anything from the registry."""
    before = shelf.tap.passed
    await asyncio.sleep(STILL_SECONDS)
    return shelf.tap.passed == before


async def test_a_cancelled_pull_ends_in_the_engine(shelf: Registry, boat: Rig) -> None:
    reference = await stocked(shelf, boat, "halted")
    await boat.must("apps:create", "halted")
    shelf.tap.close()
    asked = await boat.spawn(*boat.boat.ssh_command(("git:from-image", "halted", reference)))
    try:
        assert asked.stdout
        await read_until(asked.stdout, f"Pulling {reference}: ", times=1)
        await boat.must("deploys:cancel", "halted")
        await until(lambda: is_still(shelf), seconds=CANCEL_SECONDS)
        rest = (await asyncio.wait_for(asked.communicate(), 30))[0].decode()
    finally:
        shelf.tap.open()
        if asked.returncode is None:
            asked.kill()
    assert asked.returncode == 1
    assert "cancelled" in rest
    assert (await boat.docker("image", "inspect", reference)).status != 0
    await boat.must("apps:destroy", "halted", "--force")


async def test_a_tag_that_has_moved_is_fetched_anew_and_a_strangers_copy_is_left_alone(
    shelf: Registry, boat: Rig
) -> None:
    first, second = await stocked(shelf, boat, "moves"), await stocked(shelf, boat, "moved")
    await boat.must("apps:create", "moves")
    assert (await boat.ssh("git:from-image", "moves", first)).status == 0
    passed = shelf.tap.passed
    same = await boat.ssh("git:from-image", "moves", first)
    assert same.status == 0 and f"No changes detected: moves runs {first} already" in same.out, same
    assert shelf.tap.passed - passed < LAYER_BYTES / 100, "nothing but what the name means was fetched"
    for words in (("pull", "-q", second), ("tag", second, first), ("push", "-q", first), ("rmi", first, second)):
        done = await boat.docker(*words)
        assert done.status == 0, done.err
    assert (await boat.ssh("git:from-image", "moves", first)).status == 0
    assert (await boat.page("moves.localhost", "from the registry: moved")).status == 200
    # What was deployed is pinned: going back does not ask what the tag means.
    digests = [
        json.loads(await boat.must("releases:info", "moves", f"v{n}", "--format", "json"))["digest"] for n in (1, 2)
    ]
    assert len({*digests}) == 2 and all(digest.startswith(f"{first.rpartition(':')[0]}@sha256:") for digest in digests)
    assert (await boat.ssh("releases:rollback", "moves", "v1")).status == 0
    assert (await boat.page("moves.localhost", "from the registry: moves")).status == 200
    # What somebody else has fetched is used as it is, and keeps its name.
    assert (await boat.docker("pull", "-q", second)).status == 0
    assert (await boat.ssh("git:from-image", "moves", second)).status == 0
    assert (await boat.docker("image", "inspect", second)).status == 0
    await boat.must("apps:destroy", "moves", "--force")
    await forget(boat, second)


async def test_a_dockerfile_builds_on_an_image_of_a_registry_and_the_push_shows_the_pull(
    shelf: Registry, boat: Rig
) -> None:
    reference = await stocked(shelf, boat, "ground")
    files = {"Dockerfile": f"FROM {reference}\nCOPY index.html /www/index.html\n", "index.html": "built on it\n"}
    app = boat.checkout("builton", files)
    await app.commit()
    shelf.tap.close()
    pushing = await boat.spawn("git", "-C", str(app.folder), "push", boat.boat.remote("builton"), "main")
    try:
        assert pushing.stderr
        lines = await read_until(pushing.stderr, " MB", times=2)
        shelf.tap.open()
        rest = (await asyncio.wait_for(pushing.communicate(), 120))[1].decode()
    finally:
        shelf.tap.open()
        if pushing.returncode is None:
            pushing.kill()
    assert pushing.returncode == 0, rest
    assert any("FROM" in line for line in lines)
    assert (await boat.page("builton.localhost", "built on it")).status == 200
    await boat.must("apps:destroy", "builton", "--force")
    await forget(boat, reference)


async def test_an_image_that_the_registry_does_not_have_is_named(shelf: Registry, boat: Rig) -> None:
    await boat.must("apps:create", "unshelved")
    done = await boat.ssh("git:from-image", "unshelved", shelf.reference("nothing"))
    assert done.status != 0
    assert shelf.reference("nothing") in done.out + done.err
    assert "could not be fetched" in done.out + done.err


async def test_a_registry_that_is_gone_is_told_and_the_old_release_serves(boat: Rig, tmp_path: Path) -> None:
    async with registry(tmp_path) as short_lived:
        reference = await stocked(short_lived, boat, "gone")
        await boat.must("apps:create", "gone")
        served = await boat.ssh("git:from-image", "gone", reference)
        assert served.status == 0, served.err
    absent = short_lived.reference("gone", "2")
    done = await boat.ssh("git:from-image", "gone", absent)
    assert done.status != 0
    assert absent in done.out + done.err
    assert (await boat.page("gone.localhost", "from the registry: gone")).status == 200
    assert not processes.naming(str(tmp_path)), "the registry is gone"
    await boat.must("apps:destroy", "gone", "--force")
    await forget(boat, reference)
