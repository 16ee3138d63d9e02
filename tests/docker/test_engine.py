"""What the engine client makes of good, bad and missing answers, spoken by a scripted server on a unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from agent.docker.engine import Engine, EngineVersion, Faulted, Refused, spoken_version
from agent.errors import Unavailable
from tests.support.scripted_engine import always, http, scripted


async def test_an_answer_is_decoded_and_the_version_is_asked_for_once(tmp_path: Path) -> None:
    async with scripted(tmp_path, always(http(200, b'{"a": 1}'))) as (engine, seen):
        assert await engine.json("GET", "info") == {"a": 1}
        assert await engine.json("POST", "x", params={"t": 3, "all": True}, data={"b": 2}) == {"a": 1}
    assert [line.split()[1] for line in seen] == ["/version", "/v1.41/info", "/v1.41/x?t=3&all=1"]


async def test_an_empty_answer_is_none(tmp_path: Path) -> None:
    async with scripted(tmp_path, always(b"HTTP/1.1 204 No Content\r\n\r\n")) as (engine, _):
        assert await engine.json("POST", "containers/x/start") is None


async def test_not_found_is_none_for_get_and_refused_for_others(tmp_path: Path) -> None:
    async with scripted(tmp_path, always(http(404, b'{"message": "no such image"}'))) as (engine, _):
        assert await engine.get("images/x/json", into=EngineVersion) is None
        with pytest.raises(Refused, match="no such image") as caught:
            await engine.json("POST", "containers/create", data={})
    assert caught.value.status == 404


async def test_a_fault_of_the_engine_is_unavailable_and_keeps_its_words(tmp_path: Path) -> None:
    async with scripted(tmp_path, always(http(500, b'{"message": "no space left on device"}'))) as (engine, _):
        with pytest.raises(Faulted) as caught:
            await engine.json("GET", "info")
    assert caught.value.detail == "no space left on device"
    assert caught.value.code == "docker.unavailable"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        http(200, b"<html>"),
        http(502, b"not json"),
        b"\x00\xff garbage\r\n\r\n",
    ],
)
async def test_a_cut_or_senseless_answer_is_unavailable(tmp_path: Path, data: bytes) -> None:
    async def answer(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    async with scripted(tmp_path, answer) as (engine, _):
        with pytest.raises(Unavailable):
            await engine.json("GET", "info")


async def test_an_engine_that_hangs_is_unavailable_after_the_deadline(tmp_path: Path) -> None:
    async def answer(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with scripted(tmp_path, answer) as (engine, _):
        with pytest.raises(Unavailable, match="too long"):
            await engine.json("GET", "info", timeout=0.05)


async def test_an_engine_that_is_down_is_unavailable_and_is_found_again(tmp_path: Path) -> None:
    async with Engine.open(f"unix://{tmp_path}/engine.sock", instance="i23456789abc") as engine:
        with pytest.raises(Unavailable):
            await engine.json("GET", "info")
        async with scripted(tmp_path, always(http(200, b"[]"))):
            assert await engine.json("GET", "info") == []


async def test_an_engine_of_another_version_is_negotiated_with_anew(tmp_path: Path) -> None:
    answers = [http(400, b'{"message": "client version 1.41 is too old"}'), http(200, b"[]")]

    async def answer(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answers.pop(0))

    async with scripted(tmp_path, answer) as (engine, seen):
        with pytest.raises(Unavailable):
            await engine.json("GET", "info")
        assert await engine.json("GET", "info") == []
    assert sum(line.startswith("GET /version ") for line in seen) == 2


async def test_a_stream_gives_chunks_and_leaving_it_closes_the_connection(tmp_path: Path) -> None:
    closed = asyncio.Event()

    async def answer(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await writer.drain()
        await reader.read()
        closed.set()

    async with scripted(tmp_path, answer) as (engine, _):
        async with engine.stream("GET", "events") as chunks:
            assert await anext(chunks) == b"abc"
        async with asyncio.timeout(5):
            await closed.wait()


async def test_a_stream_that_is_cut_is_unavailable(tmp_path: Path) -> None:
    async def answer(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await writer.drain()
        writer.close()

    async with scripted(tmp_path, answer) as (engine, _):
        with pytest.raises(Unavailable):
            async with engine.stream("GET", "events") as chunks:
                async for chunk in chunks:
                    assert chunk == b"abc"


async def test_a_body_that_breaks_off_raises_its_own_error_and_cuts_the_call(tmp_path: Path) -> None:
    class TooLargeError(Exception):
        pass

    cut = asyncio.Event()

    async def answer(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = await reader.read()
        if not received.endswith(b"0\r\n\r\n"):
            cut.set()

    async def body() -> AsyncIterator[bytes]:
        yield b"tar"
        raise TooLargeError

    async with scripted(tmp_path, answer) as (engine, _):
        with pytest.raises(TooLargeError):
            async with engine.stream("POST", "build", body=body(), answer_within=5):
                pass
        async with asyncio.timeout(5):
            await cut.wait()


@pytest.mark.parametrize(
    ("newest", "oldest", "spoken"),
    [("1.41", "1.12", "v1.41"), ("1.44", "1.24", "v1.44"), ("1.52", "1.44", "v1.44"), ("1.60", "1.50", "v1.50")],
)
def test_the_spoken_version_is_one_that_the_engine_accepts(newest: str, oldest: str, spoken: str) -> None:
    version = {"Version": "x", "ApiVersion": newest, "MinAPIVersion": oldest}
    assert spoken_version(msgspec.convert(version, EngineVersion)) == spoken


def test_an_engine_that_is_too_old_is_named() -> None:
    with pytest.raises(Unavailable, match="too old") as caught:
        spoken_version(EngineVersion(version="19.03", api_version="1.40"))
    assert caught.value.code == "docker.too-old"
