"""Registries through the engine: whether a login is good, and pushing.

The password travels in a header (``X-Registry-Auth``) or a body over the engine's socket: in no argument list, and in
no answer.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import msgspec
import structlog

from agent.docker.engine import Engine, Faulted, Refused
from agent.docker.transfers import SILENCE_SECONDS, follow, patient
from agent.errors import Unavailable, UserError
from agent.ports.registries import DOCKER_HUB, Login
from agent.ports.world import Say

log = structlog.get_logger(__name__)

CHECK_SECONDS: Final = 60.0
"""For a registry to say whether it knows somebody. The engine itself tries for some time, and TLS before plain HTTP."""
DIGEST_SECONDS: Final = 20.0
"""For a registry to say what a name means. Somebody waits for it, and what they want goes on without."""
_HUB_ADDRESS: Final = "https://index.docker.io/v1/"
"""How engines know Docker Hub in logins."""


class _Descriptor(msgspec.Struct, frozen=True):
    digest: str = ""


class _Distribution(msgspec.Struct, frozen=True, rename="pascal"):
    descriptor: _Descriptor = _Descriptor()


class DockerRegistries:
    """Fulfils ``agent.ports.registries.Registries``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def check(self, login: Login) -> None:
        """See ``Registries``."""
        try:
            await self._engine.json("POST", "auth", data=_auth(login), timeout=CHECK_SECONDS)
        except Refused as refusal:
            raise _refused(login, refusal.message) from refusal
        except Faulted as fault:
            if "unauthorized" in fault.detail.lower() or "401" in fault.detail:
                raise _refused(login, fault.detail) from fault
            raise UserError(
                "registry.unreachable",
                f"The registry {login.server} does not answer as it should: {fault.detail.strip()[:300]}",
                "Look at its name, and whether it can be reached from this machine.",
            ) from fault

    async def digest(self, reference: str, *, login: Login | None) -> str:
        """See ``Registries``."""
        named = reference if ":" in reference.rpartition("/")[2] or "@" in reference else f"{reference}:latest"
        try:
            answer = await self._engine.json(
                "GET", f"distribution/{named}/json", headers=auth_header(login), timeout=DIGEST_SECONDS
            )
        except (Refused, Unavailable) as error:
            log.info("registry.not-told", reference=reference, reason=str(error)[:300])
            return ""
        return msgspec.convert(answer, _Distribution).descriptor.digest

    async def push(self, image: str, references: Sequence[str], *, login: Login | None, say: Say) -> None:
        """See ``Registries``."""
        for reference in references:
            try:
                await self._push(image, reference, login=login, say=say)
            finally:
                await self._untag(reference)

    async def forget(self, references: Sequence[str]) -> None:
        """See ``Registries``."""
        for reference in references:
            await self._untag(reference)

    async def _push(self, image: str, reference: str, *, login: Login | None, say: Say) -> None:
        repository, _, tag = reference.rpartition(":")
        try:
            await self._engine.json("POST", f"images/{image}/tag", params={"repo": repository, "tag": tag})
        except Refused as refusal:
            raise _not_pushed(reference, refusal.message) from refusal
        try:
            async with self._engine.stream(
                "POST",
                f"images/{repository}/push",
                params={"tag": tag},
                headers=auth_header(login) or _NOBODY,
                answer_within=SILENCE_SECONDS,
            ) as chunks:
                failed = partial(_not_pushed, reference)
                what = f"       Pushing {reference}"
                await follow(patient(chunks), failed=failed, say=say, what=what, moving="Pushing")
        except Refused as refusal:
            raise _not_pushed(reference, refusal.message) from refusal
        except Faulted as fault:
            raise _not_pushed(reference, fault.detail) from fault

    async def _untag(self, reference: str) -> None:
        """Take the name away that the push needed. With it the image would stay for ever."""
        try:
            await self._engine.json("DELETE", f"images/{reference}")
        except Refused as refusal:
            if refusal.status not in (404, 409):
                raise Unavailable("docker.unavailable", f"Docker refused: {refusal.message}") from refusal


def auth_header(login: Login | None) -> Mapping[str, str]:
    """Return the header by which the engine knows who to be to a registry; none for nobody."""
    if login is None:
        return {}
    encoded = base64.urlsafe_b64encode(msgspec.json.encode(_auth(login))).decode()
    return {"X-Registry-Auth": encoded}


_NOBODY: Final = {"X-Registry-Auth": base64.urlsafe_b64encode(b"{}").decode()}
"""A push without the header is refused by old engines."""


def _auth(login: Login) -> dict[str, str]:
    address = _HUB_ADDRESS if login.server == DOCKER_HUB else login.server
    return {"username": login.user, "password": login.password, "serveraddress": address}


def _refused(login: Login, reason: str) -> UserError:
    return UserError(
        "registry.refused",
        f"The registry {login.server} does not let {login.user} in: {reason.strip()[:300]}",
        "Look at the user's name and password. Many registries want a token in place of the password.",
    )


def _not_pushed(reference: str, reason: str) -> UserError:
    server = reference.partition("/")[0]
    return UserError(
        "registry.push-failed",
        f"The image could not be pushed as {reference}: {reason.strip()[:500]}",
        f"See whether its registry can be reached, and whom it lets in: registry:login --global {server} <user>",
    )
