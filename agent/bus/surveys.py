"""Runs one handler's survey: at the start, some seconds after each that ended, and whenever asked to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable

import structlog

from agent.bus.timers import Timer, Timers
from agent.errors import Unavailable
from proto.names import AppId

log = structlog.get_logger(__name__)

SURVEY_SECONDS = 30.0
"""Drift that no event told of is found within this time; a survey of 1,000 apps costs one list of containers."""


class Surveyor:
    """One survey and its time table. Never two of it at once."""

    def __init__(
        self,
        survey: Callable[[], Awaitable[Iterable[AppId]]],
        *,
        name: str,
        report: Callable[[Collection[AppId]], None],
        timers: Timers,
        pump: Callable[[], None],
        seconds: float,
    ) -> None:
        """`report` gets the apps that differ; `pump` makes the owner look whether this wants to run."""
        self._survey = survey
        self._name = name
        self._report = report
        self._timers = timers
        self._pump = pump
        self._seconds = seconds
        self._is_asked = True
        self._is_running = False
        self._timer: Timer | None = None

    @property
    def wants_to_run(self) -> bool:
        """Whether `run` should be called."""
        return self._is_asked and not self._is_running

    def ask(self) -> None:
        """Survey soon; again, if one is under way: it may have looked already."""
        self._is_asked = True

    def run(self) -> Coroutine[object, object, None]:
        """Begin the survey that was asked for. Its failure is logged; the next one tries again."""
        self._is_asked = False
        self._is_running = True
        return self._run()

    async def _run(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        try:
            apps = list(await self._survey())
        except Unavailable as error:
            log.warning("survey.unavailable", survey=self._name, code=error.code, reason=error.message)
        except Exception:
            log.exception("survey.failed", survey=self._name)
        else:
            self._report(apps)
        finally:
            self._is_running = False
            self._timer = self._timers.after(self._seconds, self._due)
            self._pump()

    def _due(self) -> None:
        self.ask()
        self._pump()
