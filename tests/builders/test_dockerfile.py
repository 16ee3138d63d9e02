"""Builds by the real engine, from real git."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from agent.builders import choose
from agent.builders import dockerfile as dockerfile_builder
from agent.builders.dockerfile import DockerfileBuilder
from agent.docker import build_cgroups
from agent.docker.build_limits import BuildLimits
from agent.docker.engine import Engine
from agent.docker.images import DockerImages
from agent.errors import UserError
from agent.git.tree import GitTree
from agent.ports.images import BuildFailed, BuildOptions, BuildRequest, ImageInfo
from proto.names import AppId, DeployId
from tests.support.base_image import BASE_IMAGE, ensure_base_image
from tests.support.docker import token, until
from tests.support.git_client import LINK, Client
from tests.support.process_list import command_lines, long_sleep, sleeps, sleeps_no_more

pytestmark = pytest.mark.real

APP = AppId("abuildertest")
NOISE_BYTES = 40_000_000
"""Of an image whose layer takes the engine some tenths of a second to store."""


class Yard:
    """Commits and builds, as one app."""

    def __init__(self, engine: Engine, client: Client) -> None:
        self.engine = engine
        self.client = client
        self.images = DockerImages(engine)
        self.builder = DockerfileBuilder(engine, self.images, BuildLimits(engine, memory_bytes=0))
        self.said: list[str] = []

    def request(self, files: dict[str, Any], **options: Any) -> BuildRequest:
        commit = self.client.commit(files)
        return BuildRequest(
            app=APP,
            app_name="blog",
            deploy=DeployId("d1"),
            tag=self.images.tag_for(APP, DeployId(token("d"))),
            labels={"com.pushboat.app-id": APP},
            source=GitTree(self.client.folder, commit=commit),
            options=BuildOptions(**options),
        )

    async def build(self, files: dict[str, Any], **options: Any) -> ImageInfo:
        self.said.clear()
        built = await self.builder.build(self.request(files, **options), self.said.append)
        return built.image

    async def fails(self, files: dict[str, Any], **options: Any) -> str:
        with pytest.raises(BuildFailed) as failed:
            await self.build(files, **options)
        return str(failed.value)

    @property
    def text(self) -> str:
        return "\n".join(self.said)


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with Engine.open(instance=token("t")) as engine:
        await ensure_base_image(engine)
        yard = Yard(engine, Client(tmp_path / "client.git"))
        yield yard
        for image in await yard.images.ours():
            await engine.json("DELETE", f"images/{image.id}", params={"force": True})


def dockerfile(*lines: str) -> str:
    return "\n".join([f"FROM {BASE_IMAGE}", *lines, ""])


def unique() -> str:
    """Return a word that no cached step has seen."""
    return secrets.token_hex(8)


async def test_a_build_gives_a_labelled_image_and_tells_its_steps(yard: Yard) -> None:
    word = unique()
    image = await yard.build(
        {"Dockerfile": dockerfile(f"RUN echo {word}; sleep 0.3", "COPY . /app", "EXPOSE 8080", 'CMD ["/app/run"]')}
    )
    assert image.labels == {"com.pushboat.app-id": APP, "com.pushboat.instance": yard.engine.instance}
    assert (image.command, image.ports) == (("/app/run",), (8080,))
    assert f"       [2/3] RUN echo {word}; sleep 0.3\n         {word}\n         done in " in yard.text
    assert "       [3/3] COPY . /app" in yard.said
    assert "[internal]" not in yard.text


async def test_the_export_of_a_large_image_tells_now_and_then_that_it_goes_on(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.builders.progress.REPORT_SECONDS", 0.01)
    monkeypatch.setattr("agent.builders.buildkit._TICK_SECONDS", 0.005)
    noise = f": {unique()}; head -c {NOISE_BYTES} /dev/urandom >/noise"
    image = await yard.build({"Dockerfile": dockerfile(f"RUN {noise}")})
    assert image.size > NOISE_BYTES
    told = [line for line in yard.said if line.startswith("       Storing the image (")]
    assert len(told) >= 2, yard.text
    assert all(re.fullmatch(r" {7}Storing the image \([0-9.]+ s so far\)", line) for line in told)
    assert yard.said.index(told[0]) > yard.said.index(f"       [2/2] RUN {noise}")


async def test_an_unchanged_rebuild_is_cached_and_gives_the_same_image(yard: Yard) -> None:
    files = {"Dockerfile": dockerfile(f"RUN echo {unique()}", "COPY . /app"), "a": "1"}
    first = await yard.build(files)
    second = await yard.build(files)
    assert first.id == second.id
    assert [line for line in yard.said if not line.endswith("CACHED")] == [f"       [1/3] FROM docker.io/{BASE_IMAGE}"]


async def test_a_change_of_one_file_rebuilds_only_what_depends_on_it(yard: Yard) -> None:
    word = unique()
    files = {"Dockerfile": dockerfile(f"RUN echo {word}", "COPY a /a"), "a": "1"}
    first = await yard.build(files)
    second = await yard.build({**files, "a": "2"})
    assert first.id != second.id
    assert f"       [2/3] RUN echo {word}  CACHED" in yard.said
    assert "       [3/3] COPY a /a" in yard.said


async def test_a_failing_step_tells_its_last_lines_and_its_status(yard: Yard) -> None:
    word = unique()
    text = await yard.fails({"Dockerfile": dockerfile(f"RUN echo {word} >&2; exit 3")})
    assert "failed: it ended with status 3. Its last lines:\n" in text
    assert text.endswith(f"  {word}")
    assert f"         {word}" in yard.said


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["FOO bar"], "Dockerfile: dockerfile parse error line 2: unknown instruction: FOO"),
        (["COPY nope /"], "needs nope, which is not in the build"),
        (["RUN --mount=type=secret,id=x cat /run/secrets/x"], "type=secret"),
        (["RUN no-such-program"], "there is no such program in the image"),
    ],
)
async def test_mistakes_in_a_dockerfile_are_explained(yard: Yard, lines: list[str], says: str) -> None:
    assert says in await yard.fails({"Dockerfile": dockerfile(*lines)})


@pytest.mark.parametrize("right", ["--network=host", "--security=insecure"])
async def test_a_step_cannot_give_itself_the_rights_of_this_machine(yard: Yard, right: str) -> None:
    text = await yard.fails({"Dockerfile": dockerfile(f"RUN {right} echo {unique()}")})
    # The reader built into engine 20.10 does not know them; later ones do, and the engine does not allow it.
    assert "Unknown flag" in text or "not allowed" in text


async def test_a_base_image_that_cannot_be_had_is_named_with_its_registry(yard: Yard) -> None:
    text = await yard.fails({"Dockerfile": "FROM 127.0.0.1:9/no/such:1\n"})
    assert "The base image 127.0.0.1:9/no/such:1 could not be had: its registry 127.0.0.1:9 cannot be reached" in text


async def test_an_empty_dockerfile_and_an_unknown_target_are_explained(yard: Yard) -> None:
    assert "cannot be empty" in await yard.fails({"Dockerfile": ""})
    assert "target stage nope could not be found" in await yard.fails({"Dockerfile": dockerfile()}, target="nope")


def gits(folder: Path) -> list[bytes]:
    return [line for line in command_lines() if f"--git-dir={folder}\0".encode() in line]


async def test_a_step_gets_its_share_of_the_cpu_and_cancelling_ends_it_in_the_engine(yard: Yard) -> None:
    seconds = long_sleep()
    task = asyncio.create_task(yard.build({"Dockerfile": dockerfile(f"RUN exec sleep {seconds}")}, cpus=0.5))
    await until(lambda: sleeps(seconds), seconds=60)
    # The kernel's own files: half of the time, for the group that the step is in.
    shares = {"cpu.cfs_quota_us": "50000", "cpu.max": "50000 100000"}
    assert await until(lambda: quotas(yard, f"sleep\0{seconds}\0".encode())) in [
        [name, share] for name, share in shares.items()
    ]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await until(lambda: sleeps_no_more(seconds), seconds=2)


async def quotas(yard: Yard, command_line: bytes) -> list[str]:
    """Return name and content of the CPU's quota file of our group, once the program is in it."""
    for root in ("cpu/", "cpu,cpuacct/", ""):
        group = Path("/sys/fs/cgroup", f"{root}pushboat-builds-{yard.engine.instance}", APP)
        for name in ("cpu.cfs_quota_us", "cpu.max"):
            if (group / name).exists():
                inside = (group / "cgroup.procs").read_text().split()
                with suppress(OSError):  # one of them has ended meanwhile
                    if any(Path("/proc", pid, "cmdline").read_bytes() == command_line for pid in inside):
                        return [name, (group / name).read_text().strip()]
    return []


