"""Secrets go to the processes they are for, and nowhere else: not to a log, an event, a file, a list or an error.

Each way in has a canary of its own. They are looked for in everything that Pushboat writes, says and starts while they
are set, built with, deployed and failed with. Apps here print none of them: what an app prints is in its log.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import os
import sqlite3
import tarfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.flow import apps
from tests.support.docker import token
from tests.support.registry import Registry, known_users, registry
from tests.support.rig import BASE, Done, Rig, rig

pytestmark = pytest.mark.real

SET, IMPORTED, JSON, GLOBAL, ARGUMENT, MISTAKEN, FAILED, ONE_OFF, BUILDS, TYPED, LOGIN, TOKEN, TOKEN_TYPED = (
    f"canary-{name}-5d0c7e"
    for name in (
        *("set", "imported", "json", "global", "argument", "mistaken", "failed", "oneoff"),
        *("builds", "typed", "login", "token", "token-typed"),
    )
)
CANARIES = (SET, IMPORTED, JSON, GLOBAL, ARGUMENT, MISTAKEN, FAILED, ONE_OFF, BUILDS, TYPED, LOGIN, TOKEN, TOKEN_TYPED)

TAKES_ARGUMENT = (
    f'FROM {BASE}\nARG API_TOKEN\nRUN test -n "$API_TOKEN"\nCOPY . /www\nEXPOSE 5000\n'
    "CMD exec httpd -f -p $PORT -h /www\n"
)
TAKES_SECRETS = (
    f"FROM {BASE}\nRUN --mount=type=secret,id=FILE,required=true --mount=type=secret,id=TYPED,required=true"
    f" echo {token()} && grep -q canary-builds /run/secrets/FILE && grep -q canary-typed /run/secrets/TYPED\n"
)
"""A step that reads both, never out of the cache."""
FAILS_WITH_ARGUMENT = f'FROM {BASE}\nARG API_TOKEN\nRUN echo "with $API_TOKEN" && echo "$API_TOKEN" >&2 && exit 3\n'
NEEDS_CONFIG = 'test -z "$FAILS" || exit 7; exec httpd -f -p $PORT -h /www'


class Ears:
    """Remembers all that was said to whoever gave the commands."""

    def __init__(self, r: Rig) -> None:
        self.heard: list[str] = []
        self._rig = r

    async def ssh(self, *words: str, stdin: bytes = b"", status: int | None = 0) -> Done:
        """Give a command, and hear its answer."""
        done = await self._rig.ssh(*words, stdin=stdin)
        self.heard += [f"{words[0]}: {done.out}", f"{words[0]}: {done.err}"]
        assert status is None or done.status == status, (words[0], done.status, done.out, done.err)
        return done


@contextlib.asynccontextmanager
async def watching_processes() -> AsyncIterator[set[str]]:
    """Collect the command lines of everything that runs on this machine meanwhile, again and again."""
    seen: set[str] = set()

    async def watch() -> None:
        while True:
            seen.update(await asyncio.to_thread(lambda: set(command_lines())))
            await asyncio.sleep(0.01)

    task = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.wait((task,))


def command_lines() -> Iterator[str]:
    """Yield the command line of each process (proc(5)) but this one's own."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(folder.name) != os.getpid():
                yield (folder / "cmdline").read_bytes().decode(errors="replace")


