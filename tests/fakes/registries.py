"""Registries that keep names in a dictionary, know some people, and can be out of reach."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

from agent.errors import Unavailable, UserError
from agent.ports.registries import Login, registry_of
from agent.ports.world import Say


class FakeRegistries:
    """Fulfils ``Registries``."""

    def __init__(self) -> None:
        self.known: set[tuple[str, str, str]] = set()
        """Server, user and password of everybody who is let in. A server without any lets everybody in."""
        self.pushed: dict[str, str] = {}
        """Images by their names in registries."""
        self.pushes = 0
        self.forgotten: list[str] = []
        self.digests: dict[str, str] = {}
        """What they say that names mean; what was pushed has one without it."""
        self.asked: list[str] = []
        """Whose digests were asked for."""
        self.is_refusing = False
        self.is_down = False
        """While true the engine does not answer."""
        self.gate = asyncio.Event()
        self.gate.set()

    async def check(self, login: Login) -> None:
        if self.is_down:
            raise Unavailable("docker.unavailable", "Docker does not answer.")
        if (login.server, login.user, login.password) not in self.known:
            raise UserError("registry.refused", f"The registry {login.server} does not let {login.user} in.", "Look.")

    async def digest(self, reference: str, *, login: Login | None) -> str:
        self.asked.append(reference)
        pushed = self.pushed.get(reference)
        found = self.digests.get(reference, f"sha256:{hashlib.sha256(pushed.encode()).hexdigest()}" if pushed else "")
        return found if self._lets_in(reference, login) and not self.is_down else ""

    async def push(self, image: str, references: Sequence[str], *, login: Login | None, say: Say) -> None:
        self.pushes += 1
        if self.is_down:
            raise Unavailable("docker.unavailable", "Docker does not answer.")
        await self.gate.wait()
        for reference in references:
            if self.is_refusing or not self._lets_in(reference, login):
                raise UserError(
                    "registry.push-failed", f"The image could not be pushed as {reference}: denied", "Look."
                )
            self.pushed[reference] = image

    def _lets_in(self, reference: str, login: Login | None) -> bool:
        private = {known for known in self.known if known[0] == registry_of(reference)}
        return not private or (login is not None and (login.server, login.user, login.password) in private)

    async def forget(self, references: Sequence[str]) -> None:
        self.forgotten += references
