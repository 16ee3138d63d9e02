"""Images from ``docker save`` archives: taken alone, under a name of ours, whatever else the archive says."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from agent.archives.caps import Caps
from agent.archives.members import members
from agent.docker import images as loading
from agent.docker.images import DockerImages
from agent.docker.saved import MAX_NAMING, full_name, renamed
from agent.errors import UserError
from proto.names import AppId, DeployId
from tests.support.docker import Corner, token
from tests.support.scripted_engine import always, http, scripted

TAG = "pushboat-i1/a1:d1"


def tar(files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return made.getvalue()


def manifest(*entries: tuple[str, list[str] | None]) -> bytes:
    return json.dumps(
        [{"Config": f"{config}.json", "RepoTags": tags, "Layers": [f"{config}/layer.tar"]} for config, tags in entries]
    ).encode()


def index(*entries: tuple[str, str | None]) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "manifests": [
                {
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": f"sha256:{digest * 64}",
                    "size": 7,
                    "annotations": {"io.containerd.image.name": name} if name else {},
                }
                for digest, name in entries
            ],
        }
    ).encode()


def read(data: bytes) -> dict[str, bytes]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for info in archive:
            content = archive.extractfile(info) if info.isreg() else None
            found[info.name] = content.read() if content else f"-> {info.linkname}".encode()
    return found


def rename(data: bytes, name: str) -> dict[str, bytes]:
    return read(b"".join(renamed(members(io.BytesIO(data), "tar", caps=Caps()), name=name, tag=TAG)))


def test_only_the_names_change() -> None:
    layer = b"x" * 700_000
    files = {"a.json": b"{}", "a/layer.tar": layer, "b/layer.tar": b"", "repositories": b"{}"}
    data = tar(
        {**files, "manifest.json": manifest(("a", ["blog:1", "busybox:latest"]))}, {"c/layer.tar": "../a/layer.tar"}
    )
    found = rename(data, "blog:1")
    assert json.loads(found.pop("manifest.json")) == [
        {"Config": "a.json", "RepoTags": [TAG], "Layers": ["a/layer.tar"]}
    ]
    assert found == {"a.json": b"{}", "a/layer.tar": layer, "b/layer.tar": b"", "c/layer.tar": b"-> ../a/layer.tar"}


def test_of_several_images_only_the_one_asked_for_is_taken() -> None:
    data = tar({"manifest.json": manifest(("a", ["blog:1"]), ("b", ["blog:latest"]), ("c", None))})
    (entry,) = json.loads(rename(data, "blog")["manifest.json"])
    assert (entry["Config"], entry["RepoTags"]) == ("b.json", [TAG])


def test_an_oci_index_names_the_image_and_nothing_else() -> None:
    data = tar(
        {
            "index.json": index(("a", "docker.io/library/blog:1"), ("b", "docker.io/library/busybox:latest")),
            "manifest.json": manifest(("a", ["blog:1"]), ("b", ["busybox:latest"])),
        }
    )
    found = rename(data, "blog:1")
    (entry,) = json.loads(found["index.json"])["manifests"]
    assert entry["digest"] == f"sha256:{'a' * 64}"
    assert entry["annotations"] == {
        "io.containerd.image.name": f"docker.io/{TAG}",
        "org.opencontainers.image.ref.name": "d1",
    }
    assert "busybox" not in str(found)


def test_the_only_image_of_an_archive_may_have_no_name() -> None:
    (entry,) = json.loads(rename(tar({"manifest.json": manifest(("a", None))}), "blog")["manifest.json"])
    assert entry["RepoTags"] == [TAG]


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        (
            tar({"manifest.json": manifest(("a", ["blog:1"]), ("b", ["shop:2"]))}),
            "image.not-in-archive",
            "blog:1, shop:2",
        ),
        (tar({"manifest.json": b"[]"}), "image.not-in-archive", "without names"),
        (tar({"manifest.json": b"{nonsense"}), "image.bad-archive", "makes no sense"),
        (tar({"manifest.json": b'[{"Config": 1}]'}), "image.bad-archive", "makes no sense"),
        (tar({"index.json": b"[]", "manifest.json": manifest(("a", ["x:1"]))}), "image.bad-archive", "makes no sense"),
        (tar({"manifest.json": b" " * (MAX_NAMING + 1)}), "image.bad-archive", "too large"),
        (tar({"Dockerfile": b"FROM scratch"}), "image.bad-archive", "no manifest.json"),
        (tar({"../x": b"1"}), "archive.unsafe", "leads out"),
        (tar({}, {"a/layer.tar": "/etc/shadow"}), "archive.unsafe", "leads out"),
    ],
)
def test_what_is_no_such_image_is_refused(data: bytes, code: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        rename(data, "x:9")
    assert refused.value.code == code
    assert said in f"{refused.value.message} {refused.value.hint}"


def test_a_file_that_names_images_may_have_4_mebibytes() -> None:
    names = manifest(("a", ["blog:1"])).ljust(MAX_NAMING)
    assert json.loads(rename(tar({"manifest.json": names}), "blog:1")["manifest.json"])[0]["RepoTags"] == [TAG]
    with pytest.raises(UserError, match=r"its manifest\.json is too large"):
        rename(tar({"manifest.json": names + b" "}), "blog:1")


async def test_an_image_may_have_as_many_bytes_and_files_as_the_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "MAX_LOAD_FILES", 20)  # 20,000 take seconds to read

    async def code_of(data: bytes, *, max_bytes: int = 20 << 20) -> str:
        images = DockerImages(engine, spool=tmp_path, max_load_bytes=max_bytes)
        with pytest.raises(UserError) as refused:
            await images.load(pieces(data), name="blog:1", tag=images.tag_for(AppId("a1"), DeployId("d1")))
        return refused.value.code

    named = {"manifest.json": manifest(("a", ["shop:1"]))}  # past the limits it is another image that is missed
    async with scripted(tmp_path, always(http(200, b'{"stream": "Loaded"}'))) as (engine, _):
        large = tar({"layer.tar": bytes(100_000), **named})
        assert await code_of(large, max_bytes=len(large)) == "image.not-in-archive"
        assert await code_of(large, max_bytes=len(large) - 1) == "archive.too-large"
        packed, inside = gzip.compress(large), 100_000 + len(named["manifest.json"])
        assert await code_of(packed, max_bytes=inside) == "image.not-in-archive"
        assert await code_of(packed, max_bytes=inside - 1) == "source.too-large"
        many = dict.fromkeys(map(str, range(loading.MAX_LOAD_FILES - 1)), b"")
        assert await code_of(gzip.compress(tar({**many, **named}), 1)) == "image.not-in-archive"
        assert await code_of(gzip.compress(tar({**many, "more": b"", **named}), 1)) == "source.too-large"


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("blog", "blog:latest"),
        ("docker.io/library/blog", "blog:latest"),
        ("docker.io/ada/blog:1", "ada/blog:1"),
        ("localhost:5000/blog", "localhost:5000/blog:latest"),
    ],
)
def test_a_name_is_one_however_it_is_written(name: str, full: str) -> None:
    assert full_name(name) == full


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


async def test_an_archive_that_is_refused_never_becomes_an_image(tmp_path: Path) -> None:
    data = tar({"manifest.json": manifest(("a", ["blog:1"]))})
    async with scripted(tmp_path, always(http(200, b'{"stream": "Loaded"}'))) as (engine, _):
        images = DockerImages(engine, spool=tmp_path, max_load_bytes=1 << 20)
        tag = images.tag_for(AppId("a1"), DeployId("d1"))
        with pytest.raises(UserError) as refused:
            await images.load(pieces(data), name="shop", tag=tag)
        assert refused.value.code == "image.not-in-archive"
        with pytest.raises(UserError) as refused:
            await images.load(pieces(bytes(2 << 20)), name="shop", tag=tag)
        assert refused.value.code == "archive.too-large"
        with pytest.raises(UserError) as refused:
            await images.load(pieces(gzip.compress(bytes(20 << 20))), name="shop", tag=tag)
        assert refused.value.code == "image.bad-archive"


async def saved(docker: Corner, *names: str) -> bytes:
    query = "&".join(f"names={name}" for name in names)
    async with docker.engine.stream("GET", f"images/get?{query}") as chunks:
        return b"".join([chunk async for chunk in chunks])


@pytest.fixture
def images(docker: Corner, tmp_path: Path) -> Iterator[DockerImages]:
    yield DockerImages(docker.engine, spool=tmp_path)


@pytest.mark.real
@pytest.mark.parametrize("is_packed", [False, True])
async def test_a_saved_image_comes_back_under_our_name_alone(
    docker: Corner, images: DockerImages, is_packed: bool
) -> None:
    app = AppId(token("a"))
    made = await docker.import_image("EXPOSE 8080", f"ENV UNIQUE={token()}")
    kept, moved = (images.tag_for(app, DeployId(token("d"))) for _ in range(2))
    await images.keep(made, tag=kept)
    data = await saved(docker, kept)
    # The name in the archive means something else by now: that must stay so.
    await images.keep(docker.image, tag=kept)
    loaded = await images.load(pieces(gzip.compress(data) if is_packed else data), name=kept, tag=moved)
    assert loaded.id == made and loaded.ports == (8080,)
    held = await images.find(kept)
    assert held is not None and held.id == docker.image


@pytest.mark.real
async def test_an_archive_whose_layers_are_missing_is_told_as_docker_tells_it(
    docker: Corner, images: DockerImages
) -> None:
    tag = images.tag_for(AppId(token("a")), DeployId(token("d")))
    with pytest.raises(UserError) as refused:
        await images.load(pieces(tar({"manifest.json": manifest(("a", ["blog:1"]))})), name="blog:1", tag=tag)
    assert refused.value.code == "image.bad-archive" and "Docker does not take" in refused.value.message
    assert await images.find(tag) is None
