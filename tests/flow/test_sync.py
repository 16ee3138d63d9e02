"""Apps deployed from repositories elsewhere by the whole product: real https, ssh, git, Docker and HAProxy."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import sqlite3
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from agent.vault import Vault
from tests.fakes.world import SeededIds
from tests.flow.test_secrets import files, watching_processes
from tests.support.git_client import SUBMODULE, Client
from tests.support.git_servers import HttpsServer, SshServer, https_server, ssh_server
from tests.support.rig import Done, Rig, rig, small_app

pytestmark = pytest.mark.real

TOKEN = "canary-token-9b1e44"


def holding(r: Rig, secrets: tuple[str, ...], done: Done, processes: set[str]) -> list[str]:
    """Return what holds one of `secrets`: the agent's log, its files, an answer, a command line."""
    told = {"log": r.log, "answer": done.out + done.err, "processes": "\n".join(processes)}
    stored = {name: data.decode("latin-1") for name, data in files(r.data).items()}
    return [name for name, text in {**told, **stored}.items() if any(secret in text for secret in secrets)]


def private_key(r: Rig, app: str) -> tuple[str, ...]:
    """Return what of the app's private deploy key would be told by whatever holds it: its seed, plain and in base64."""
    with contextlib.closing(sqlite3.connect(f"file:{r.data / 'pushboat.db'}?mode=ro", uri=True)) as reader:
        query = "SELECT k.app, k.sealed FROM deploy_keys AS k JOIN apps AS a ON a.id = k.app WHERE a.name = ?"
        [(owner, sealed)] = reader.execute(query, (app,)).fetchall()
    opened = Vault.open(r.data / "key", may_create=False, token=SeededIds().token).unseal(
        sealed, context=f"app:{owner}/deploy-key"
    )
    key = load_ssh_private_key(opened, password=None)
    assert isinstance(key, Ed25519PrivateKey)
    seed = key.private_bytes_raw()
    # A text holds it at one of three places between the characters of base64.
    encoded = [base64.b64encode(bytes(shift) + seed).decode()[4:-4] for shift in range(3)]
    return (seed.decode("latin-1"), seed.hex(), *encoded)


def left_aside(r: Rig) -> list[str]:
    """Return what is in the folder of repositories and is none."""
    return [path.name for path in (r.data / "repos").iterdir() if path.name.startswith(".")]


async def synced_by_deploy_key(r: Rig, ssh: SshServer) -> None:
    """Deploy what the ssh server has, once it is known and lets the app's own key in; the key is seen nowhere."""
    unknown = await r.ssh("git:sync", "--build", "blog", ssh.url("app.git"))
    assert unknown.status == 1 and f"git:allow-host {ssh.place}" in unknown.err
    shown = await r.must("git:allow-host", ssh.place)
    assert ssh.key.get_fingerprint() in shown
    refused = await r.ssh("git:sync", "--build", "blog", ssh.url("app.git"))
    assert refused.status == 1 and "git:generate-deploy-key" in refused.err
    await r.must("git:generate-deploy-key", "blog")
    ssh.allowed = await r.must("git:public-key", "blog")
    await r.must("git:set", "blog", "keep-git-dir")
    async with watching_processes() as seen:
        done = await r.ssh("git:sync", "--build-if-changes", "blog", ssh.url("app.git"))
    assert done.status == 0, done.err
    assert any(line.startswith("/usr/bin/ssh\0-F\0") for line in seen)
    assert holding(r, private_key(r, "blog"), done, seen) == []
    assert (await r.http("blog.localhost")).text == "version 2\n"
    assert (await r.http("blog.localhost", "/.git/HEAD")).status == 404


async def killed_while_it_fetches(r: Rig, https: HttpsServer) -> None:
    """The agent dies in the middle of a fetch: the next one removes what is left of it, and the same works."""
    count, fetches = 0, asyncio.Event()

    async def begin() -> None:
        nonlocal count
        count += 1
        if count > 2:  # the first two are the question for what there is
            fetches.set()
            await asyncio.Event().wait()

    https.meanwhile = begin
    words = ("git:sync", "--build", "blog", https.url("app.git"))
    asked = await r.spawn(*r.boat.ssh_command(words))
    async with asyncio.timeout(60):
        await fetches.wait()
    assert len(left_aside(r)) == 1
    await r.kill_agent()
    await asked.wait()
    https.meanwhile = None
    await r.start_agent()
    assert left_aside(r) == []
    done = await r.ssh(*words)
    assert done.status == 0, done.err


async def test_a_private_repository_goes_live_over_https_and_ssh_and_its_token_is_seen_nowhere(
    short_folder: Path,
) -> None:
    root = short_folder / "elsewhere"
    root.mkdir()
    app = await asyncio.to_thread(Client, root / "app.git")
    module = await asyncio.to_thread(Client, root / "module.git")
    page = module.commit({"page.html": "of the submodule\n"})
    submodule = {
        ".gitmodules": '[submodule "m"]\n\tpath = m\n\turl = ../module.git\n',
        "m": (SUBMODULE, page.encode()),
    }
    first = app.commit({**small_app("1"), **submodule})
    async with https_server(root, login=f"ann:{TOKEN}") as https, ssh_server(root) as ssh:
        async with rig(short_folder, git={"ca_file": str(https.ca_file)}, logs={"level": "debug"}) as r:
            await r.must("apps:create", "blog")
            await r.must("git:set", "blog", "keep-git-dir", "true")
            await r.must("git:auth", https.place, "ann", stdin=TOKEN.encode())
            async with watching_processes() as seen:
                done = await r.ssh("git:sync", "--build", "blog", https.url("app.git"), "main")
            assert done.status == 0, done.err
            assert "Receiving objects: 100%" in done.out and "Fetching the submodule" in done.out
            assert "=====> Application deployed:" in done.out
            assert (await r.http("blog.localhost")).text == "version 1\n"
            assert (await r.http("blog.localhost", "/m/page.html")).text == "of the submodule\n"
            assert (await r.http("blog.localhost", "/.git/HEAD")).text == f"{first}\n"
            assert any("git-remote-https" in line for line in seen)
            assert holding(r, (TOKEN, https.headers[-1].removeprefix("Basic ")), done, seen) == []

            app.commit(small_app("2"))
            await synced_by_deploy_key(r, ssh)
            again = await r.ssh("git:sync", "--build-if-changes", "blog", ssh.url("app.git"))
            assert again.status == 0 and "Skipping build as no changes were detected" in again.out
            await killed_while_it_fetches(r, https)