async def test_a_build_past_its_time_limit_fails_and_ends(yard: Yard) -> None:
    seconds = long_sleep()
    text = await yard.fails({"Dockerfile": dockerfile(f"RUN exec sleep {seconds}")}, timeout_seconds=1.5)
    assert text == "The build took longer than the limit of 1.5 s."

    await until(lambda: sleeps_no_more(seconds), seconds=2)


async def test_cancelling_while_the_context_is_sent_leaves_no_git(yard: Yard) -> None:
    request = yard.request({"Dockerfile": dockerfile("COPY . /"), "noise": os.urandom(30 << 20)})
    task = asyncio.create_task(yard.builder.build(request, yard.said.append))

    async def sending() -> bool:
        return any(b"archive" in line for line in gits(yard.client.folder))

    await until(sending)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gits(yard.client.folder) == []


def listing() -> str:
    """Return a step that prints the names of all files."""
    return f"RUN : {unique()}; cd /app && find . -type f | sort | tr '\\n' ' '"


async def test_dockerignore_keeps_files_out_and_never_the_dockerfile(yard: Yard) -> None:
    files = {
        "Dockerfile": dockerfile("COPY . /app", listing()),
        ".dockerignore": "# all but src\n**\n!src\n**/*.log\n",
        "src/a": "1",
        "src/b.log": "2",
        "top": "3",
    }
    await yard.build(files)
    assert "         ./Dockerfile ./src/a" in yard.said
    await yard.build({**files, "Dockerfile.dockerignore": "src\n"})
    assert "         ./.dockerignore ./Dockerfile ./Dockerfile.dockerignore ./top" in yard.said
    text = await yard.fails({**files, "Dockerfile": dockerfile("COPY top /top")})
    assert "The repository has top, but .dockerignore keeps it out." in text


