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
STOPS_SECONDS = 1.0
"""A guessed web process gets SIGTERM itself and ends within a second: so it is told in docs/builders.md."""
ERLANG_STOPS_SECONDS = 1.5
"""Erlang waits for a second before it ends, as is told there, too."""
HANGS_SECONDS = 6.0
"""A stop that takes so long has no excuse, on a machine that is busy with other tests neither."""
STOPS = 5
"""How often an app may try: what else a machine does makes a stop slower, and never faster."""
INSTALLS = "apt-get -qq install"
"""The words of every step that installs Debian's packages: a language's own, and those an app asks for."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def harbour(boat: Rig) -> AsyncIterator[Rig]:
    """A Pushboat that builds languages on Debian's own packages."""
    image = await asyncio.to_thread(ensure_debian)
    await boat.must("builder:set", "--global", "base-image", image)
    yield boat
    await boat.must("builder:set", "--global", "base-image")


def files_of(name: str) -> dict[str, str]:
    folder = EXAMPLES / name
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def example(boat: Rig, name: str, *, app: str) -> Checkout:
    return boat.checkout(app, files_of(name))


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


def all_cached(said: str, step: str) -> bool:
    """Tell whether every step that holds these words was cached, and there is one."""
    lines = [line for line in said.splitlines() if step in line]
    return bool(lines) and all(line.endswith("CACHED") for line in lines)


async def runs_as(boat: Rig, app: str) -> str:
    replica, *_ = await boat.replicas(app)
    return (await boat.docker("exec", replica, "id", "-u")).out.strip()


async def exit_status(boat: Rig, app: str, *, within: float = STOPS_SECONDS) -> int:
    """Stop the app, and return the status that its process ended with, `within` so many seconds of SIGTERM."""
    taken = list[float]()
    while True:
        seconds, status = await _stopped(boat, app)
        taken.append(seconds)
        assert seconds < HANGS_SECONDS
        if seconds < within:
            return status
        assert len(taken) < STOPS, f"{app} takes too long to stop, however often it is tried: {taken}"
        await boat.must("ps:start", app)


async def _stopped(boat: Rig, app: str) -> tuple[float, int]:
    """Stop the app; return the seconds from the engine's signal to the end of its process, and how that ended."""
    replica, *_ = await boat.replicas(app)  # the newest comes first; older ones may still drain
    watching = await boat.spawn(
        "docker", "--host", f"unix://{boat.boat.engine.path}", "events", "--filter", f"container={replica}",
        "--filter", "event=kill", "--filter", "event=die", "--since", "1m",
        "--format", "{{.Action}} {{.TimeNano}} {{.Actor.Attributes.exitCode}}",
    )  # fmt: skip
    try:
        await boat.must("ps:stop", app)
        assert watching.stdout
        told = [(await asyncio.wait_for(watching.stdout.readline(), 60)).split() for _ in ("kill", "die")]
    finally:
        watching.kill()
        await watching.wait()
    assert [each[0] for each in told] == [b"kill", b"die"], told
    return (int(told[1][1]) - int(told[0][1])) / 1e9, int(told[1][2])


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
    assert cached(said, "pip install --requirement") and all_cached(said, INSTALLS)
    assert (await harbour.http("flask.localhost")).text == "Hello from Flask, you. This is version 2.\n"
    found = await report(harbour, "flask")
    assert (found["detected"], found["detected-because"]) == ("python", why)
    assert await exit_status(harbour, "flask") != KILLED


async def test_a_printed_plan_is_a_dockerfile_that_builds_the_app(harbour: Rig) -> None:
    app = example(harbour, "static", app="taken")
    await harbour.must("apps:create", "taken")
    nothing = await plan(harbour, "taken")
    assert nothing.status == 1 and "Nothing was pushed" in nothing.err
    await pushed(harbour, app)
    printed = await plan(harbour, "taken")
    assert printed.status == 0 and "static: index.html, so files as they are" in printed.err
    app.write({"Dockerfile": printed.out})
    said = await pushed(harbour, app)
    assert "with dockerfile" in said
    assert "This is version 1." in (await harbour.http("taken.localhost")).text
    # The printed text is the same again, now that it is the app's own.
    await harbour.must("builder:set", "taken", "selected", "static")
    assert (await plan(harbour, "taken")).out == printed.out


