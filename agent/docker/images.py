"""The images that the engine holds: finding, pulling, keeping and letting go.

Only tags of our own are ever removed, and the one that a pull of ours has made.
"""

from __future__ import annotations

import asyncio
import posixpath
import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from agent.archives.caps import Caps
from agent.archives.incoming import HEAD_BYTES, in_pieces, raise_if_full, store
from agent.archives.members import kind_of, members
from agent.docker import labels
from agent.docker.engine import Engine, Faulted, Refused
from agent.docker.registries import auth_header
from agent.docker.saved import renamed
from agent.docker.stamps import unix_seconds
from agent.docker.transfers import BUSY_PAUSES, follow, is_busy, patient
from agent.errors import Unavailable, UserError
from agent.ports.images import ImageInfo
from agent.ports.registries import Login, registry_of
from agent.ports.world import Say
from proto.names import AppId, DeployId

MAX_LOAD_BYTES: Final = 10 << 30
"""Of one archive of an image, unless set otherwise."""
MAX_LOAD_FILES: Final = 20_000
"""An image has three files for each layer, and at most 127 layers."""
_BUSY: Final = "registry.busy"
_TAR: Final = {"Content-Type": "application/x-tar"}

_REFERENCE = re.compile(
    r"(?=.{1,400}\Z)"
    r"[a-zA-Z0-9]+(?:(?:[._-]|__|-+)[a-zA-Z0-9]+)*(?::[0-9]{1,5})?"
    r"(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
    r"(?P<tag>:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(?P<digest>@sha256:[0-9a-f]{64})?"
)
"""The grammar of distribution/reference, a little narrower. Nothing that matches can leave its place in a URL path."""


class _Health(msgspec.Struct, frozen=True, rename="pascal"):
    """A HEALTHCHECK. Durations are in nanoseconds; 0 is the engine's default."""

    test: list[str] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    retries: int = 0


class _Config(msgspec.Struct, frozen=True, rename="pascal"):
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    exposed_ports: dict[str, Any] | None = None
    env: list[str] | None = None
    labels: dict[str, str] | None = None
    healthcheck: _Health | None = None
    working_dir: str = ""


class _Image(msgspec.Struct, frozen=True, rename="pascal"):
    id: str
    repo_tags: list[str] | None = None
    repo_digests: list[str] | None = None
    size: int = 0
    created: str = ""
    config: _Config | None = None


class _Row(msgspec.Struct, frozen=True, rename="pascal"):
    id: str
    repo_tags: list[str] | None = None
    size: int = 0
    created: int = 0
    labels: dict[str, str] | None = None


class DockerImages:
    """Fulfils ``agent.ports.images.Images``."""

    def __init__(self, engine: Engine, *, spool: Path | None = None, max_load_bytes: int = MAX_LOAD_BYTES) -> None:
        """`spool`: where an archive lies meanwhile. `max_load_bytes`: of it, as it comes and as it unfolds."""
        self._spool = spool
        self._engine = engine
        self._load_caps = Caps(entries=MAX_LOAD_FILES, blob_bytes=max_load_bytes, total_bytes=max_load_bytes)
        self._prefix = f"pushboat-{engine.instance}"

    async def find(self, reference: str) -> ImageInfo | None:
        """See ``Images``. A reference that cannot name an image finds none."""
        if not _REFERENCE.fullmatch(reference):
            return None
        found = await self._engine.get(f"images/{reference}/json", into=_Image)
        return _info(found) if found else None

    async def pull(self, reference: str, say: Say, *, login: Login | None = None) -> ImageInfo:
        """See ``Images``."""
        parts = _REFERENCE.fullmatch(reference)
        if not parts:
            raise UserError(
                "image.bad-reference",
                f"{reference} is not the name of an image.",
                "Write it as registry.example.com/name:tag or name@sha256:…",
            )
        # Without a tag the engine would fetch every tag there is.
        whole = reference if parts["tag"] or parts["digest"] else f"{reference}:latest"
        for pause in BUSY_PAUSES:
            try:
                return await self._pull(reference, whole, say, login=login)
            except UserError as error:
                if error.code != _BUSY:
                    raise
            say(f"{registry_of(reference)} is too busy to give {reference} just now: asking again in {pause:g} s")
            await asyncio.sleep(pause)
        return await self._pull(reference, whole, say, login=login)

    async def _pull(self, reference: str, whole: str, say: Say, *, login: Login | None) -> ImageInfo:
        """Try once. `whole`: the reference with its tag or digest."""
        params = {"fromImage": whole}
        try:
            async with self._engine.stream(
                "POST", "images/create", params=params, headers=auth_header(login), answer_within=None
            ) as chunks:
                failed = partial(_not_found, reference)
                await follow(patient(chunks), failed=failed, say=say, what=f"Pulling {reference}")
        except Refused as refusal:
            raise _not_found(reference, refusal.message) from refusal
        except Faulted as fault:
            raise _not_found(reference, fault.detail) from fault
        found = await self.find(whole)
        if found is None:
            raise _not_found(reference, "the registry sent nothing")
        return found

    async def load(self, upload: AsyncIterator[bytes], *, name: str, tag: str) -> ImageInfo:
        """See ``Images``. The archive lies in a file without a name meanwhile, which goes with this process."""
        self._own(tag)
        try:
            with tempfile.TemporaryFile(dir=self._spool) as file:
                await store(file, upload, max_bytes=self._load_caps.total_bytes)
                kind = kind_of(file.read(HEAD_BYTES))
                file.seek(0)
                body = in_pieces(renamed(members(file, kind, caps=self._load_caps), name=name, tag=tag))
                async with (
                    aclosing(body),
                    self._engine.stream(
                        "POST", "images/load", params={"quiet": 1}, body=body, headers=_TAR, answer_within=None
                    ) as chunks,
                ):
                    await follow(chunks, failed=_not_loaded)
        except Refused as refusal:
            raise _not_loaded(refusal.message) from refusal
        except OSError as error:
            raise_if_full(error)
            raise
        found = await self.find(tag)
        if found is None:
            raise _not_loaded("nothing of that name came out of it")
        return found

    async def keep(self, image: str, *, tag: str, instead_of: str = "") -> None:
        """See ``Images``."""
        repository, name = self._own(tag)
        try:
            await self._engine.json("POST", f"images/{image}/tag", params={"repo": repository, "tag": name})
        except Refused as refusal:
            raise Unavailable("image.missing", f"The image {image[:19]} is not there any more.") from refusal
        await self.forget(instead_of)

    async def forget(self, reference: str) -> None:
        """See ``Images``."""
        if _REFERENCE.fullmatch(reference):
            await self._remove(reference)

    async def ours(self) -> Sequence[ImageInfo]:
        """See ``Images``. Entry point, command, ports and environment are not told by this list."""
        wanted = msgspec.json.encode({"reference": [f"{self._prefix}/*"]}).decode()
        rows = await self._engine.get("images/json", into=list[_Row], params={"filters": wanted})
        return [
            ImageInfo(
                id=row.id,
                size=row.size,
                labels=row.labels or {},
                tags=tuple(row.repo_tags or ()),
                created_at=float(row.created),
            )
            for row in rows or []
        ]

    async def nameless(self, app: AppId) -> Sequence[str]:
        """See ``Images``."""
        marks = [f"{labels.INSTANCE}={self._engine.instance}", f"{labels.APP_ID}={app}"]
        wanted = msgspec.json.encode({"label": marks, "dangling": ["true"]}).decode()
        rows = await self._engine.get("images/json", into=list[_Row], params={"filters": wanted})
        return [row.id for row in rows or []]

    async def drop(self, image: str) -> None:
        """See ``Images``."""
        await self._remove(image)

    def tag_for(self, app: AppId, deploy: DeployId) -> str:
        """See ``Images``."""
        return f"{self._prefix}/{app}:{deploy}"

    async def untag(self, tag: str) -> None:
        """See ``Images``. The last tag of an image that a container was made from stays; try again once it is gone."""
        self._own(tag)
        await self._remove(tag)

    async def _remove(self, reference: str) -> None:
        try:
            await self._engine.json("DELETE", f"images/{reference}")
        except Refused as refusal:
            if refusal.status not in (404, 409):
                raise Unavailable("docker.unavailable", f"Docker refused: {refusal.message}") from refusal

    def _own(self, tag: str) -> tuple[str, str]:
        repository, _, name = tag.rpartition(":")
        if not repository.startswith(f"{self._prefix}/") or not _REFERENCE.fullmatch(tag):
            raise ValueError(f"{tag!r} is not a tag of ours")
        return repository, name


