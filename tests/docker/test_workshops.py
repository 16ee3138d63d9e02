"""One file out of the archive that the engine gives of it, and what builds keep."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import pytest

from agent.docker import labels
from agent.docker.build_spec import kept_marks, volume_name
from agent.docker.images import DockerImages
from agent.docker.workshops import DockerWorkshops, only_file
from agent.errors import Unavailable, UserError
from agent.ports.images import MAX_FILE_BYTES
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
async def test_files_are_read_out_of_an_image_of_which_nothing_runs_and_nothing_is_left() -> None:
    with tarfile.open(fileobj=(layer := io.BytesIO()), mode="w") as tar:
        for name, content in (
            ("Procfile", b"web: ./x"),
            ("large", bytes(MAX_FILE_BYTES)),
            ("larger", bytes(1_000_001)),
        ):
            member = tarfile.TarInfo(f"app/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("app/link")
        link.type, link.linkname = tarfile.SYMTYPE, "Procfile"
        tar.addfile(link)
    async with corner() as c:
        changes = urlencode([("fromSrc", "-"), ("changes", "WORKDIR /app"), ("changes", "VOLUME /app")])
        repository = f"&repo=pushboat-{c.engine.instance}/look"
        async with c.engine.stream("POST", f"images/create?{changes}{repository}", body=layer.getvalue()) as chunks:
            answer = b"".join([chunk async for chunk in chunks])
        image = str(json.loads(answer.strip().rpartition(b"\n")[2])["status"])
        found = await DockerImages(c.engine).find(image)
        assert found is not None and found.folder == "/app"
        workshops = DockerWorkshops(c.engine, bridges=c.bridges)
        names = ["/app/Procfile", "/app/link", "/app", "/app/app.json", "/app/large", "/etc/../app/Procfile"]
        read = await workshops.read(image, names, app=c.app, app_name="blog")
        assert read == {"/app/Procfile": b"web: ./x", "/app/large": bytes(1_000_000), names[-1]: b"web: ./x"}
        with pytest.raises(UserError, match="larger in the image has 1,000,001 bytes") as refused:
            await workshops.read(image, ["/app/larger"], app=c.app, app_name="blog")
        assert refused.value.code == "source.file-too-large"
        with pytest.raises(Unavailable):
            await workshops.read(f"sha256:{'0' * 64}", names, app=c.app, app_name="blog")
        assert await c.containers.find({}) == []
        dangling = await c.engine.json("GET", "volumes", params={"filters": json.dumps({"dangling": ["true"]})})
        marks = [volume for volume in dangling["Volumes"] or [] if c.app in str(volume)]
        assert marks == []


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
