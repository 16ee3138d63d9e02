"""Apps deployed from archives by the whole product: real ssh, git, Docker and HAProxy."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
import tempfile
from pathlib import Path

import pytest

from tests.support.docker import token
from tests.support.rig import BASE, Rig, small_app

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]


def tar_gz(files: dict[str, str]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(f"app-1.0/{name}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return made.getvalue()


async def test_an_archive_goes_live_and_so_does_a_push_on_top_of_it(boat: Rig) -> None:
    await boat.must("apps:create", "packed")
    done = await boat.ssh("git:from-archive", "packed", stdin=tar_gz(small_app("1")))
    assert done.status == 0, done.err
    assert "=====> Application deployed:" in done.out
    assert (await boat.http("packed.localhost")).text == "version 1\n"

    again = await boat.ssh("git:from-archive", "packed", stdin=tar_gz(small_app("1")))
    assert again.status == 0 and "No changes detected: packed runs just what the archive holds" in again.out

    done = await boat.ssh("git:from-archive", "packed", stdin=tar_gz(small_app("2")))
    assert done.status == 0, done.err
    assert (await boat.http("packed.localhost")).text == "version 2\n"

    app = boat.checkout("packed", {})
    await app.git("init", "-q", "-b", "main")
    await app.git("pull", "-q", boat.boat.remote("packed"), "main")
    assert (app.folder / "index.html").read_text() == "version 2\n"
    app.write({"index.html": "version 3\n"})
    pushed = await boat.git_push(app)
    assert pushed.status == 0, pushed.err
    assert (await boat.http("packed.localhost")).text == "version 3\n"


async def test_an_archive_that_leads_out_of_itself_changes_nothing(boat: Rig) -> None:
    await boat.must("apps:create", "escaping")
    done = await boat.ssh("git:from-archive", "escaping", stdin=tar_gz({"../../evil": "x"}))
    assert done.status == 1 and "leads out of it" in done.err and "Traceback" not in done.err
    assert await boat.must("deploys", "escaping", "--format", "json") == "[]\n"
    names = [path.name for path in (boat.data / "repos").iterdir()]
    assert not [name for name in names if name.startswith(".")]


async def test_a_saved_image_goes_live_and_moves_no_name_that_is_there(boat: Rig) -> None:
    assert (await boat.git_push(boat.checkout("original", small_app("1")))).status == 0
    release = json.loads(await boat.must("releases:info", "original", "v1", "--format", "json"))
    name = "pushboat-test/saved:one"
    assert (await boat.docker("tag", release["image"], name)).status == 0
    with tempfile.NamedTemporaryFile() as file:
        assert (await boat.docker("save", "--output", file.name, name)).status == 0
        # By now the name means another image.
        assert (await boat.docker("tag", BASE, name)).status == 0
        try:
            await boat.must("apps:create", "carried")
            data = await asyncio.to_thread(Path(file.name).read_bytes)
            done = await boat.ssh("git:load-image", "carried", name, stdin=data)
            assert done.status == 0, done.err
            assert (await boat.http("carried.localhost")).text == "version 1\n"
            held, base = [(await boat.docker("image", "inspect", "-f", "{{.Id}}", it)).out for it in (name, BASE)]
            assert held == base
        finally:
            await boat.docker("rmi", "--no-prune", name)


async def test_an_image_is_run_as_the_files_in_its_working_directory_say(boat: Rig) -> None:
    name, folder = f"pushboat-test/{token('w')}:1", boat.boat.folder / "within"
    folder.mkdir()
    for file, text in {
        "Dockerfile": f"FROM {BASE}\nWORKDIR /www\nCOPY . .\nEXPOSE 5000\nCMD echo the image itself; sleep 1000\n",
        "Procfile": "web: exec httpd -f -p $PORT -h /www\nrelease: echo migrating in $PWD\n",
        "app.json": '{"env": {"COLOUR": "green"}, "formation": {"web": {"quantity": 2}}}',
        "index.html": "of the Procfile\n",
    }.items():
        (folder / file).write_text(text)
    assert (await boat.docker("build", "-q", "-t", name, str(folder))).status == 0
    try:
        await boat.must("apps:create", "within")
        done = await boat.ssh("git:from-image", "within", name)
        assert done.status == 0, done.out + done.err
        assert "       migrating in /www" in done.out and "-----> Config from app.json: COLOUR" in done.out
        assert (await boat.http("within.localhost")).text == "of the Procfile\n"
        assert len(await boat.replicas("within")) == 2
        left = ("ps", "--all", "--quiet", "--filter", "label=com.pushboat.kind=build", "--filter", "name=within")
        assert (await boat.docker(*left)).out == ""
        await boat.must("apps:destroy", "within", "--force")
    finally:
        await boat.docker("rmi", name)