async def test_target_build_args_and_labels_are_passed_on(yard: Yard) -> None:
    word = unique()
    stages = f"FROM {BASE_IMAGE} AS one\nARG WORD\nRUN echo got $WORD\nFROM one AS two\nRUN false\n"
    await yard.build({"Dockerfile": stages}, target="one", build_args={"WORD": word})
    assert f"         got {word}" in yard.said


async def test_a_dockerfile_elsewhere_and_a_build_folder(yard: Yard) -> None:
    files = {
        "Dockerfile": "FROM nonsense\n",
        "app/docker/Prod": dockerfile("COPY . /app", listing()),
        "app/word": "x",
        "other": "x",
    }
    await yard.build(files, build_folder="/app/", dockerfile_path="./docker/Prod")
    assert "         ./docker/Prod ./word" in yard.said


async def test_no_cache_runs_every_step_again_with_cache_folders_that_are_empty(yard: Yard) -> None:
    first, second, third = unique(), unique(), unique()

    def files(word: str) -> dict[str, str]:
        step = f"cat /folder/*; echo {word} > /folder/{word}"
        return {"Dockerfile": dockerfile(f"RUN --mount=type=cache,target=/folder,id={first} {step}")}

    await yard.build(files(first))
    await yard.build(files(second))
    assert f"         {first}" in yard.said
    await yard.build(files(second), no_cache=True)
    assert "CACHED" not in yard.text.partition("RUN")[2]
    assert f"         {first}" not in yard.said and f"         {second}" not in yard.said
    # And what was fetched anew is what the next one has.
    await yard.build(files(third))
    assert f"         {second}" in yard.said and f"         {first}" not in yard.said


