"""One file out of the archive that the engine gives of it, and what builds keep."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator

import pytest

from agent.docker import labels
from agent.docker.build_spec import kept_marks, volume_name
from agent.docker.workshops import DockerWorkshops, only_file
from agent.errors import Unavailable
from proto.names import AppId
from tests.support.docker import corner


def archive(name: str, content: bytes, *, format: int = tarfile.PAX_FORMAT, **pax: str) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=format) as tar:
        member = tarfile.TarInfo(name)
        member.size, member.pax_headers = len(content), pax
        tar.addfile(member, io.BytesIO(content))
    return output.getvalue()


async def in_pieces(data: bytes, *, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [1, 511, 512, 4096, 1 << 20])
@pytest.mark.parametrize("content", [b"", b"x", b"y" * 512, b"z" * 1500])
@pytest.mark.parametrize("pax", [{}, {"SCHILY.xattr.user.a": "b" * 600}])
async def test_a_file_comes_whole_however_it_is_cut(size: int, content: bytes, pax: dict[str, str]) -> None:
    told, pieces = await only_file(in_pieces(archive("index.json", content, **pax), size=size), path="x")
    assert (told, b"".join([piece async for piece in pieces])) == (len(content), content)


async def test_a_long_name_stands_before_the_file() -> None:
    data = archive("n" * 300, b"x", format=tarfile.GNU_FORMAT)
    told, _ = await only_file(in_pieces(data, size=700), path="x")
    assert told == 1


async def test_a_folder_is_no_file() -> None:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        folder = tarfile.TarInfo("blobs")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    with pytest.raises(FileNotFoundError):
        await only_file(in_pieces(output.getvalue(), size=512), path="/blobs")


async def test_an_empty_archive_holds_no_file() -> None:
    with pytest.raises(FileNotFoundError):
        await only_file(in_pieces(bytes(1024), size=512), path="/x")


@pytest.mark.parametrize("data", [b"", b"x" * 512])
async def test_what_is_no_archive_is_the_engines_fault(data: bytes) -> None:
    with pytest.raises(Unavailable):
        await only_file(in_pieces(data, size=100), path="x")


async def test_a_file_that_breaks_off_is_the_engines_fault() -> None:
    _, pieces = await only_file(in_pieces(archive("a", b"x" * 2000)[:1000], size=100), path="x")
    with pytest.raises(Unavailable):
        async for _ in pieces:
            pass


@pytest.mark.real
async def test_what_is_kept_for_an_app_that_is_gone_is_removed_and_what_is_no_builds_is_not() -> None:
    async with corner() as c:
        instance, gone, other = c.engine.instance, AppId("agone"), AppId("aother")
        marks = {
            volume_name(instance, gone, "cache"): kept_marks(instance, gone),
            volume_name(instance, other, "cache"): kept_marks(instance, other),
            f"pushboat-{instance}-agone-data": {labels.INSTANCE: instance, labels.APP_ID: gone},
        }
        workshops = DockerWorkshops(c.engine, bridges=c.bridges)
        for name, wanted in marks.items():
            await c.engine.json("POST", "volumes/create", data={"Name": name, "Labels": wanted})
        try:
            await workshops.tidy({other})
            assert await workshops.kept(gone) == {} and list(await workshops.kept(other)) == ["cache"]
            assert await workshops.remove(other) == 1
            assert await workshops.remove(other) == 0
            left = await c.engine.json("GET", "volumes", params={"filters": labels.filters({labels.APP_ID: gone})})
            assert [volume["Name"] for volume in left["Volumes"]] == [f"pushboat-{instance}-agone-data"]
        finally:
            for name in marks:
                await workshops.discard(name)
