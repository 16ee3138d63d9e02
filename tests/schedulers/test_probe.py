"""Checks of replicas: what passes, and the words for what does not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent.docker.engine import Engine
from agent.ports.scheduler import CheckSpec, ReplicaStatus
from agent.schedulers.docker import DockerScheduler
from agent.schedulers.listeners import Listener, read_table, why_unreachable
from agent.schedulers.probe import BODY_LIMIT, OUTPUT_LIMIT, DockerProber, judge, request_url
from proto.names import AppId, ProcessType, ReplicaId
from tests.support.docker import Corner, until

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
V4 = (
    HEAD
    + "   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n"
    + "   1: 00000000:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0\n"
    + "   2: 0B00007F:A1B2 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0\n"
    + "   3: 0200D50A:1388 0100D50A:C350 01 00000000:00000000 00:00000000 00000000     0        0 4 1 0 100 0 0 10 0\n"
)
V6 = (
    HEAD
    + "   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 5 1 0\n"
    + "   1: 00000000000000000000000001000000:0051 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 6 1 0\n"
)


def test_the_kernels_tables_are_read() -> None:
    assert read_table(V4) == {Listener(8000, "127.0.0.1"), Listener(5000, "0.0.0.0")}
    assert read_table(V6) == {Listener(80, "::"), Listener(81, "::1")}
    assert read_table("garbage\n 0: zz:yy 0 0A\n") == set()


@pytest.mark.parametrize(
    ("listeners", "reason"),
    [
        ([], "Nothing listens on port 5000."),
        ([Listener(5000, "0.0.0.0")], None),
        ([Listener(5000, "::")], None),
        ([Listener(5000, "10.213.0.2")], None),
        (
            [Listener(5000, "127.0.0.1")],
            "It listens on 127.0.0.1:5000 only, where nobody outside can reach it. Listen on 0.0.0.0:5000.",
        ),
        (
            [Listener(8000, "127.0.0.1")],
            "Nothing listens on port 5000; it listens on 127.0.0.1:8000 only. Listen on 0.0.0.0, on the port in $PORT.",
        ),
        (
            [Listener(8000, "0.0.0.0"), Listener(9000, "::1")],
            "Nothing listens on port 5000; it listens on port 8000, [::1]:9000."
            " Listen on 0.0.0.0, on the port in $PORT.",
        ),
    ],
)
def test_what_listens_elsewhere_is_named(listeners: list[Listener], reason: str | None) -> None:
    assert why_unreachable(listeners, port=5000, own_address="10.213.0.2") == reason


def test_a_path_is_asked_for_as_it_is_written() -> None:
    check = CheckSpec(kind="path", path="/a%20b?c=d%2F..", scheme="https")
    assert str(request_url(check, address="10.213.0.2", port=5000)) == "https://10.213.0.2:5000/a%20b?c=d%2F.."
    assert request_url(CheckSpec(kind="path", path="x"), address="10.213.0.2", port=80).path == "/x"


@pytest.mark.parametrize(("status", "passes"), [(199, False), (200, True), (302, True), (399, True), (400, False)])
def test_an_answer_below_400_passes(status: int, passes: bool) -> None:
    assert (judge(CheckSpec(kind="path"), status=status, body=b"") is None) is passes


def test_content_that_is_missing_is_named() -> None:
    check = CheckSpec(kind="path", path="/up", content="OK")
    assert judge(check, status=200, body=b"all OK here") is None
    assert judge(check, status=200, body=b"hm") == "GET /up was answered without 'OK' in it."


async def test_a_check_asks_as_the_apps_domain_with_its_own_headers_at_its_own_port(tmp_path: Path) -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")
        writer.close()

    app, replica, web = AppId("ablog"), ReplicaId("r1"), ProcessType("web")
    facts: dict[str, Any] = {
        "app": app,
        "replica": replica,
        "process": web,
        "number": 1,
        "release": 1,
        "container": "c",
    }
    status = ReplicaStatus(**facts, name="blog.web.1.v1", phase="running", address="127.0.0.1")
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Engine.open(f"unix://{tmp_path}/none.sock", instance="t") as engine:
        check = CheckSpec(
            kind="path", path="/up", content="OK", port=port, headers=(("X-Token", "a b"), ("Accept", "x/y"))
        )
        assert await DockerProber(engine).probe(check, status, port=9, host="blog.example.com") is None
    (request,) = asked
    assert request.startswith(b"GET /up HTTP/1.1\r\n") and b"Host: blog.example.com\r\n" in request
    assert b"X-Token: a b\r\n" in request and b"Accept: x/y\r\n" in request


class Probed:
    """One replica and a prober."""

    def __init__(self, docker: Corner) -> None:
        self._docker = docker
        self._scheduler = DockerScheduler(docker.engine, bridges=docker.bridges)
        self._prober = DockerProber(docker.engine)

    async def start(self, *command: str, **changes: Any) -> ReplicaStatus:
        wish = self._docker.wish(*command, **changes)
        (status,) = await self._scheduler.converge(self._docker.app, [wish], lambda _: None)
        return status

    async def ask(self, status: ReplicaStatus, **check: Any) -> str | None:
        return await self._prober.probe(CheckSpec(**check), status, port=5000, host="blog.example.com")

    async def until_reason(self, status: ReplicaStatus, reason: str | None, **check: Any) -> None:
        async def is_so() -> bool:
            return await self.ask(status, **check) == reason

        await until(is_so)


@pytest.fixture
def probed(docker: Corner) -> Probed:
    return Probed(docker)


SERVE = "mkdir -p /tmp/www; echo 'I am OK' > /tmp/www/index.html; exec httpd -f -h /tmp/www -p "


@pytest.mark.real
async def test_a_server_passes_every_kind_of_check(docker: Corner) -> None:
    probed = Probed(docker)
    status = await probed.start("sh", "-c", SERVE.replace("mkdir -p", "busybox mkdir -p") + "5000")
    await probed.until_reason(status, None, kind="connect")
    assert await probed.ask(status, kind="listening") is None
    assert await probed.ask(status, kind="path", content="OK") is None
    assert await probed.ask(status, kind="path", path="/none") == "GET /none was answered with status 404."
    assert "without" in str(await probed.ask(status, kind="path", content="not there"))
    assert "no HTTPS answer" in str(await probed.ask(status, kind="path", scheme="https"))
    assert "port 5000: Listen" not in str(await probed.ask(status, kind="connect", port=5001))


@pytest.mark.real
async def test_of_an_answer_a_mebibyte_is_searched_and_of_an_output_4_kibibytes_kept(probed: Probed) -> None:
    def page(name: str, size: int) -> str:
        return f"(head -c {size} /dev/zero; printf OK) > /tmp/www/{name}; "

    pages = page("fits", BODY_LIMIT - 2) + page("more", BODY_LIMIT - 1)
    status = await probed.start("sh", "-c", f"mkdir -p /tmp/www; {pages}{SERVE.rpartition('; ')[2]}5000")
    await probed.until_reason(status, None, kind="path", path="/fits", content="OK")
    assert (
        await probed.ask(status, kind="path", path="/more", content="OK")
        == "GET /more was answered without 'OK' in it."
    )
    for size in (OUTPUT_LIMIT, OUTPUT_LIMIT + 1):
        prints = ("sh", "-c", f"head -c {size} /dev/zero | tr '\\0' z >&2; exit 3")
        told = await probed.ask(status, kind="command", command=prints)
        assert told is not None and told.endswith(f"ended with status 3: {'z' * OUTPUT_LIMIT}")


@pytest.mark.real
async def test_a_server_on_loopback_only_is_told_so(probed: Probed) -> None:
    status = await probed.start("httpd", "-f", "-p", "127.0.0.1:5000")
    reason = "It listens on 127.0.0.1:5000 only, where nobody outside can reach it. Listen on 0.0.0.0:5000."
    await probed.until_reason(status, reason, kind="listening")
    assert await probed.ask(status, kind="connect") == reason
    assert await probed.ask(status, kind="path") == reason


@pytest.mark.real
async def test_a_server_on_another_port_is_told_which(probed: Probed) -> None:
    status = await probed.start("httpd", "-f", "-p", "8000")
    reason = "Nothing listens on port 5000; it listens on port 8000. Listen on 0.0.0.0, on the port in $PORT."
    await probed.until_reason(status, reason, kind="connect")


@pytest.mark.real
async def test_what_does_not_listen_or_run_is_told_so(probed: Probed) -> None:
    idle = await probed.start()
    assert await probed.ask(idle, kind="connect") == "Nothing listens on port 5000."
    ended = await probed.start("sh", "-c", "exit 0")
    await probed.until_reason(ended, "It does not run.", kind="listening", timeout=10.0)
    assert await probed.ask(ended, kind="command", command=("true",)) == "The replica does not run."


@pytest.mark.real
async def test_a_command_passes_by_its_status(probed: Probed) -> None:
    status = await probed.start()
    assert await probed.ask(status, kind="command", command=("sh", "-c", "exit 0")) is None
    reason = await probed.ask(status, kind="command", command=("sh", "-c", "echo first; echo no database >&2; exit 3"))
    assert reason is not None and reason.endswith("ended with status 3: no database")
    assert await probed.ask(status, kind="command", command=("sleep", "9"), timeout=0.2) == "No answer within 0.2 s."


@pytest.mark.real
async def test_an_images_own_check_is_asked(docker: Corner) -> None:
    probed = Probed(docker)
    image = await docker.import_image(
        "HEALTHCHECK --interval=1s --retries=1 CMD test -e /tmp/up || ( echo not yet; exit 1 )"
    )
    status = await probed.start("sh", "-c", "sleep 3; touch /tmp/up; sleep 1000", image=image)
    await probed.until_reason(status, "The image's HEALTHCHECK says unhealthy: not yet", kind="image")
    await probed.until_reason(status, None, kind="image")
    plain = await probed.start()
    assert await probed.ask(plain, kind="image") == "The image has no HEALTHCHECK."
