"""Lines are kept, in order, within their budget, and found again after any death."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import Unavailable
from agent.logs import segments
from agent.logs.lines import OVERLAP_NS, Recent, decode, encode, split
from agent.logs.segments import Shelf
from agent.logs.store import DiskLogStore
from agent.ports.logs import SLOT_NS, LogLine, LogLines, Position, RawLine, RawLines, count_slots, slot_of
from proto.names import AppId, ProcessType, ReplicaId
from tests.fakes.world import FakeClock
from tests.logs.lines import APP, OTHER, REPLICA, SECOND, line, numbered, stored, stored_lines


@settings(deadline=None)
@given(st.builds(line, st.text(st.characters(codec="utf-8")), at=st.integers(0, 2**62), release=st.integers(1, 9999)))
def test_what_is_written_is_read(one: LogLine) -> None:
    record = encode(REPLICA, [one])
    assert record.count(b"\n") == 1
    fields = split(record[:-1])
    assert fields is not None
    text = one.text.replace("\n", "\\n")
    assert decode(fields) == line(text, at=one.at, release=one.release)


raw_lines = st.builds(
    RawLine, st.integers(0, 2**62), st.sampled_from(["stdout", "stderr", "agent"]), st.binary(max_size=20)
)


@settings(deadline=None)
@given(st.lists(raw_lines, min_size=1, max_size=10))
def test_lines_in_columns_are_stored_as_single_ones_are(raws: list[RawLine]) -> None:
    columns = LogLines(RawLines.of(raws), process=ProcessType("web"), number=3, release=12)
    assert encode(REPLICA, columns) == encode(REPLICA, list(columns))
    together, singly = Recent(), Recent()
    together.absorb_lines(columns)
    for one in columns:
        singly.absorb([(one.at, one.stream == "agent")])
    assert together == singly


@given(st.lists(st.integers(0, 10 * SLOT_NS)))
def test_slots_are_counted_whatever_the_order(stamps: list[int]) -> None:
    counted = Counter(map(slot_of, stamps))
    assert count_slots(stamps) == counted
    assert count_slots(sorted(set(stamps))) == Counter(map(slot_of, set(stamps)))


@settings(deadline=None)
@given(st.binary())
def test_what_is_no_record_is_told_apart(data: bytes) -> None:
    fields = split(data)
    assert fields is None or (len(fields) == 6 and decode_or_none(fields) is not None)


def decode_or_none(fields: list[bytes]) -> object:
    return fields[0].isdigit() and fields[3] in (b"o", b"e", b"a")


async def test_lines_come_back_whole_and_in_order(store: DiskLogStore) -> None:
    first = line("GET / \x1b[31m 200", at=1)
    second = line("", at=2, stream="stderr", process="a-b_C", number=12, release=345)
    third = line("exited", at=3, stream="agent")
    await store.append(APP, REPLICA, [first, second])
    await store.append(APP, REPLICA, [third])
    assert await stored_lines(store) == [first, second, third]


async def test_apps_do_not_see_each_other(store: DiskLogStore) -> None:
    await store.append(APP, REPLICA, [line("mine")])
    await store.append(OTHER, SECOND, [line("theirs")])
    assert await stored(store, APP) == ["mine"]
    assert await stored(store, OTHER) == ["theirs"]
    assert await stored(store, AppId("acccccccccc2")) == []


async def test_an_app_id_that_is_none_reaches_no_path(store: DiskLogStore) -> None:
    for name in ("", "..", "a/b", "A"):
        with pytest.raises(ValueError, match="is no app id"):
            await store.append(AppId(name), REPLICA, [line("x")])


async def test_lines_survive_a_restart(tmp_path: Path, clock: FakeClock) -> None:
    async with DiskLogStore(tmp_path, clock=clock) as store:
        await store.append(APP, REPLICA, numbered(1, 3))
    async with DiskLogStore(tmp_path, clock=clock) as store:
        await store.append(APP, REPLICA, numbered(4, 5))
        assert await stored(store) == ["1", "2", "3", "4", "5"]


async def test_appended_lines_are_in_the_file_at_once(store: DiskLogStore, tmp_path: Path) -> None:
    await store.append(APP, REPLICA, [line("there")])
    (file,) = (tmp_path / "logs" / APP).iterdir()
    assert file.read_bytes().endswith(b" there\n")


async def test_a_torn_end_is_cut_and_followed_again(tmp_path: Path, clock: FakeClock) -> None:
    async with DiskLogStore(tmp_path, clock=clock) as store:
        await store.append(APP, REPLICA, numbered(1, 3))
    file = tmp_path / APP / "0000000001.log"
    for torn in (b"4 web.1 1 o raaaaaaaaaaa ha", b"4 we", b"\0" * 100, b"#1 4 {"):
        whole = file.read_bytes()
        file.write_bytes(whole + torn)
        async with DiskLogStore(tmp_path, clock=clock) as store:
            assert (await store.position(APP, REPLICA)).seen == {0: 3}
            assert await stored(store) == ["1", "2", "3"]
        assert file.read_bytes() == whole


@pytest.mark.parametrize("is_packed", [False, True], ids=["plain", "packed"])
async def test_a_segment_that_was_cut_off_in_its_first_line_forgets_nobody(
    tmp_path: Path, clock: FakeClock, is_packed: bool
) -> None:
    async with DiskLogStore(tmp_path, clock=clock, segment_bytes=100) as store:
        for start in range(0, 12, 4):
            await store.append(APP, REPLICA, numbered(start, start + 3, width=10))
        before = await store.position(APP, REPLICA)
        texts = await stored(store)
    *_, closed, last = sorted(tmp_path.joinpath(APP).iterdir())
    assert last.read_bytes().startswith(b"#1 ")
    # It is packed beside the loop, and may not have been before the store was closed.
    if is_packed and closed.suffix != ".gz":
        closed.with_name(f"{closed.name}.gz").write_bytes(gzip.compress(closed.read_bytes()))
        closed.unlink()
    elif not is_packed and closed.suffix == ".gz":
        closed.with_suffix("").write_bytes(gzip.decompress(closed.read_bytes()))
        closed.unlink()
    kept = texts[: -last.read_bytes().count(b" o ")]
    for size in (0, 1, 20):
        last.write_bytes(b'#1 0 {"raaaaaaaaaaa":{'[:size])
        async with DiskLogStore(tmp_path, clock=clock, segment_bytes=100) as store:
            assert sum((await store.position(APP, REPLICA)).seen.values()) == len(kept)
            assert await stored(store) == kept
    assert before.since == 0


async def test_a_file_cut_anywhere_loses_only_what_follows(tmp_path: Path, clock: FakeClock) -> None:
    async with DiskLogStore(tmp_path, clock=clock) as store:
        await store.append(APP, REPLICA, numbered(1, 4, width=3))
    file = tmp_path / APP / "0000000001.log"
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        async with DiskLogStore(tmp_path, clock=clock) as store:
            seen = (await store.position(APP, REPLICA)).seen
            missing = numbered(1, 4, width=3)[sum(seen.values()) :]
            await store.append(APP, REPLICA, missing)
            assert await stored(store) == ["001", "002", "003", "004"]


async def test_a_position_counts_the_newest_lines(store: DiskLogStore) -> None:
    assert await store.position(APP, REPLICA) == Position()
    late = 10 * OVERLAP_NS
    await store.append(APP, REPLICA, [line("old", at=1), line("a", at=late), line("b", at=late)])
    await store.append(APP, SECOND, [line("other", at=late)])
    # Stamps of two streams may step back a little; all of them count.
    await store.append(APP, REPLICA, [line("c", at=late - 5), line("d", at=late)])
    position = await store.position(APP, REPLICA)
    assert position == Position(since=late - OVERLAP_NS, seen={late: 3, late - SLOT_NS: 1}, newest=late)


async def test_a_position_tells_whether_the_end_was_noted(store: DiskLogStore) -> None:
    await store.append(APP, REPLICA, [line("a", at=5), line("exited", at=9, stream="agent")])
    assert await store.position(APP, REPLICA) == Position(since=0, seen={0: 1}, newest=5, ended_at=9)
    await store.append(APP, REPLICA, [line("again", at=12)])
    assert (await store.position(APP, REPLICA)).ended_at == 0


STEPS = st.lists(
    st.tuples(
        st.sampled_from([REPLICA, SECOND]),
        st.lists(
            st.tuples(st.integers(0, 4 * OVERLAP_NS), st.sampled_from(["stdout", "agent"])), min_size=1, max_size=5
        ),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(1, 400))
def test_positions_are_the_same_after_a_restart(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[ReplicaId, list[tuple[int, str]]]], segment_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("shelf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "CHECKPOINT_BYTES", 100)
        shelf = Shelf(folder, segment_bytes=segment_bytes, clock=FakeClock())
        for replica, stamps in steps:
            shelf.append(replica, [line("x", at=at, stream=stream) for at, stream in stamps])  # type: ignore[arg-type]
        again = Shelf(folder, segment_bytes=segment_bytes, clock=FakeClock())
    for replica in (REPLICA, SECOND):
        assert again.position(replica) == shelf.position(replica)


async def test_positions_outlive_the_lines_they_came_from(tmp_path: Path, clock: FakeClock) -> None:
    async with DiskLogStore(tmp_path, clock=clock, budget_app_bytes=8_000) as store:
        await store.append(APP, SECOND, [line("quiet since long ago", at=7)])
        for start in range(0, 3000, 10):
            await store.append(APP, REPLICA, numbered(start, start + 9, width=20))
    async with DiskLogStore(tmp_path, clock=clock, budget_app_bytes=8_000) as store:
        assert "quiet since long ago" not in await stored(store)
        assert (await store.position(APP, SECOND)).seen == {0: 1}


async def test_positions_of_replicas_that_are_gone_are_forgotten(tmp_path: Path, clock: FakeClock) -> None:
    async with DiskLogStore(tmp_path, clock=clock) as store:
        await store.append(APP, REPLICA, [line("a")])
        await store.append(APP, SECOND, [line("b")])
        await store.retain(APP, [SECOND])
        assert await store.position(APP, REPLICA) == Position()
        assert (await store.position(APP, SECOND)).seen == {0: 1}
        assert await stored(store) == ["a", "b"]


async def test_closed_segments_are_compressed_and_still_read(tmp_path: Path, clock: FakeClock) -> None:
    async with DiskLogStore(tmp_path, clock=clock, segment_bytes=2_000) as store:
        for start in range(1, 500, 10):
            await store.append(APP, REPLICA, numbered(start, start + 9))
        expected = [str(number) for number in range(1, 501)]
        assert await stored(store) == expected
    names = sorted(path.name for path in (tmp_path / APP).iterdir())
    assert any(name.endswith(".log.gz") for name in names)
    async with DiskLogStore(tmp_path, clock=clock, segment_bytes=2_000) as store:
        assert await stored(store) == expected
        assert await stored(store, last=3) == ["498", "499", "500"]


async def test_an_app_keeps_within_its_budget_and_loses_its_oldest_lines(tmp_path: Path, clock: FakeClock) -> None:
    budget = 16_000
    async with DiskLogStore(tmp_path, clock=clock, budget_app_bytes=budget) as store:
        noise = [line(os.urandom(40).hex(), at=number * OVERLAP_NS) for number in range(2000)]
        for start in range(0, 2000, 10):
            await store.append(APP, REPLICA, noise[start : start + 10])
        await asyncio.wrap_future(store._upkeep.submit(lambda: None))
        kept = await stored(store)
    assert 0 < disk_bytes(tmp_path / APP) <= budget
    assert kept == [one.text for one in noise[-len(kept) :]]
    assert len(kept) > 50


async def test_all_apps_together_keep_within_the_whole_budget(tmp_path: Path, clock: FakeClock) -> None:
    budget = 200_000
    apps = [AppId(f"a{number:011}") for number in range(5)]
    async with DiskLogStore(tmp_path, clock=clock, budget_total_bytes=budget, segment_bytes=10_000) as store:
        for round_ in range(100):
            clock.advance(1)
            for app in apps:
                text = os.urandom(400).hex()
                await store.append(app, REPLICA, [line(text, at=round_ * 10 + number) for number in range(3)])
        await asyncio.wrap_future(store._upkeep.submit(lambda: None))
        sizes = [len(await stored(store, app)) for app in apps]
    assert disk_bytes(tmp_path) <= budget
    assert min(sizes) > 0


async def test_apps_that_never_close_a_segment_are_held_to_the_whole_budget_too(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with DiskLogStore(tmp_path, clock=clock, budget_total_bytes=1_000_000) as store:
        for number in range(8):
            lines = [line(os.urandom(100).hex(), at=at) for at in range(1000)]
            await store.append(AppId(f"a{number:011}"), REPLICA, lines)
        await asyncio.wrap_future(store._upkeep.submit(lambda: None))
        newest = await stored(store, AppId(f"a{7:011}"))
    assert disk_bytes(tmp_path) <= 1_000_000
    assert len(newest) <= 1000


async def test_a_write_that_fails_stores_nothing_of_it(
    store: DiskLogStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append(APP, REPLICA, numbered(1, 2))
    real = os.write
    written: list[int] = []

    def full_disk(file: int, data: bytes) -> int:
        if written:
            raise OSError(28, "No space left on device")
        written.append(real(file, bytes(data)[:10]))
        return 10

    with monkeypatch.context() as patch:
        patch.setattr("agent.logs.segments.os.write", full_disk)
        with pytest.raises(Unavailable, match="No space left on device"):
            await store.append(APP, REPLICA, numbered(3, 4))
    assert written
    assert await stored(store) == ["1", "2"]
    await store.append(APP, REPLICA, numbered(3, 4))
    assert await stored(store) == ["1", "2", "3", "4"]
    assert (await store.position(APP, REPLICA)).seen == {0: 4}


async def test_a_cancelled_append_is_stored_and_announced_or_neither(store: DiskLogStore) -> None:
    for number in range(1, 30):
        task = asyncio.ensure_future(store.append(APP, REPLICA, [line(str(number), at=number)]))
        for _ in range(number % 6):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        texts = await stored(store)
        seen = (await store.position(APP, REPLICA)).seen
        assert sum(seen.values()) == len(texts)


async def test_a_removed_app_leaves_nothing(store: DiskLogStore, tmp_path: Path) -> None:
    await store.append(APP, REPLICA, [line("a")])
    await store.append(OTHER, REPLICA, [line("b")])
    await store.remove(APP)
    await store.remove(APP)
    assert await stored(store, APP) == []
    assert [path.name for path in (tmp_path / "logs").iterdir()] == [OTHER]


async def test_a_compression_cut_short_leaves_the_plain_segment_in_force(tmp_path: Path, clock: FakeClock) -> None:
    async with DiskLogStore(tmp_path, clock=clock) as store:
        await store.append(APP, REPLICA, numbered(1, 3))
    (tmp_path / APP / "0000000001.log").rename(tmp_path / APP / "0000000002.log")
    (tmp_path / APP / "0000000001.log").write_bytes(encode(REPLICA, numbered(0, 0)))
    (tmp_path / APP / "0000000001.log.part").write_bytes(b"half")
    async with DiskLogStore(tmp_path, clock=clock) as store:
        assert await stored(store) == ["0", "1", "2", "3"]


@pytest.mark.slow
async def test_a_damaged_segment_costs_only_itself(tmp_path: Path, clock: FakeClock) -> None:
    async with DiskLogStore(tmp_path, clock=clock, segment_bytes=200) as store:
        for number in range(1, 60):
            await store.append(APP, REPLICA, numbered(number, number))
    packed = sorted((tmp_path / APP).glob("*.gz"))
    assert len(packed) > 2
    packed[1].write_bytes(packed[1].read_bytes()[:-12])
    async with DiskLogStore(tmp_path, clock=clock, segment_bytes=200) as store:
        texts = await stored(store)
    assert texts[0] == "1"
    assert texts[-1] == "59"


def disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


async def test_shrinking_forgets_the_oldest_lines_and_never_the_last_tenth(tmp_path: Path, clock: FakeClock) -> None:
    budget = 1_000_000
    async with DiskLogStore(tmp_path, clock=clock, budget_total_bytes=budget, segment_bytes=10_000) as store:
        noise = [line(os.urandom(400).hex(), at=number * OVERLAP_NS) for number in range(400)]
        for one in noise:
            clock.advance(1)
            await store.append(APP, REPLICA, [one])
        await asyncio.wrap_future(store._upkeep.submit(lambda: None))
        before = disk_bytes(tmp_path)
        assert await store.shrinkable(50_000) == 50_000
        freed = await store.shrink(50_000)
        assert before - disk_bytes(tmp_path) == freed >= 50_000
        kept = await stored(store)
        assert kept == [one.text for one in noise[-len(kept) :]]
        spare = await store.shrinkable(10 * budget)
        assert spare == before - freed - budget // 10
        await store.shrink(10 * budget)
        assert await store.shrinkable(10 * budget) == 0
        assert budget // 10 - 20_000 <= disk_bytes(tmp_path) <= budget // 10
