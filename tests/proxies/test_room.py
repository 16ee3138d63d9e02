"""Where HAProxy may open few files it serves as many visitors as it can, and says so."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from agent.proxies.haproxy import room
from agent.proxies.haproxy.proxy import BINARY
from agent.proxies.haproxy.room import SPARE_FILES, attainable, complaints
from tests.proxies.apps import running_app
from tests.proxies.front import route, running_front, table


@pytest.mark.parametrize(
    ("hard", "wanted", "had"),
    [
        (resource.RLIM_INFINITY, 20_000, 20_000),
        (1_048_576, 20_000, 20_000),
        (2 * 20_000 + SPARE_FILES, 20_000, 20_000),
        (2 * 20_000 + SPARE_FILES - 1, 20_000, 19_999),
        (20_000, 20_000, 9_900),
        (20_000, 100, 100),
        (64, 20_000, 1),
    ],
)
def test_no_more_visitors_are_asked_for_than_there_may_be_files(
    monkeypatch: pytest.MonkeyPatch, hard: int, wanted: int, had: int
) -> None:
    monkeypatch.setattr(room.resource, "getrlimit", lambda which: (1_024, hard))
    monkeypatch.setattr(room, "_may_raise_limits", lambda: False)
    assert attainable(wanted) == had
    monkeypatch.setattr(room, "_may_raise_limits", lambda: True)
    assert attainable(wanted) == wanted


def info(files: int, needed: int, most: int) -> str:
    return f"Name: HAProxy\nUlimit-n: {files}\nMaxsock: {needed}\nMaxconn: {most}\nnode: a: b\n"


@pytest.mark.parametrize(
    ("told", "room"),
    [
        (info(40_040, 40_040, 20_000), ""),
        (info(1_048_576, 40_040, 20_000), ""),
        (info(20_000, 40_040, 20_000), "9,980"),
        (info(19_840, 19_840, 9_900), "9,900"),
        (info(10, 40_040, 20_000), "0"),
        ("", ""),
        (info(1, 2, 3).replace("2", "x"), ""),
    ],
)
def test_fewer_visitors_than_the_settings_say_are_told(told: str, room: str) -> None:
    found = [message for message, _ in complaints(told, wanted=20_000)]
    assert [f"enough for {room} connections at once; http.max_connections says 20,000." in one for one in found] == (
        [True] if room else []
    )


@pytest.mark.real
async def test_a_proxy_with_few_files_starts_and_serves_and_says_what_it_can(tmp_path: Path) -> None:
    poor = tmp_path / "haproxy"
    # Root would take more than it is given.
    poor.write_text(f'#!/bin/sh\nulimit -n 600\nexec setpriv --bounding-set=-sys_resource {BINARY} "$@"\n')
    poor.chmod(0o755)
    async with running_front(binary=str(poor), max_connections=1_000) as front, running_app("r1") as app:
        await front.proxy.apply(table(route("blog", app)))
        assert (await front.ask("blog.test")).app == "r1"
        assert await front.proxy.problems() == []
        [(message, hint)] = await front.proxy.room.problems()
    assert message.startswith("HAProxy may open 600 files, enough for 2") and "LimitNOFILE" in hint
    async with running_front(max_connections=100) as front:
        assert await front.proxy.room.problems() == ()
    assert await front.proxy.room.problems() == (), "that it is gone is told by others"
