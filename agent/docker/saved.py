"""One image out of a ``docker save`` archive, under a name of ours and no other.

An archive carries names, and the engine would move every one of them, whosever they are, to what is in the archive. So
the files that name images (``manifest.json``, ``repositories``, and ``index.json`` of the OCI layout that engines from
25 on write beside it) are written anew on the way; all others pass as they are.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar

import msgspec

from agent.archives.caps import shown
from agent.archives.members import FILE, LINK, PROGRAM, Member
from agent.errors import UserError

MAX_NAMING: Final = 4 << 20
"""Bytes of a file that names images."""
_MANIFEST: Final = "manifest.json"
_INDEX: Final = "index.json"
_LEGACY: Final = "repositories"
_NAMING: Final = (_MANIFEST, _INDEX, _LEGACY)
_IMAGE_NAME: Final = "io.containerd.image.name"
_REF_NAME: Final = "org.opencontainers.image.ref.name"
_NAMED: Final = 5
"""How many images of the archive a message names."""


T = TypeVar("T")


class _Manifest(msgspec.Struct, frozen=True, rename="pascal"):
    config: str
    layers: list[str]
    repo_tags: list[str] | None = None


class _Index(msgspec.Struct, frozen=True, rename="camel"):
    schema_version: int
    manifests: list[dict[str, Any]]
    media_type: str = "application/vnd.oci.image.index.v1+json"


def renamed(members: Iterator[Member | bytes], *, name: str, tag: str) -> Iterator[bytes]:
    """Yield a tar of what `members` of a saved archive are, in which the image `name` is called `tag` and no other is.

    Raises:
        UserError: ``image.not-in-archive``, ``image.bad-archive``, and what `members` raises.
    """
    has_manifest = False
    for member, content in _with_content(members):
        if member.path in _NAMING:
            has_manifest |= member.path == _MANIFEST
            yield _anew(member.path, _whole(member, content), name=name, tag=tag)
        elif member.mode == LINK:
            yield _link(member.path, tarfile.SYMTYPE, b"".join(content).decode("utf-8", "surrogateescape"))
        elif member.same_as:
            yield _link(member.path, tarfile.LNKTYPE, member.same_as)
        else:
            yield _header(member)
            yield from content
            yield _padding(member.size)
    if not has_manifest:
        raise _bad(f"it has no {_MANIFEST}")
    yield bytes(2 * tarfile.BLOCKSIZE)


def full_name(name: str) -> str:
    """Return an image's name in the one way that all ways of writing it mean: ``blog`` is ``blog:latest``."""
    short = name.removeprefix("docker.io/").removeprefix("library/")
    return short if ":" in short.rpartition("/")[2] or "@" in short else f"{short}:latest"


def _with_content(items: Iterator[Member | bytes]) -> Iterator[tuple[Member, Iterator[bytes]]]:
    """Yield each member with its content, which has to be read before the next is asked for."""
    for item in items:
        assert isinstance(item, Member)  # its pieces were read by whoever got it
        yield item, _pieces(items, item.size)


def _pieces(items: Iterator[Member | bytes], size: int) -> Iterator[bytes]:
    while size > 0:
        piece = next(items)
        assert isinstance(piece, bytes)  # as many as the member says follow it
        size -= len(piece)
        yield piece


def _whole(member: Member, content: Iterator[bytes]) -> bytes:
    if member.size > MAX_NAMING:
        raise _bad(f"its {member.path} is too large")
    return b"".join(content)


def _anew(file: str, content: bytes, *, name: str, tag: str) -> bytes:
    if file == _LEGACY:
        return b""
    try:
        if file == _MANIFEST:
            manifests = msgspec.json.decode(content, type=list[_Manifest])
            chosen = _chosen(manifests, [entry.repo_tags or [] for entry in manifests], name=name)
            new = msgspec.json.encode([msgspec.structs.replace(chosen, repo_tags=[tag])])
        else:
            index = msgspec.json.decode(content, type=_Index)
            entry = _chosen(index.manifests, [_names(entry) for entry in index.manifests], name=name)
            annotations = {_IMAGE_NAME: f"docker.io/{tag}", _REF_NAME: tag.rpartition(":")[2]}
            new = msgspec.json.encode(msgspec.structs.replace(index, manifests=[{**entry, "annotations": annotations}]))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _bad(f"its {file} makes no sense") from error
    return _header(Member(file, FILE, len(new))) + new + _padding(len(new))


def _names(entry: dict[str, Any]) -> list[str]:
    annotations = entry.get("annotations") or {}
    name = annotations.get(_IMAGE_NAME) if isinstance(annotations, dict) else None
    return [name] if isinstance(name, str) else []


def _chosen(entries: Sequence[T], names: Sequence[Sequence[str]], *, name: str) -> T:
    """Return the entry called `name`, or the only one if it has no name at all."""
    wanted = full_name(name)
    for entry, its_names in zip(entries, names, strict=True):
        if wanted in map(full_name, its_names):
            return entry
    if len(entries) == 1 and not names[0]:
        return entries[0]
    held = sorted({full_name(each) for each_names in names for each in each_names})
    there = ", ".join(shown(each)[:100] for each in held[:_NAMED]) or "images without names"
    raise UserError("image.not-in-archive", f"The archive holds no image called {name}.", f"It holds: {there}")


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def _header(member: Member) -> bytes:
    info = tarfile.TarInfo(member.path)
    info.size, info.mode = member.size, 0o755 if member.mode == PROGRAM else 0o644
    return info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")


def _link(path: str, kind: bytes, target: str) -> bytes:
    info = tarfile.TarInfo(path)
    info.type, info.linkname, info.mode = kind, target, 0o777
    return info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")


def _bad(what: str) -> UserError:
    return UserError("image.bad-archive", f"This is no archive of an image: {what}.", "Make it with: docker save")
