from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from agent.machine import Machine, answers
from agent.proxies.haproxy.binds import parse_binds


async def test_a_sound_machine_has_no_problems(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = await Machine(tmp_path, listens=[server.getsockname()]).problems()
    assert [problem for problem, _ in found if "disk" not in problem and "open only" not in problem] == []


async def test_an_exposed_secret_a_clock_that_went_back_and_a_silent_port_are_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "key").write_bytes(b"secret")
    (tmp_path / "key").chmod(0o644)
    (tmp_path / "pushboat.db").touch(mode=0o600)
    tomorrow = (tmp_path / "key").stat().st_mtime + 86_400
    os.utime(tmp_path / "pushboat.db", (tomorrow, tomorrow))
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = server.getsockname()
    found = await Machine(tmp_path, listens=[silent]).problems()
    told = " ".join(problem for problem, _ in found)
    assert f"Others may read {tmp_path / 'key'}" in told
    assert "clock has gone back" in told
    assert f"Nothing answers at 127.0.0.1:{silent[1]}" in told
    assert all(hint for _, hint in found)


@pytest.mark.parametrize(
    ("bind", "knock"), [("[::]", "::1"), ("[::1]", "::1"), ("*", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")]
)
async def test_whoever_listens_at_an_address_of_any_spelling_is_found(bind: str, knock: str) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), knock, 0)
    async with server:
        (found,) = parse_binds([f"{bind}:{server.sockets[0].getsockname()[1]}"])
        assert await answers(found.host, found.port)
    assert not await answers(found.host, found.port)