def found_in(texts: Mapping[str, bytes | str]) -> list[tuple[str, str]]:
    """Return which canary is in which of the texts."""
    bodies = {name: text if isinstance(text, str) else text.decode("latin-1") for name, text in texts.items()}
    return [(name, canary) for name, text in bodies.items() for canary in CANARIES if canary in text]


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below `folder`, and what it is once unpacked."""
    found: dict[str, bytes] = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            found[str(path.relative_to(folder))] = data
            for name, unpack in UNPACKERS.items():
                with contextlib.suppress(OSError, zlib.error, EOFError):
                    found[f"{path.relative_to(folder)} ({name})"] = unpack(data)
    return found


UNPACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "zlib": zlib.decompress}


def rows(database: Path) -> dict[str, str]:
    """Return every row of every table as text."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reader:
        tables = [name for (name,) in reader.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {table: str(reader.execute(f"SELECT * FROM {table}").fetchall()) for table in tables}


async def told_by_docker(r: Rig) -> tuple[list[dict[str, object]], dict[str, str], dict[str, str]]:
    """Return what the engine says of our containers, of our images, and of how the images were made."""
    engine = r.boat.engine
    containers = [engine.call("GET", f"/containers/{name}/json") for name in r.containers()]
    names = {str(container["Image"]) for container in containers if container}
    images = {name: json.dumps(engine.call("GET", f"/images/{name}/json")) for name in names}
    history = {name: json.dumps(engine.call("GET", f"/images/{name}/history")) for name in names}
    return [container for container in containers if container], images, history


def without_environment(containers: Iterable[dict[str, object]]) -> dict[str, str]:
    """Return the containers' descriptions but for the environment, which is where config belongs."""
    found = {}
    for container in containers:
        config = container["Config"]
        assert isinstance(config, dict)
        found[str(container["Name"])] = json.dumps({**container, "Config": {**config, "Env": []}})
    return found


async def tell_all_secrets(ears: Ears) -> None:
    """Set a canary by each way that there is, and by some that are mistakes."""
    await ears.ssh("apps:create", "blog")
    await ears.ssh("config:set", "blog", f"SET={SET}")
    await ears.ssh("config:import", "blog", stdin=f"IMPORTED={IMPORTED}\nLINES='{IMPORTED}\nmore'\n".encode())
    await ears.ssh("config:import", "blog", "--format", "json", stdin=json.dumps({"JSON": JSON}).encode())
    await ears.ssh("config:set", "--global", f"GLOBAL={GLOBAL}")
    await ears.ssh("docker-options:add", "blog", "build", f"'--build-arg API_TOKEN={ARGUMENT}'")
    await ears.ssh("builder:secrets:set", "blog", "FILE", stdin=f"first\n{BUILDS}\n".encode())
    await ears.ssh("builder:secrets:set", "blog", f"TYPED={TYPED}")
    await ears.ssh("git:auth", "git.example.com", "ann", stdin=f"{TOKEN}\n".encode())
    await ears.ssh("git:auth", "git.example.org", "ann", TOKEN_TYPED)
    for words in (
        ("config:set", f"TOKEN={MISTAKEN}"),
        ("config:set", "blog", "TOKEN", MISTAKEN),
        ("config:set", "blog", f"MY-TOKEN={MISTAKEN}"),
        ("config:sett", "blog", f"TOKEN={MISTAKEN}"),
        ("docker-options:add", "blog", "build", "--build-arg", "TOKEN", MISTAKEN),
        ("builder:secrets:set", "blog", MISTAKEN, f"TOKEN={MISTAKEN}"),
        ("builder:secrets:set", "blog", f"/TOKEN/={MISTAKEN}"),
        ("registry:login", "--global", "127.0.0.1:9", "ada", MISTAKEN),
        ("registry:login", "--global", "127.0.0.1:9", "ada", "two", MISTAKEN),
        ("git:auth", "git.example.com", "ann", "two", MISTAKEN),
        ("git:sync", "blog", f"https://ann:{MISTAKEN}@127.0.0.1:9/blog.git"),
    ):
        assert (await ears.ssh(*words, status=None)).status != 0
    too_long = f"TOKEN={MISTAKEN}{'x' * 200_000}".encode()
    assert (await ears.ssh("config:import", "blog", stdin=too_long, status=None)).status == 1


async def test_a_secret_is_where_it_belongs_and_nowhere_else(short_folder: Path, tmp_path: Path) -> None:
    async with (
        registry(tmp_path, auth=known_users(tmp_path, {"ada": LOGIN})) as private,
        rig(short_folder, logs={"level": "debug"}) as talkative,
    ):
        await look_everywhere(talkative, private)


async def push_to(ears: Ears, private: Registry) -> None:
    """Have releases pushed to a registry that wants to know who asks."""
    await ears.ssh("registry:login", "blog", private.address, "ada", stdin=LOGIN.encode())
    await ears.ssh("registry:set", "blog", "server", private.address)
    await ears.ssh("registry:set", "blog", "push-on-release", "true")


async def look_everywhere(r: Rig, private: Registry) -> None:
    """Tell secrets, build, deploy and fail with them, and look for them in all that comes of it."""
    ears = Ears(r)
    await tell_all_secrets(ears)
    await push_to(ears, private)
    app = r.checkout("blog", {"Dockerfile": FAILS_WITH_ARGUMENT, "index.html": "version one\n"})

    async with watching_processes() as processes:
        failed_build = await r.git_push(app)
        assert failed_build.status == 1 and "exit 3" in failed_build.err, failed_build.err
        app.write({"Dockerfile": TAKES_SECRETS + TAKES_ARGUMENT.partition("\n")[2]})
        pushed = await r.git_push(app)
        assert pushed.status == 0, pushed.err
        app.write({"Dockerfile": apps.shell(NEEDS_CONFIG)["Dockerfile"], "www/index.html": ""})
        exchanged = await r.git_push(app)
        assert exchanged.status == 0, exchanged.err
        # A deploy that fails because of the config it brings, and a one-off that is given one.
        failed_check = await ears.ssh("config:import", "blog", stdin=f"FAILS={FAILED}\n".encode(), status=1)
        assert "7" in failed_check.err + failed_check.out
    ears.heard += [push.out + push.err for push in (failed_build, pushed, exchanged)]

    assert (await r.must("config:get", "blog", "SET")).strip() == SET
    one_off = await r.ssh("run", "blog", "-e", f"ONE_OFF={ONE_OFF}", "env")
    for canary in (SET, IMPORTED, JSON, GLOBAL, ONE_OFF):
        assert canary in one_off.out, "a process gets what is meant for it"

    deploys = json.loads(await r.must("deploys", "blog", "--format", "json"))
    assert len(deploys) == 4
    for deploy in deploys:
        await ears.ssh("deploys:output", "blog", deploy["id"], status=None)
        await ears.ssh("deploys:show", "blog", deploy["id"])
    for words in (
        ("releases:diff", "blog", "v1", "v2"),
        ("releases:info", "blog", "v1"),
        ("ps:inspect", "blog"),
        ("ps:report", "blog"),
        ("events", "--app", "blog"),
        ("events",),
        ("logs", "blog", "-n", "1000"),
        ("doctor",),
        ("builder:secrets:report", "blog"),
        ("builder:secrets:list", "blog"),
        ("registry:report", "blog"),
    ):
        await ears.ssh(*words, status=None)

    assert found_in(files(r.data)) == []
    await r.restart_agent()
    assert (await r.must("config:get", "blog", "IMPORTED")).strip() == IMPORTED

    assert found_in({f"what was heard, {number}": text for number, text in enumerate(ears.heard)}) == []
    assert found_in({"the agent's log": r.log}) == []
    assert found_in({line: line for line in processes}) == []
    assert found_in(rows(r.data / "pushboat.db")) == []
    assert found_in(files(r.data)) == []
    assert len(processes) > 20

    containers, images, history = await told_by_docker(r)
    assert containers and images
    assert found_in(without_environment(containers)) == []
    assert found_in(images) == []
    assert found_in(history) == []


async def layers(r: Rig, reference: str) -> dict[str, bytes]:
    """Return every file of an image as ``docker save`` has it, and every file of each of its layers."""
    saved = await r.docker("save", reference)
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(saved.raw)) as image:
        for member in image.getmembers():
            if (file := image.extractfile(member)) is None:
                continue
            found[member.name] = file.read()
            with contextlib.suppress(tarfile.TarError), tarfile.open(fileobj=io.BytesIO(found[member.name])) as layer:
                for inner in layer.getmembers():
                    if content := layer.extractfile(inner):
                        found[f"{member.name}: {inner.name}"] = content.read()
    return found


