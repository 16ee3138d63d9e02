"""How long a deploy waits for something that does not answer.

Counted by the clock that nobody sets: a machine whose time of day is put right must neither end a wait at once nor make
it last for hours. A restart of the agent begins to wait anew.
"""

from __future__ import annotations

from agent.ports.world import Clock
from proto.names import AppId, DeployId


class Patience:
    """What the newest deploy of each app waits for, of one kind."""

    def __init__(self, clock: Clock, *, seconds: float) -> None:
        """`seconds`: how long a deploy waits."""
        self._clock = clock
        self._seconds = seconds
        self._since: dict[AppId, tuple[DeployId, float]] = {}

    def begin(self, app: AppId, deploy: DeployId) -> bool:
        """Count from now on, unless that was begun. Tell whether it was not."""
        if self._since.get(app, ("",))[0] == deploy:
            return False
        self._since[app] = (deploy, self._clock.monotonic())
        return True

    def is_over(self, app: AppId, deploy: DeployId) -> bool:
        """Tell whether the deploy has waited for long enough. One that has not begun has not."""
        known, since = self._since.get(app, ("", 0.0))
        return known == deploy and self._clock.monotonic() - since > self._seconds

    def end(self, app: AppId) -> None:
        """Wait no more; the next wait is counted anew. Repeating is harmless."""
        self._since.pop(app, None)