def _info(image: _Image) -> ImageInfo:
    config = image.config or _Config()
    health = config.healthcheck or _Health()
    # ["NONE"] is how a Dockerfile switches its base image's check off.
    has_healthcheck = bool(health.test) and health.test != ["NONE"]
    return ImageInfo(
        id=image.id,
        entrypoint=tuple(config.entrypoint or ()),
        command=tuple(config.cmd or ()),
        ports=exposed_ports(config.exposed_ports or {}),
        env=dict(line.partition("=")[::2] for line in config.env or ()),
        has_healthcheck=has_healthcheck,
        health_seconds=health_seconds(health) if has_healthcheck else 0.0,
        size=image.size,
        labels=config.labels or {},
        tags=tuple(image.repo_tags or ()),
        # Older engines call what has no name "<none>@sha256:…".
        digests=tuple(name for name in image.repo_digests or () if not name.startswith("<none>")),
        created_at=unix_seconds(image.created),
        folder=posixpath.join("/", config.working_dir),
    )


def health_seconds(health: _Health) -> float:
    """Return how long the engine may ask until it gives an image up: every try but the last as late as can be.

    Defaults: 30 s between tries, 30 s for each, 3 of them (Dockerfile reference, HEALTHCHECK).
    """
    interval, timeout = health.interval / 1e9 or 30.0, health.timeout / 1e9 or 30.0
    return health.start_period / 1e9 + (health.retries or 3) * (interval + timeout)


def exposed_ports(exposed: dict[str, Any]) -> tuple[int, ...]:
    """Return the TCP ports of a set such as ``{"80/tcp": {}, "53/udp": {}, "90": {}}``, ascending."""
    ports = (key.partition("/") for key in exposed)
    return tuple(sorted(int(port) for port, _, kind in ports if port.isdecimal() and kind in ("", "tcp")))


def _not_found(reference: str, reason: str) -> UserError:
    server = registry_of(reference)
    if is_busy(reason):
        return UserError(
            _BUSY,
            f"The registry {server} gave no image {reference} just now: it is too busy, or out of order, or you have"
            f" used up what it allows ({reason.strip()[:300]}).",
            "That says nothing about the image. Try again later; many registries allow more to those who log in"
            f" (registry:login --global {server} <user> --password-stdin).",
        )
    return UserError(
        "image.not-found",
        f"The image {reference} could not be fetched: {reason.strip()}",
        "Check its name and tag, whether its registry can be reached from this machine, and whether it wants a login"
        f" (registry:login --global {server} <user> --password-stdin).",
    )


def _not_loaded(reason: str) -> UserError:
    return UserError(
        "image.bad-archive", f"Docker does not take this image: {reason.strip()[:300]}", "Make it with: docker save"
    )
