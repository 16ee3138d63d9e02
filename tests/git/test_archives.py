"""Archives become commits, or are refused, whatever is in them. Real git."""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from agent.archives import members as reading
from agent.archives.caps import Caps
from agent.archives.members import MAX_LINK, Member, members
from agent.errors import UserError
from agent.git.environment import command
from agent.git.process import output
from agent.git.repos import GitRepos
from agent.ports.source import ArchiveCommit, ArchiveKind
from proto.names import AppId

pytestmark = pytest.mark.slow

APP = AppId("anarchivetest")
HOW = ArchiveCommit(branch="main", author="Ada", email="ada@example.com", message="An archive", at=1_700_000_000.0)
CAPS = Caps(entries=20, depth=5, path_bytes=60, blob_bytes=2_000, total_bytes=5_000)


@pytest.fixture
async def repos(tmp_path: Path) -> GitRepos:
    made = GitRepos(tmp_path / "repos", caps=CAPS, max_bytes=100_000)
    await made.create(APP)
    return made


async def take(repos: GitRepos, content: bytes, **how: object) -> str:
    return await repos.import_archive(APP, chunks(content), msgspec.structs.replace(HOW, **how))


async def chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 1_000):
        yield content[start : start + 1_000]


async def files(repos: GitRepos, commit: str) -> dict[str, tuple[int, bytes]]:
    tree = repos.tree(APP, commit)
    found = {}
    for entry in await tree.entries():
        content = await output(command(repos.path(APP), "cat-file", "blob", entry.blob), limit=10_000)
        found[entry.path] = (entry.mode, content)
    return found


