"""The rewriting of git's tar stream, with real git."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.builders.context import ContextPlan, TarRewriter, context
from agent.errors import UserError
from agent.git.tree import GitTree
from tests.support.git_client import EXECUTABLE, LINK, SUBMODULE, Client


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path / "client.git")


async def sent(client: Client, commit: str, plan: ContextPlan) -> tuple[list[tarfile.TarInfo], dict[str, bytes]]:
    pieces = [piece async for piece in context(GitTree(client.folder, commit=commit), plan)]
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces)), errors="surrogateescape") as archive:
        members = archive.getmembers()
        files = {each.name: archive.extractfile(each) for each in members if each.isreg()}
        return members, {name: file.read() for name, file in files.items() if file}


async def test_everything_is_sent_as_it_was_pushed(client: Client) -> None:
    long = "/".join(["folder-with-a-long-name"] * 12) + "/" + "f" * 150
    target = "../" * 60 + "t" * 100
    commit = client.commit(
        {"a": "1", "bin/run": (EXECUTABLE, b"#!x"), "link": (LINK, target.encode()), long: "deep", "size": "x" * 1025,
         "sub": (SUBMODULE, b"1" * 40), "empty": ""}
    )  # fmt: skip
    members, files = await sent(client, commit, ContextPlan())
    assert files == {"a": b"1", "bin/run": b"#!x", long: b"deep", "size": b"x" * 1025, "empty": b""}
    by_name = {each.name: each for each in members}
    assert by_name["bin/run"].mode & 0o777 == 0o755
    assert by_name["a"].mode & 0o777 == 0o644
    assert by_name["link"].linkname == target
    assert by_name["bin"].isdir()
    assert {(each.uid, each.gid, each.uname, each.mtime) for each in members} == {(0, 0, "root", 1714979289)}


async def test_hostile_names_come_through_as_names(client: Client) -> None:
    names = ["-rf", "a\nb", "größe", "lat\udce9n", "quote'\"", "$(id)", "x" * 200, "é" * 120]
    _, files = await sent(client, client.commit(dict.fromkeys(names, "x")), ContextPlan())
    assert sorted(files) == sorted(names)


async def test_the_build_folder_is_taken_off_the_names(client: Client) -> None:
    commit = client.commit({"app/Dockerfile": "F", "app/src/x": "1", "apple": "2", "other/y": "3"})
    members, files = await sent(client, commit, ContextPlan(folder="app"))
    assert files == {"Dockerfile": b"F", "src/x": b"1"}
    assert [each.name for each in members if each.isdir()] == ["src"]


async def test_ignored_files_are_left_out_and_folders_with_nothing_left(client: Client) -> None:
    commit = client.commit({"keep/a": "1", "keep/deep/b": "2", "gone/c": "3", "gone/deep/d": "4", "half/e": "5"})
    ignored = frozenset({"keep/a", "gone/c", "gone/deep/d"})
    members, files = await sent(client, commit, ContextPlan(ignored=ignored))
    assert set(files) == {"keep/deep/b", "half/e"}
    assert [each.name for each in members if each.isdir()] == ["half", "keep", "keep/deep"]


async def test_a_file_is_replaced_by_a_shorter_or_a_longer_one(client: Client) -> None:
    commit = client.commit({"Dockerfile": "x" * 1000, "after": "intact", "sub/Dockerfile": "other"})
    for content in (b"", b"short", b"y" * 5000):
        _, files = await sent(client, commit, ContextPlan(replaced={"Dockerfile": content}))
        assert files == {"Dockerfile": content, "after": b"intact", "sub/Dockerfile": b"other"}


async def test_more_bytes_than_the_cap_are_refused_while_streaming(client: Client) -> None:
    commit = client.commit({"a": "x" * 600, "b": "x" * 600})
    with pytest.raises(UserError, match="too large"):
        await sent(client, commit, ContextPlan(max_bytes=1000))


@pytest.mark.slow
async def test_a_large_context_passes_through_in_small_pieces(client: Client) -> None:
    commit = client.commit({"noise": os.urandom(20 << 20)})
    largest = total = 0
    async for piece in context(GitTree(client.folder, commit=commit), ContextPlan()):
        largest, total = max(largest, len(piece)), total + len(piece)
    assert total > 20 << 20
    assert largest < 2 << 20


def _archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


_names = st.text(alphabet="abä/-", min_size=1, max_size=130).filter(
    lambda name: all(part not in ("", ".", "..") for part in name.split("/"))
)


@given(st.dictionaries(_names, st.binary(max_size=1500), max_size=5), st.lists(st.integers(1, 2000), max_size=20))
def test_where_the_stream_is_cut_makes_no_difference(members: dict[str, bytes], sizes: list[int]) -> None:
    data = _archive(members)
    whole = TarRewriter(ContextPlan())
    expected = whole.feed(data) + whole.finish()
    cut, out, position = TarRewriter(ContextPlan()), b"", 0
    for size in sizes:
        out += cut.feed(data[position : position + size])
        position += size
    out += cut.feed(data[position:])
    assert out + cut.finish() == expected
    with tarfile.open(fileobj=io.BytesIO(expected)) as archive:
        assert {each.name for each in archive.getmembers()} == set(members)


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../b", "./a", "a//b"])
def test_names_that_lead_elsewhere_never_pass(name: str) -> None:
    rewriter = TarRewriter(ContextPlan())
    assert rewriter.feed(_archive({name: b"evil", "fine": b"ok"})).count(b"evil") == 0


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_kinds_that_git_never_makes_never_pass(kind: bytes) -> None:
    info = tarfile.TarInfo("device")
    info.type = kind
    rewriter = TarRewriter(ContextPlan())
    assert rewriter.feed(info.tobuf() + bytes(1024)) == b""


def test_a_stream_that_breaks_off_is_noticed() -> None:
    data = _archive({"a": b"x" * 2000})
    rewriter = TarRewriter(ContextPlan())
    rewriter.feed(data[:1000])
    with pytest.raises(ValueError, match="no end"):
        rewriter.finish()


async def test_files_can_be_put_into_a_folder_with_files_of_ours_beside_it(client: Client) -> None:
    long = "/".join(["folder-with-a-long-name"] * 8) + "/f"
    commit = client.commit(
        {"app/Dockerfile": "theirs", "app/bin/run": (EXECUTABLE, b"#!x"), "app/link": (LINK, b"bin/run"),
         f"app/{long}": "deep", "other": "3"}
    )  # fmt: skip
    plan = ContextPlan(folder="app", inner="source", added={"Dockerfile": b"ours"}, ignored=frozenset({long}))
    members, files = await sent(client, commit, plan)
    assert files == {"Dockerfile": b"ours", "source/Dockerfile": b"theirs", "source/bin/run": b"#!x"}
    by_name = {each.name: each for each in members}
    assert by_name["source/link"].linkname == "bin/run"
    assert by_name["source/bin/run"].mode & 0o777 == 0o755
    assert [each.name for each in members if each.isdir()] == ["source", "source/bin"]


async def test_the_folder_is_there_even_if_every_file_is_left_out(client: Client) -> None:
    members, files = await sent(
        client, client.commit({"a": "1"}), ContextPlan(inner="source", ignored=frozenset({"a"}))
    )
    assert files == {} and [each.name for each in members] == ["source"]
