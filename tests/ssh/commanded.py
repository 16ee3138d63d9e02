"""Commands that tests give to the server of tests/ssh/conftest.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from agent.ports.session import Session
from tests.ssh.conftest import House

Body = Callable[[Session], Awaitable[int]]


def command(house: House, name: str) -> Callable[[Body], Body]:
    """Give the server a command."""

    def register(body: Body) -> Body:
        async def run(line: str, session: Session) -> int:
            return await body(session)

        house.dispatcher.commands[name] = run
        return body

    return register
