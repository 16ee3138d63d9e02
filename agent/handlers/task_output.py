"""What a task prints, carried into its deploy's transcript while it runs.

The lines come from the log store, as the log streamer puts them there, so that a pusher sees what `logs` will say and
nothing is told that is not stored. How many were told is counted; after a restart of the agent the transcript itself
says how many that were.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from agent.ports.logs import LogLine, LogQuery, LogReader, Missed, Transcripts
from agent.state.tasks import Task

INDENT = "       "


class TaskOutput:
    """The output of one task."""

    def __init__(self, task: Task, *, logs: LogReader, transcripts: Transcripts) -> None:
        self._task = task
        self._logs = logs
        self._transcripts = transcripts
        self._query = LogQuery(last=None, process=task.process, number=1, release=task.release)
        self._told = 0

    @property
    def heading(self) -> str:
        """The line after which the task's own lines follow."""
        return f"-----> Running the {self._task.kind} task: {self._task.command}"

    def say(self, line: str) -> None:
        """Say something of our own."""
        self._transcripts.say(self._task.app, self._task.deploy, line)

    async def take_up(self) -> None:
        """Find out how many lines an agent before this one has told."""

        async def is_over() -> bool:
            return True

        lines = self._transcripts.follow(self._task.app, self._task.deploy, is_over=is_over)
        async with aclosing(lines):
            async for line in lines:
                is_heading = line.startswith(f"-----> Running the {self._task.kind} task: ")
                self._told = 0 if is_heading else self._told + line.startswith(INDENT)

    async def tell(self) -> None:
        """Tell what is stored and not told yet, and what comes, until cancelled."""
        index = 0
        async with aclosing(self._logs.follow(self._task.app, self._query)) as batches:
            async for batch in batches:
                if isinstance(batch, Missed):
                    self.say(f" !     {batch.count} lines are left out here; all of them: logs -p {self._task.kind}")
                    index += batch.count
                    self._told = max(self._told, index)
                else:
                    index = self._tell(batch, index=index)

    async def tell_rest(self) -> None:
        """Tell what is stored and not told yet."""
        index = 0
        async with aclosing(self._logs.read(self._task.app, self._query)) as pages:
            async for page in pages:
                index = self._tell(page, index=index)

    def _tell(self, lines: Sequence[LogLine], *, index: int) -> int:
        """Tell those of `lines` that were not told; the first of them is the task's `index`-th. Return the next index.

        Our own notes among them (that it has exited) are left out: how it ended is told from its row.
        """
        for line in lines:
            if line.stream == "agent":
                continue
            if index >= self._told:
                self.say(f"{INDENT}{line.text}")
                self._told = index + 1
            index += 1
        return index
