"""Whether the engine answers at all, asked of a scripted server on a unix socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.docker.engine import Engine
from tests.support.scripted_engine import always, http, scripted

WELL = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


async def test_the_question_goes_over_a_connection_that_is_kept(tmp_path: Path) -> None:
    talkers = set()

    async def answer(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talkers.add(writer)
        writer.write(WELL)

    async with scripted(tmp_path, answer) as (engine, seen):
        assert [await engine.answers() for _ in range(3)] == [True] * 3
        assert await asyncio.gather(*(engine.answers() for _ in range(5))) == [True] * 5
    assert seen == ["HEAD /_ping HTTP/1.1"] * 8 and len(talkers) == 1


async def test_an_engine_that_was_replaced_is_asked_again_at_once(tmp_path: Path) -> None:
    async def answer(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(WELL)
        await writer.drain()
        writer.close()  # as if it had ended meanwhile

    async with scripted(tmp_path, answer) as (engine, _):
        for _ in range(3):
            assert await engine.answers()
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\xff garbage\r\n\r\n",
        http(500, b"{}"),
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000,
    ],
)
async def test_what_is_no_good_answer_is_none(tmp_path: Path, data: bytes) -> None:
    async def answer(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    async with scripted(tmp_path, answer) as (engine, _):
        assert not await engine.answers() and not await engine.answers()


async def test_a_body_where_none_belongs_does_not_pass_for_the_next_answer(tmp_path: Path) -> None:
    async with scripted(tmp_path, always(WELL + b"OK")) as (engine, _):
        assert [await engine.answers() for _ in range(3)] == [True] * 3


async def test_an_engine_that_hangs_or_is_away_does_not_answer_and_one_that_comes_back_does(tmp_path: Path) -> None:
    is_frozen = asyncio.Event()

    async def answer(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not is_frozen.is_set():
            writer.write(WELL)

    async with scripted(tmp_path, answer) as (engine, _):
        assert await engine.answers()
        is_frozen.set()
        assert await asyncio.gather(engine.answers(), engine.answers()) == [False, False]
        is_frozen.clear()
        assert await engine.answers()
    async with Engine.open(f"unix://{tmp_path}/nobody.sock", instance="i23456789abc") as engine:
        assert not await engine.answers()