async def test_what_a_build_read_by_a_secret_mount_is_in_no_layer_of_its_image(lone_boat: Rig) -> None:
    ears = Ears(lone_boat)
    await ears.ssh("apps:create", "blog")
    await ears.ssh("builder:secrets:set", "blog", f"FILE={BUILDS}", f"TYPED={TYPED}")
    dockerfile = TAKES_SECRETS + apps.page("one")["Dockerfile"].partition("\n")[2]
    pushed = await lone_boat.git_push(lone_boat.checkout("blog", {"Dockerfile": dockerfile, "index.html": "one\n"}))
    assert pushed.status == 0, pushed.err
    _, images, history = await told_by_docker(lone_boat)
    (image,) = images
    files_of_image = await layers(lone_boat, image)
    assert any(name.endswith("www/index.html") for name in files_of_image)
    assert found_in({"pushed": pushed.out + pushed.err, **images, **history, **files_of_image}) == []


async def test_a_build_argument_stands_in_the_history_of_the_image_and_the_docs_say_so(lone_boat: Rig) -> None:
    ears = Ears(lone_boat)
    await ears.ssh("apps:create", "blog")
    await ears.ssh("docker-options:add", "blog", "build", f"'--build-arg API_TOKEN={ARGUMENT}'")
    app = lone_boat.checkout("blog", {"Dockerfile": TAKES_ARGUMENT, "index.html": "version one\n"})
    pushed = await lone_boat.git_push(app)
    assert pushed.status == 0, pushed.err
    containers, images, history = await told_by_docker(lone_boat)
    assert found_in({"pushed": pushed.out + pushed.err, **without_environment(containers), **images}) == []
    assert {canary for _, canary in found_in(history)} == {ARGUMENT}
    notes = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    assert "Build arguments end up in the image's history" in notes
    assert "part of the image's history" in await lone_boat.must("help", "docker-options:add")