async def test_node_with_npm_and_a_build(harbour: Rig) -> None:
    app = example(harbour, "node", app="node")
    said = await pushed(harbour, app)
    why = "package-lock.json and package.json, so Node >=18 with npm; web: node server.js"
    assert f"with node\n       {why}\n" in said
    assert (await harbour.http("node.localhost")).text.startswith("Hello from Node, up for ")
    assert await runs_as(harbour, "node") == "10001"
    replica, *_ = await harbour.replicas("node")
    # What only the build needed is gone, and so is npm.
    modules = (await harbour.docker("exec", replica, "ls", "node_modules")).out.split()
    assert modules == ["ms"]
    assert (await harbour.docker("exec", replica, "npm", "--version")).status != 0
    await change(app, "server.js")
    said = await pushed(harbour, app)
    assert cached(said, "npm ci") and all_cached(said, INSTALLS)
    assert "This is version 2." in (await harbour.http("node.localhost")).text
    assert await exit_status(harbour, "node") != KILLED


async def test_a_front_end_that_vite_builds(harbour: Rig) -> None:
    app = example(harbour, "static-vite", app="vite")
    said = await pushed(harbour, app)
    assert "with static\n       package-lock.json and a script build with nothing to start" in said
    page = await harbour.http("vite.localhost", "/no/such/path")
    assert page.status == 200 and "This is version 1." in page.text
    assert page.headers["cache-control"] == "no-cache"
    script = page.text.partition('src="')[2].partition('"')[0]
    asset = await harbour.http("vite.localhost", script)
    assert "You are at" in asset.text and asset.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert asset.headers["content-type"] == "application/javascript"
    assert (await harbour.http("vite.localhost", "/assets/none.js")).status == 404
    assert await runs_as(harbour, "vite") == "10001"
    await change(app, "index.html")
    said = await pushed(harbour, app)
    assert cached(said, "npm ci") and all_cached(said, INSTALLS)
    await harbour.page("vite.localhost", "This is version 2.")
    await harbour.until_logged("vite", '"GET /no/such/path HTTP/1.1" 200')
    assert await exit_status(harbour, "vite") != KILLED


async def test_pages_as_they_are(harbour: Rig) -> None:
    app = example(harbour, "static", app="pages")
    app.write({".env": "A=1\n", "big.css": "a {}\n" * 1000, ".dockerignore": "drafts\n", "drafts/a.html": "draft\n"})
    said = await pushed(harbour, app)
    assert "with static\n       index.html, so files as they are\n" in said
    assert "This is version 1." in (await harbour.http("pages.localhost")).text
    assert (await harbour.http("pages.localhost", "/style.css")).headers["content-type"] == "text/css"
    missing = await harbour.http("pages.localhost", "/nothing/here")
    assert missing.status == 404 and "There is no such page." in missing.text
    assert (await harbour.http("pages.localhost", "/.env")).status == 404
    assert (await harbour.http("pages.localhost", "/drafts/a.html")).status == 404
    port = str(harbour.ports[1])
    small = await harbour.run(
        "curl", "--silent", "--fail", "--header", "Accept-Encoding: gzip", "--header", "Host: pages.localhost",
        "--output", "/dev/null", "--write-out", "%{size_download}", f"http://127.0.0.1:{port}/big.css",
    )  # fmt: skip
    assert 0 < int(small.out) < 1000
    assert await runs_as(harbour, "pages") == "10001"
    await change(app, "index.html")
    said = await pushed(harbour, app)
    assert all_cached(said, INSTALLS)
    assert "This is version 2." in (await harbour.http("pages.localhost")).text
    assert await exit_status(harbour, "pages") != KILLED