async def test_a_registry_that_is_too_busy_for_the_base_image_is_asked_again_and_then_told(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dockerfile_builder, "BUSY_PAUSES", (0.01, 0.01))

    async def busy(_: web.Request) -> web.Response:
        return web.json_response({"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}, status=429)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", busy)
    async with TestServer(app) as server:
        image = f"127.0.0.1:{server.port}/a/b:1"
        told = await yard.fails({"Dockerfile": f"FROM {image}\n"})
    said = f"       {image.partition('/')[0]} is too busy to give {image} just now: asking again in 0.01 s"
    assert [line for line in yard.said if "busy" in line] == [said, said]
    assert f"The base image {image} could not be had: its registry is too busy" in told


async def test_docker_s_frontend_is_left_out_where_it_cannot_be_had(yard: Yard) -> None:
    word = unique()
    # No such version exists, so it cannot be had anywhere.
    files = {"Dockerfile": f"# syntax=docker/dockerfile:no-such-{word}\n{dockerfile(f'RUN echo {word}')}"}
    await yard.build(files)
    notice = f" !     docker/dockerfile:no-such-{word} (the # syntax= line) cannot be had: building without it"
    assert yard.said[0] == notice
    assert f"         {word}" in yard.said
    await yard.build(files)
    assert yard.said[0] == notice
    text = await yard.fails({"Dockerfile": f"# syntax=docker/dockerfile:no-such-{word}\n{dockerfile('FOO')}"})
    assert "parse error line 3" in text
    assert f"read without docker/dockerfile:no-such-{word}" in text


async def test_a_strange_frontend_is_refused_before_anything_is_sent(yard: Yard) -> None:
    text = await yard.fails({"Dockerfile": f"# syntax=evil/frontend\n{dockerfile()}"})
    assert "Line 1 of Dockerfile asks for the frontend evil/frontend, which Pushboat does not run" in text


async def test_a_heredoc_works_or_is_explained(yard: Yard) -> None:
    heredoc = dockerfile("RUN <<END", f"echo {unique()}", "END")
    try:
        await yard.build({"Dockerfile": heredoc})
    except BuildFailed as failed:
        assert "parse error line 3" in str(failed)  # the reader built into engine 20.10 does not know them


async def test_links_and_hostile_names_arrive_as_they_are(yard: Yard) -> None:
    files: dict[str, Any] = {
        "Dockerfile": dockerfile(
            "COPY . /app", "RUN cd /app && readlink out && readlink up && cat in && ls -a | wc -l"
        ),
        "out": (LINK, b"/etc/passwd"),
        "up": (LINK, b"../../../../etc/shadow"),
        "in": (LINK, b"word"),
        "word": unique(),
        "-rf": "x",
        "new\nline": "x",
        "größe": "x",
        "lat\udce9n": "x",
        "$(id)": "x",
        "n" * 200: "x",
    }
    await yard.build(files)
    said = [line.strip() for line in yard.said]
    assert "/etc/passwd" in said
    assert "../../../../etc/shadow" in said
    assert any(line.startswith(files["word"]) for line in said)


async def test_a_context_of_100_megabytes_is_sent_in_bounded_memory(yard: Yard) -> None:
    noise = {f"noise{number}": os.urandom(25 << 20) for number in range(4)}
    request = yard.request({"Dockerfile": dockerfile("COPY noise0 /"), **noise})
    noise.clear()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await yard.builder.build(request, yard.said.append)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 * 1024, f"{grown} KiB"


async def test_an_endless_output_is_cut_and_ends_with_the_limit(yard: Yard) -> None:
    files = {"Dockerfile": dockerfile(f"RUN yes {unique()}")}
    text = await yard.fails(files, timeout_seconds=3)
    assert "longer than the limit" in text
    assert len(yard.said) < 1_000_000


async def test_a_folder_bomb_is_refused_before_a_byte_is_sent(yard: Yard) -> None:
    oid, mode = yard.client.blob(dockerfile().encode()), "100644"
    for _ in range(8):
        oid = yard.client.tree(b"".join(f"{mode} {n}".encode() + b"\0" + bytes.fromhex(oid) for n in range(10)))
        mode = "40000"
    tree = GitTree(yard.client.folder, commit=yard.client.commit_tree(oid))
    with pytest.raises(UserError, match="more than 100,000"):
        await choose([yard.builder], tree, BuildOptions())


async def test_detection_takes_a_regular_file_only(yard: Yard) -> None:
    builder = yard.builder
    assert isinstance(builder, DockerfileBuilder)
    plain = yard.request({"Dockerfile": "x"}).source
    link = yard.request({"Dockerfile": (LINK, b"x")}).source
    assert await builder.detect(plain, BuildOptions())
    assert not await builder.detect(link, BuildOptions())
    assert not await builder.detect(plain, BuildOptions(dockerfile_path="Other"))


def hog(*, unless_cached: str) -> str:
    """Return a step that wants 200 MB at once, and that goes on for long when a process of it is killed for that."""
    return f"RUN echo {unless_cached}; dd if=/dev/zero of=/dev/null bs=200M count=1; exec sleep 600"


async def test_a_build_that_takes_too_much_memory_ends_and_says_how_to_give_it_more(yard: Yard) -> None:
    told = await yard.fails({"Dockerfile": dockerfile(hog(unless_cached=unique()))}, memory_bytes=64 << 20)
    assert "more than its limit of 64 MiB of memory" in told and "resource:limit --process-type build" in told


async def test_a_build_without_a_limit_of_its_own_ends_at_that_of_all_builds(yard: Yard) -> None:
    yard.builder = DockerfileBuilder(yard.engine, yard.images, BuildLimits(yard.engine, memory_bytes=64 << 20))
    told = await yard.fails({"Dockerfile": dockerfile(hog(unless_cached=unique()))}, timeout_seconds=90)
    assert "more memory than builds may use on this machine (build.memory_percent of the settings)" in told


async def test_a_fork_bomb_in_a_build_meets_its_limit_and_ends(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_cgroups, "PIDS", 50)  # instead of 4,096, so that nothing else notices
    told = await yard.fails({"Dockerfile": dockerfile(f"RUN echo {unique()}; while :; do sleep 600 & done")})
    assert "can't fork" in f"{told}{yard.text}"


async def test_all_steps_of_a_build_share_its_limits(yard: Yard) -> None:
    step = f"RUN echo {unique()}; sleep 0.5; cat /proc/self/cgroup"
    await yard.build({"Dockerfile": dockerfile(step)}, memory_bytes=64 << 20, cpus=0.5)
    groups = {line.strip().rpartition(":")[2] for line in yard.said if ":memory:" in line or " 0::/" in line}
    assert f"/pushboat-builds-{yard.engine.instance}/{APP}" in groups
    assert not list(Path("/sys/fs/cgroup").glob(f"*/pushboat-builds-{yard.engine.instance}"))


async def test_the_mark_of_a_limited_build_is_nothing_to_the_cache(yard: Yard) -> None:
    files = {"Dockerfile": dockerfile(f"RUN echo {unique()}; cat /proc/self/environ")}
    first = await yard.build(files)
    assert ".build.invalid" in yard.text
    yard.builder = DockerfileBuilder(yard.engine, yard.images, BuildLimits(yard.engine, memory_bytes=0))
    assert (await yard.build(files)).id == first.id
    assert yard.said[-1].endswith("CACHED")


async def test_a_build_is_held_to_its_limits_through_the_program_that_has_the_rights(
    yard: Yard, tmp_path: Path
) -> None:
    socket = tmp_path / "s"
    program = await asyncio.create_subprocess_exec(sys.executable, "-m", "agent.docker.build_limits", str(socket))
    try:
        await until(lambda: asyncio.to_thread(socket.exists))
        limits = BuildLimits(yard.engine, memory_bytes=0, socket=socket, is_root=False)
        yard.builder = DockerfileBuilder(yard.engine, yard.images, limits)
        told = await yard.fails({"Dockerfile": dockerfile(hog(unless_cached=unique()))}, memory_bytes=64 << 20)
        assert "more than its limit of 64 MiB of memory" in told
        await yard.build({"Dockerfile": dockerfile("RUN true")}, memory_bytes=64 << 20)
    finally:
        program.terminate()
        await program.wait()
    await yard.build({"Dockerfile": dockerfile("RUN true")}, memory_bytes=64 << 20)
    assert "The limits of builds do not hold: pushboat-builds.service does not answer." in yard.text
