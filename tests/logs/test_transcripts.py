"""Whoever watches a deploy, whenever he comes, reads all that it said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from agent.logs import transcript, transcripts
from agent.logs.transcripts import DiskTranscripts
from agent.ports.logs import MAX_LINE
from tests.logs.lines import APP, OTHER

DEPLOY = "daaaaaaaaaaa"


class Deploy:
    """A deploy that is over once somebody says so. Fulfils ``IsOver``."""

    def __init__(self, *, is_over: bool = False) -> None:
        self.is_over = is_over
        self.asked = 0

    async def __call__(self) -> bool:
        self.asked += 1
        return self.is_over


OVER = Deploy(is_over=True)


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[DiskTranscripts]:
    async with DiskTranscripts(tmp_path / "transcripts") as opened:
        yield opened


async def read(kept: DiskTranscripts, deploy: str = DEPLOY, *, until: Deploy = OVER) -> list[str]:
    async with aclosing(kept.follow(APP, deploy, is_over=until)) as lines:
        return [line async for line in lines]


async def test_what_was_said_is_read_in_order(kept: DiskTranscripts) -> None:
    for number in range(1000):
        kept.say(APP, DEPLOY, f"line {number}")
    assert await read(kept) == [f"line {number}" for number in range(1000)]


async def test_a_deploy_that_said_nothing_has_no_lines(kept: DiskTranscripts) -> None:
    assert await read(kept) == []


async def test_followers_who_come_at_any_time_read_the_same(kept: DiskTranscripts) -> None:
    deploy = Deploy()
    early = asyncio.ensure_future(read(kept, until=deploy))
    others: list[asyncio.Future[list[str]]] = []
    for number in range(300):
        kept.say(APP, DEPLOY, str(number))
        await asyncio.sleep(0)
        if number % 100 == 50:
            others.append(asyncio.ensure_future(read(kept, until=deploy)))
    deploy.is_over = True
    kept.nudge(APP, DEPLOY)
    expected = [str(number) for number in range(300)]
    assert await asyncio.gather(early, *others) == [expected] * 4


async def test_a_nudge_ends_the_following_at_once(kept: DiskTranscripts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcripts, "ASK_SECONDS", 3600)
    deploy = Deploy()
    kept.say(APP, DEPLOY, "almost there")
    async with aclosing(kept.follow(APP, DEPLOY, is_over=deploy)) as lines:
        assert await anext(lines) == "almost there"
        rest = asyncio.ensure_future(anext(lines, None))
        for _ in range(5):
            await asyncio.sleep(0)
        deploy.is_over = True
        kept.nudge(APP, DEPLOY)
        assert await rest is None


async def test_without_a_nudge_the_end_is_noticed_too(kept: DiskTranscripts) -> None:
    deploy = Deploy()
    following = asyncio.ensure_future(read(kept, until=deploy))
    kept.say(APP, DEPLOY, "the end")
    while deploy.asked < 3:
        await asyncio.sleep(0.01)
    deploy.is_over = True
    assert await following == ["the end"]


async def test_transcripts_survive_a_restart_and_go_on(tmp_path: Path) -> None:
    async with DiskTranscripts(tmp_path) as first:
        first.say(APP, DEPLOY, "before")
    (tmp_path / APP / f"{DEPLOY}.log").open("ab").write(b"torn")
    async with DiskTranscripts(tmp_path) as second:
        second.say(APP, DEPLOY, "after")
        assert await read(second) == ["before", "torn", "after"]


async def test_lines_are_stored_sanitised_and_of_bounded_length(kept: DiskTranscripts) -> None:
    kept.say(APP, DEPLOY, "\x1b]0;evil\x07\x1b[31mred\x1b[2J\n\nsecond\udcff")
    kept.say(APP, DEPLOY, "x" * (2 * MAX_LINE + 1))
    assert await read(kept) == ["\x1b[31mred\x1b[0m", "", "second\ufffd", "x" * MAX_LINE, "x" * MAX_LINE, "x"]


async def test_past_the_limit_the_last_lines_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcript, "HELD_LINES", 3)
    async with DiskTranscripts(tmp_path, max_bytes_per_deploy=100) as kept:
        for number in range(1000):
            kept.say(APP, DEPLOY, f"{number:09}")
        lines = await read(kept)
    expected = [f"{number:09}" for number in (*range(10), 997, 998, 999)]
    assert [line for line in lines if line[0] != "["] == expected
    assert lines[10] == "[987 lines left out]"
    assert (tmp_path / APP / f"{DEPLOY}.log").stat().st_size < 200


@pytest.mark.parametrize("past", [0, 1])
async def test_a_transcript_as_long_as_the_limit_is_kept_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, past: int
) -> None:
    monkeypatch.setattr(transcript, "HELD_LINES", 1)
    said = [f"{number:09}" for number in range(12)]
    async with DiskTranscripts(tmp_path, max_bytes_per_deploy=10 * len(said) - past) as kept:
        for text in (*said, *("end",) * past):
            kept.say(APP, DEPLOY, text)
        lines = await read(kept)
    assert lines == (said if not past else [*said[:-1], "[1 lines left out]", "end"])


async def test_held_lines_are_shown_when_the_deploy_goes_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcripts, "QUIET_SECONDS", 0.05)
    async with DiskTranscripts(tmp_path, max_bytes_per_deploy=10) as kept:
        async with aclosing(kept.follow(APP, DEPLOY, is_over=Deploy())) as lines:
            kept.say(APP, DEPLOY, "a" * 9)
            kept.say(APP, DEPLOY, "the reason")
            assert [await anext(lines), await anext(lines)] == ["a" * 9, "the reason"]


async def test_a_disk_that_is_too_slow_costs_lines_not_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcript, "PENDING_BYTES", 1000)
    async with DiskTranscripts(tmp_path) as kept:
        for number in range(10_000):
            kept.say(APP, DEPLOY, f"{number:09}")
        lines = await read(kept)
    assert lines[:100] == [f"{number:09}" for number in range(100)]
    assert lines[100] == "[9700 lines left out]"
    assert lines[101:] == [f"{number:09}" for number in range(9_800, 10_000)]


async def test_a_full_disk_is_survived_and_the_loss_told(
    kept: DiskTranscripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.say(APP, DEPLOY, "before")
    assert await read(kept) == ["before"]

    def full_disk(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("agent.logs.transcript.os.write", full_disk)
        kept.say(APP, DEPLOY, "lost")
        assert await read(kept) == ["before"]
    kept.say(APP, DEPLOY, "after")
    assert sorted(await read(kept)) == ["[1 lines left out]", "after", "before"]


def test_what_a_full_disk_costs_is_counted_through_every_further_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = transcript.Transcript(tmp_path / "d.log", limit=1_000)

    def full_disk(file: int, data: bytes) -> int:
        assert said.is_waiting, "what is being written is not forgotten"
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("agent.logs.transcript.os.write", full_disk)
        for number in range(3):
            said.say(b"lost %d\n" % number, now=0.0)
            for _ in range(2):
                with pytest.raises(OSError):
                    said.write(is_final=True)
                assert said.is_waiting
    said.write(is_final=True)
    assert (tmp_path / "d.log").read_bytes() == b"[3 lines left out]\n"
    assert not said.is_waiting


async def test_removed_transcripts_are_gone_and_others_stay(kept: DiskTranscripts, tmp_path: Path) -> None:
    kept.say(APP, DEPLOY, "old")
    kept.say(APP, "dbbbbbbbbbbb", "new")
    kept.say(OTHER, DEPLOY, "other app's")
    assert await read(kept) == ["old"]
    assert await read(kept, "dbbbbbbbbbbb") == ["new"]
    for _ in range(2):
        await kept.remove(APP, [DEPLOY])
    assert await read(kept) == []
    assert await read(kept, "dbbbbbbbbbbb") == ["new"]
    for _ in range(2):
        await kept.remove(APP)
    assert await read(kept, "dbbbbbbbbbbb") == []
    assert not (tmp_path / "transcripts" / APP).exists()
    async with aclosing(kept.follow(OTHER, DEPLOY, is_over=OVER)) as lines:
        assert [line async for line in lines] == ["other app's"]


async def test_an_id_that_is_none_reaches_no_path(kept: DiskTranscripts) -> None:
    with pytest.raises(ValueError, match="no ids"):
        kept.say(APP, "../evil", "x")


async def test_nothing_is_kept_in_memory_of_a_deploy_that_is_silent(kept: DiskTranscripts) -> None:
    kept.say(APP, DEPLOY, "x")
    await read(kept)
    assert not kept._open
    assert not kept._followers