async def test_ruby_with_a_gem_in_the_repository(harbour: Rig) -> None:
    app = example(harbour, "ruby", app="ruby")
    app.write({"package.json": "{}"})
    said = await pushed(harbour, app)
    assert "with ruby\n       Gemfile.lock, so Ruby with Bundler; left alone: package.json (node)\n" in said
    assert (await harbour.http("ruby.localhost")).text == "Hello from Ruby. This is version 1.\n"
    assert await runs_as(harbour, "ruby") == "10001"
    await change(app, "server.rb")
    said = await pushed(harbour, app)
    assert cached(said, "bundle install") and all_cached(said, INSTALLS)
    assert (await harbour.http("ruby.localhost")).text == "Hello from Ruby. This is version 2.\n"
    assert (await report(harbour, "ruby"))["detected"] == "ruby"
    assert await exit_status(harbour, "ruby") == 0


async def test_php_with_composer_from_a_folder_of_a_repository(harbour: Rig) -> None:
    files = {f"services/web/{name}": text for name, text in files_of("php").items()}
    app = harbour.checkout("php", {**files, "outside.md": "", "Dockerfile": "FROM none\n"})
    await harbour.must("apps:create", "php")
    await harbour.must("builder:set", "php", "build-dir", "services/web")
    said = await pushed(harbour, app)
    why = "composer.lock and composer.json, so PHP >=8.1 with Composer; web: Apache serves public"
    assert f"with php\n       {why}\n" in said
    page = await harbour.http("php.localhost", "/any/path?name=Ada")
    assert page.text == "Hello from PHP, Ada. This is version 1.\n"
    assert (await harbour.http("php.localhost", "/.env")).status == 403
    assert await runs_as(harbour, "php") == "10001"
    replica, *_ = await harbour.replicas("php")
    # Nothing outside the folder was uploaded.
    there = (await harbour.docker("exec", replica, "find", "/app", "-maxdepth", "1", "-printf", "%f\\n")).out.split()
    assert sorted(there) == ["README.md", "app", "composer.json", "composer.lock", "public", "src", "vendor"]
    await change(app, "services/web/public/index.php")
    said = await pushed(harbour, app)
    assert cached(said, "--no-autoloader") and all_cached(said, INSTALLS)
    assert (await harbour.http("php.localhost")).text == "Hello from PHP, you. This is version 2.\n"
    await harbour.until_logged("php", '"GET / HTTP/1.1" 200')
    assert await exit_status(harbour, "php") == 0


async def test_what_is_selected_in_place_of_a_builder_is_refused_and_leaves_what_runs(harbour: Rig) -> None:
    app = example(harbour, "static", app="held")
    await pushed(harbour, app)
    await harbour.must("builder:set", "held", "selected", "image")
    await change(app, "index.html")
    refused = await harbour.git_push(app)
    assert refused.status == 1
    assert "held is set to deploy images alone, and nothing that is pushed." in refused.err
    assert "git:from-image held <image>" in refused.err
    await harbour.must("builder:set", "held", "selected", "null")
    refused = await harbour.ssh("git:from-image", "held", "none/such:1")
    assert refused.status == 1 and "held is set to deploy nothing new (builder: null)." in refused.out + refused.err
    assert "version 1" in (await harbour.http("held.localhost")).text
    await harbour.must("builder:set", "held", "selected")
    await harbour.must("ps:rebuild", "held")
    await harbour.page("held.localhost", "version 2")


async def test_go_with_a_vendored_module(harbour: Rig) -> None:
    app = example(harbour, "go", app="go")
    said = await pushed(harbour, app)
    assert "with go\n       go.mod, so Go >=1.19 with what is in vendor; web: /app/bin/web\n" in said
    assert (await harbour.http("go.localhost")).text == "Hello from Go. This is version 1.\n"
    assert await runs_as(harbour, "go") == "10001"
    replica, *_ = await harbour.replicas("go")
    assert (await harbour.docker("exec", replica, "which", "go")).status != 0
    await change(app, "cmd/web/main.go")
    said = await pushed(harbour, app)
    assert all_cached(said, INSTALLS)
    assert "go: downloading" not in said
    assert (await harbour.http("go.localhost")).text == "Hello from Go. This is version 2.\n"
    # It ends by itself once it was told to.
    assert await exit_status(harbour, "go") == 0
