"""Registries that want to know who asks: for pulls in builds, pulls of whole images, and pushes of releases."""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.flow import apps
from tests.support.bearer import token_gate
from tests.support.docker import token
from tests.support.registry import Registry, known_users, registry
from tests.support.rig import BASE, Rig

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

USER, PASSWORD, WRONG = "ada", "canary-right-8f1b", "canary-wrong-8f1b"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def private() -> AsyncIterator[Registry]:
    with tempfile.TemporaryDirectory(prefix="pb-") as name:
        folder = Path(name)
        async with registry(folder, auth=known_users(folder, {USER: PASSWORD})) as r:
            yield r


async def tags(address: str, repository: str) -> list[str]:
    """Return the tags that the registry has of a repository."""
    known = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    request = urllib.request.Request(
        f"http://{address}/v2/{repository}/tags/list", headers={"Authorization": f"Basic {known}"}
    )

    def ask() -> list[str]:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return sorted(json.load(answer)["tags"])

    return await asyncio.to_thread(ask)  # The tap before the registry runs in this loop.


async def stocked(boat: Rig, address: str, name: str) -> str:
    """Put a web app into the registry, and nowhere else, as somebody who is let in would; return its reference."""
    reference = f"{address}/{name}:1"
    folder = boat.boat.folder / f"stock-{name}"
    folder.mkdir()
    (folder / "index.html").write_text(f"from the registry: {name} {token()}\n")
    (folder / "Dockerfile").write_text(
        f"FROM {BASE}\nCOPY index.html /www/\nEXPOSE 5000\nCMD exec httpd -f -p $PORT -h /www\n"
    )
    settings = ("--config", str(folder / "docker"))
    login = (*settings, "login", "-u", USER, "-p", PASSWORD, address)
    for words in (login, ("build", "-q", "-t", reference, str(folder)), (*settings, "push", "-q", reference)):
        done = await boat.docker(*words)
        assert done.status == 0, done.err
    assert (await boat.docker("rmi", reference)).status == 0
    return reference


async def test_a_login_lets_builds_and_whole_images_pull_and_a_wrong_one_is_not_kept(
    private: Registry, boat: Rig
) -> None:
    reference = await stocked(boat, private.address, "ground")
    await boat.must("apps:create", "whole")
    app = boat.checkout("builton", {"Dockerfile": f"FROM {reference}\nCOPY x /www/x\n", "x": token()})

    stranger = await boat.git_push(app)
    assert stranger.status == 1
    assert f"registry:login builton {private.address}" in stranger.err
    refused = await boat.ssh("git:from-image", "whole", reference)
    assert refused.status == 1 and "registry:login" in refused.out + refused.err

    wrong = await boat.ssh(
        "registry:login", "--global", private.address, USER, "--password-stdin", stdin=WRONG.encode()
    )
    assert wrong.status == 1 and f"does not let {USER} in" in wrong.err
    assert WRONG not in wrong.err + wrong.out
    absent = await boat.ssh("registry:login", "--global", "127.0.0.1:9", USER, WRONG)
    assert absent.status == 1 and "127.0.0.1:9 does not answer" in absent.err
    assert f"{USER}@" not in await boat.must("registry:report", "--global")

    login = f"{PASSWORD}\n".encode()
    await boat.must("registry:login", "--global", private.address, USER, "--password-stdin", stdin=login)
    app.write({"x": token()})
    pushed = await boat.git_push(app)
    assert pushed.status == 0, pushed.err
    await boat.page("builton.localhost", "from the registry: ground")
    await boat.must("git:from-image", "whole", reference)
    await boat.page("whole.localhost", "from the registry: ground")
    report = await boat.must("registry:report", "builton")
    assert f"{USER}@{private.address}" in report and PASSWORD not in report
    for name in ("whole", "builton"):
        await boat.must("apps:destroy", name, "--force")
    await boat.must("registry:logout", "--global", private.address)
    await boat.docker("rmi", "-f", reference)


async def test_a_release_is_pushed_before_it_serves_and_one_that_cannot_be_does_not_serve(
    private: Registry, boat: Rig
) -> None:
    await boat.must("apps:create", "shop")
    login = PASSWORD.encode()
    await boat.must("registry:login", "shop", private.address, USER, stdin=login)
    for key, value in (
        ("server", private.address),
        ("push-on-release", "true"),
        ("image-repo", "team/shop"),
        ("push-extra-tags", "latest"),
    ):
        await boat.must("registry:set", "shop", key, value)
    app = boat.checkout("shop", apps.with_procfile("one", "release: echo migrated-one"))
    first = await boat.git_push(app)
    assert first.status == 0, first.err
    assert first.err.index("Pushing the image") < first.err.index("migrated-one")
    assert f"Pushed {private.address}/team/shop:1, {private.address}/team/shop:latest" in first.err
    assert await tags(private.address, "team/shop") == ["1", "latest"]
    assert f"{private.address}/team/shop" not in (await boat.docker("images")).out
    assert await boat.must("registry:report", "shop", "--registry-tag-version") == "1\n"

    await boat.must("registry:logout", "shop", private.address)
    app.write({"index.html": "version two\n", "Procfile": "release: echo migrated-two\n"})
    second = await boat.git_push(app)
    assert second.status == 1
    assert f"{private.address}/team/shop:2" in second.err and "registry:login" in second.err
    assert "migrated-two" not in second.err
    assert (await boat.http("shop.localhost")).text == "version one\n"
    assert await tags(private.address, "team/shop") == ["1", "latest"]
    # What served is not held up by a registry that is.
    restarted = await boat.ssh("ps:restart", "shop")
    assert restarted.status == 0, restarted.err
    await boat.must("apps:destroy", "shop", "--force")


async def test_a_registry_that_wants_tokens_is_given_the_password_for_them(boat: Rig, tmp_path: Path) -> None:
    async with (
        registry(tmp_path) as behind,
        token_gate(behind.address, user=USER, password=PASSWORD) as gate,
    ):
        wrong = await boat.ssh("registry:login", "--global", gate.address, USER, WRONG)
        assert wrong.status == 1 and f"does not let {USER} in" in wrong.err, wrong.err
        await boat.must("registry:login", "--global", gate.address, USER, stdin=PASSWORD.encode())
        await boat.must("apps:create", "tokened")
        for key, value in (("server", gate.address), ("push-on-release", "true")):
            await boat.must("registry:set", "tokened", key, value)
        app = boat.checkout("tokened", apps.page(token()))
        pushed = await boat.git_push(app)
        assert pushed.status == 0, pushed.err
        # The image that was pushed is built on by another app.
        given = gate.given
        files = {"Dockerfile": f"FROM {gate.address}/pushboat/tokened:1\nCOPY x /x\n", "x": token()}
        built = await boat.git_push(boat.checkout("upon", files))
        assert built.status == 0, built.err
        assert gate.given > given
        # One that lets everybody in is pushed to as nobody.
        await boat.must("registry:set", "tokened", "server", behind.address)
        app.write({"index.html": token()})
        open_to_all = await boat.git_push(app)
        assert open_to_all.status == 0, open_to_all.err
        assert f"Pushed {behind.address}/pushboat/tokened:2" in open_to_all.err
        for name in ("tokened", "upon"):
            await boat.must("apps:destroy", name, "--force")
        await boat.must("registry:logout", "--global", gate.address)