def tar(*members: tuple[str | tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=format) as archive:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def special(name: str, type: bytes, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = type, target, mode
    return info


def zipped(*members: tuple[str, bytes, int], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as archive:
        for name, content, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr, info.create_system, info.compress_type = mode << 16, 3, compression
            archive.writestr(info, content)
    return made.getvalue()


PROGRAM = special("app/run", tarfile.REGTYPE, mode=0o755)
AS_TAR = tar((PROGRAM, b"#!/bin/sh\n"), ("app/web/index.html", b"hello"), (special("app/l", b"2", "web/x"), b""))
AS_ZIP = zipped(
    ("app/run", b"#!/bin/sh\n", stat.S_IFREG | 0o755),
    ("app/web/index.html", b"hello", 0),
    ("app/l", b"web/x", stat.S_IFLNK | 0o777),
)
UNFOLDED = {
    "run": (0o100755, b"#!/bin/sh\n"),
    "web/index.html": (0o100644, b"hello"),
    "l": (0o120000, b"web/x"),
}


@pytest.mark.parametrize("content", [AS_TAR, gzip.compress(AS_TAR), AS_ZIP], ids=["tar", "tar.gz", "zip"])
async def test_the_files_of_an_archive_become_a_commit_without_the_folder_that_holds_all(
    repos: GitRepos, content: bytes
) -> None:
    commit = await take(repos, content)
    assert await files(repos, commit) == UNFOLDED
    assert await repos.tip(APP, "main") == commit
    described = await repos.describe(APP, commit)
    assert described and (described.author, described.subject) == ("Ada <ada@example.com>", "An archive")


async def test_the_next_archive_replaces_all_files_and_keeps_the_history(repos: GitRepos) -> None:
    first = await take(repos, tar(("old", b"1"), ("same", b"2")))
    second = await take(repos, tar(("new", b"3"), ("same", b"2")))
    assert set(await files(repos, second)) == {"new", "same"}
    parents = await output(command(repos.path(APP), "rev-list", second), limit=1_000)
    assert parents.decode().split() == [second, first]


async def test_an_archive_of_the_same_files_changes_nothing(repos: GitRepos) -> None:
    first = await take(repos, AS_TAR)
    assert await take(repos, AS_ZIP, message="Again", at=1_800_000_000.0) == first
    assert await repos.tip(APP, "main") == first


async def test_several_folders_stay_as_they_are(repos: GitRepos) -> None:
    commit = await take(repos, tar(("./a/x", b"1"), ("./b/x", b"2")))
    assert set(await files(repos, commit)) == {"a/x", "b/x"}


async def test_a_git_folder_in_the_archive_is_left_out(repos: GitRepos) -> None:
    commit = await take(repos, tar((".git/config", b"[core]"), ("a/.GIT/hooks/x", b"1"), ("a/b", b"2"), ("c", b"3")))
    assert set(await files(repos, commit)) == {"a/b", "c"}


async def test_names_that_need_quoting_are_kept(repos: GitRepos) -> None:
    names = ['with "quotes"', "back\\slash", "bl ank", "ümlaut", "\udcff-no-utf8", "-dash"]
    commit = await take(repos, tar(*((name, b"1") for name in names)))
    assert set(await files(repos, commit)) == set(names)


async def test_a_hard_link_is_the_same_file(repos: GitRepos) -> None:
    commit = await take(repos, tar((PROGRAM, b"1"), (special("app/again", tarfile.LNKTYPE, "app/run"), b"")))
    assert await files(repos, commit) == {"run": (0o100755, b"1"), "again": (0o100755, b"1")}


async def test_of_two_members_of_one_name_the_later_counts(repos: GitRepos) -> None:
    commit = await take(repos, tar(("a", b"1"), ("b", b"2"), ("./a", b"3")))
    assert {name: content for name, (_, content) in (await files(repos, commit)).items()} == {"a": b"3", "b": b"2"}


async def test_sparse_and_empty_files_are_whole(repos: GitRepos) -> None:
    commit = await take(repos, tar(("empty", b""), ("full", b"x" * 1_999)))
    assert {name: len(content) for name, (_, content) in (await files(repos, commit)).items()} == {
        "empty": 0,
        "full": 1_999,
    }


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "a name with ..": (lambda: tar(("a/../../etc/passwd", b"1")), "archive.unsafe"),
    "an absolute name": (lambda: tar(("/etc/passwd", b"1")), "archive.unsafe"),
    "a zip's name with ..": (lambda: zipped(("../x", b"1", 0)), "archive.unsafe"),
    "a zip's absolute name": (lambda: zipped(("/x", b"1", 0)), "archive.unsafe"),
    "an absolute link": (lambda: tar((special("l", b"2", "/etc"), b""), ("x", b"1")), "archive.unsafe"),
    "a link that leads out": (lambda: tar((special("a/l", b"2", "../../x"), b""), ("x", b"1")), "archive.unsafe"),
    "a link that leads out by a detour": (
        lambda: tar(
            (special("l", b"2", "a/../../a"), b""),
        ),
        "archive.unsafe",
    ),
    "a link that leads out of the only folder": (lambda: tar((special("a/l", b"2", "../x"), b"")), "archive.unsafe"),
    "a zip's link that leads out": (lambda: zipped(("l", b"../x", stat.S_IFLNK | 0o777)), "archive.unsafe"),
    "a link to nothing": (lambda: zipped(("l", b"", stat.S_IFLNK | 0o777)), "archive.unsafe"),
    "a hard link to the host": (lambda: tar((special("h", b"1", "/etc/shadow"), b"")), "archive.unsafe"),
    "a hard link to nothing": (lambda: tar((special("h", b"1", "none"), b"")), "archive.unsafe"),
    "a device": (lambda: tar((special("d", tarfile.CHRTYPE), b"")), "archive.unsafe"),
    "a pipe": (lambda: tar((special("f", tarfile.FIFOTYPE), b"")), "archive.unsafe"),
    "a zip's device": (lambda: zipped(("d", b"", stat.S_IFBLK | 0o600)), "archive.unsafe"),
    "a new line in a name": (lambda: tar(("a\nb", b"1")), "archive.unsafe"),
    "a name that git's check refuses": (lambda: tar(("GIT~1/x", b"1"), ("y", b"1")), "archive.refused"),
    "too many files": (lambda: tar(*((str(n), b"") for n in range(21))), "source.too-large"),
    "too deep": (lambda: tar(("a/b/c/d/e/f/g", b"1"), ("x", b"1")), "source.too-large"),
    "too long a path": (lambda: tar(("p" * 61, b"1")), "source.too-large"),
    "too large a file": (lambda: tar(("a", b"x" * 2_001)), "source.too-large"),
    "too much in all": (lambda: tar(("a", b"x" * 2_000), ("b", b"x" * 2_000), ("c", b"x" * 1_001)), "source.too-large"),
    "a bomb of zeros in a zip": (lambda: zipped(("a", bytes(10_000_000), 0)), "source.too-large"),
    "a bomb of zeros in a tar.gz": (lambda: gzip.compress(tar(("a", bytes(10_000_000)))), "source.too-large"),
    "an end before the first file": (lambda: bytes(1_024) + tar(("a", b"1")), "archive.empty"),
    "a bomb of headers for one file": (lambda: gzip.compress(headers(500)), "source.too-large"),
    "a name of 9 MB": (lambda: gzip.compress(tar(("p" * 9_000_000, b""))), "source.too-large"),
    "a file that says it is huge": (lambda: huge_sparse(), "source.too-large"),
    "more than may be sent": (lambda: AS_TAR.ljust(100_001, b"\0"), "archive.too-large"),
    "nothing": (lambda: b"", "archive.empty"),
    "no files": (lambda: tar((special("d", tarfile.DIRTYPE), b"")), "archive.empty"),
    "an empty zip": (lambda: zipped(), "archive.empty"),
    "no archive": (lambda: b"\x00\x01 what is this?" * 100, "archive.broken"),
    "half a tar.gz": (lambda: gzip.compress(AS_TAR * 10)[:150], "archive.broken"),
    "half a tar": (lambda: tar(("a", b"x" * 1_500))[:1_200], "archive.broken"),
    "half a zip": (lambda: AS_ZIP[:-30], "archive.broken"),
    "a zip with a wrong sum": (lambda: broken_sum(), "archive.broken"),
    "an encrypted zip": (lambda: encrypted(), "archive.encrypted"),
    "a zip by bzip2": (
        lambda: zipped(("a", b"x" * 100, 0), compression=zipfile.ZIP_BZIP2),
        "archive.unknown-compression",
    ),
}


def huge_sparse() -> bytes:
    info = tarfile.TarInfo("a")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": "0,1",
        "GNU.sparse.size": "9" * 15,
    }
    return tar((info, b"x"))


def headers(count: int) -> bytes:
    """Return a tar whose first member has `count` extended headers before it."""
    info = tarfile.TarInfo("a")
    info.pax_headers = {"comment": "x" * 400}
    return info.tobuf(tarfile.PAX_FORMAT)[:-512] * count + tar(("a", b"1"))


def broken_sum() -> bytes:
    content = bytearray(zipped(("a", b"hello there", 0), compression=zipfile.ZIP_STORED))
    content[content.index(b"hello")] ^= 1
    return bytes(content)


def encrypted() -> bytes:
    content = bytearray(zipped(("a", b"hello", 0)))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        struct.pack_into("<H", content, content.index(mark) + offset, 1)
    return bytes(content)


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_wrong_is_refused_and_leaves_nothing(repos: GitRepos, what: str, tmp_path: Path) -> None:
    content, code = REFUSED[what]
    before = await take(repos, AS_TAR)
    with pytest.raises(UserError) as refused:
        await take(repos, content())
    assert refused.value.code == code
    assert refused.value.hint or code == "source.too-large"
    assert await repos.tip(APP, "main") == before
    assert [path.name for path in (tmp_path / "repos").iterdir()] == [APP]


FITS: dict[str, Callable[[], bytes]] = {
    "files": lambda: tar(*((str(n), b"") for n in range(20))),
    "depth": lambda: tar(("a/b/c/d/e/f", b"1"), ("x", b"1")),
    "a path": lambda: tar(("p" * 60, b"1")),
    "a file": lambda: tar(("a", b"x" * 2_000)),
    "all": lambda: tar(("a", b"x" * 2_000), ("b", b"x" * 2_000), ("c", b"x" * 1_000)),
    "as sent": lambda: AS_TAR.ljust(100_000, b"\0"),
}


@pytest.mark.parametrize("what", FITS)
async def test_what_is_as_large_as_the_limits_allow_is_taken(repos: GitRepos, what: str) -> None:
    assert await take(repos, FITS[what]())


def test_a_link_may_have_as_many_bytes_as_a_path_of_linux() -> None:
    def read(content: bytes, kind: ArchiveKind) -> list[Member | bytes]:
        return list(members(io.BytesIO(content), kind, caps=Caps(path_bytes=1 << 30)))

    for kind, packed in (
        ("tar", lambda size: tar((special("l", tarfile.SYMTYPE, "x" * size), b""))),
        ("zip", lambda size: zipped(("l", b"x" * size, stat.S_IFLNK | 0o777))),
    ):
        assert read(packed(MAX_LINK), kind)[1] == b"x" * MAX_LINK
        with pytest.raises(UserError, match="to nothing that can be named"):
            read(packed(MAX_LINK + 1), kind)


def test_what_a_library_holds_at_once_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_AT_ONCE", 102_400)  # a name of 8 MiB takes seconds to look at
    caps = Caps(path_bytes=1 << 30)
    # A long name has a record of its own: its length, the word path, and what ends it. The rest is blocks of 512 bytes.
    name = "p" * (102_400 - len("102400 path=\n"))
    (member,) = members(io.BytesIO(tar((name, b""))), "tar", caps=caps)
    assert isinstance(member, Member) and member.path == name
    with pytest.raises(UserError, match="one of its names is too large"):
        list(members(io.BytesIO(tar((f"{name}p", b""))), "tar", caps=caps))


async def test_an_archive_that_is_not_what_it_is_said_to_be_is_refused(repos: GitRepos) -> None:
    with pytest.raises(UserError) as refused:
        await take(repos, AS_ZIP, kind="tar")
    assert refused.value.code == "archive.wrong-type" and "zip" in refused.value.message
    assert await repos.tip(APP, "main") is None


async def test_an_archive_that_breaks_off_leaves_nothing(repos: GitRepos, tmp_path: Path) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield AS_TAR[:600]
        raise ConnectionError("the client left")

    with pytest.raises(ConnectionError):
        await repos.import_archive(APP, breaks(), HOW)
    assert await repos.tip(APP, "main") is None
    assert [path.name for path in (tmp_path / "repos").iterdir()] == [APP]


async def test_a_branch_that_somebody_else_moved_meanwhile_stays_theirs(repos: GitRepos) -> None:
    await take(repos, AS_TAR)
    theirs = ""

    async def slow() -> AsyncIterator[bytes]:
        nonlocal theirs
        theirs = await take(repos, tar(("theirs", b"1")))
        yield tar(("ours", b"1"))

    with pytest.raises(UserError) as refused:
        await repos.import_archive(APP, slow(), HOW)
    assert refused.value.code == "source.moved"
    assert await repos.tip(APP, "main") == theirs
