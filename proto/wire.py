"""What the client must know of the agent: exit statuses, the JSON shape of a failure, the protocol's version."""

from __future__ import annotations

from enum import IntEnum

import msgspec

PROTOCOL = 1
"""Raised when an older client could misread an answer."""


class Exit(IntEnum):
    """Exit statuses of commands. ``run`` and ``enter`` pass on the status of what they ran."""

    OK = 0
    FAILED = 1
    """The command was understood and refused, or what was asked about is not there."""
    NO_SUCH_APP = 20
    """No app of that name. The number is the one that Dokku's users test for."""
    BUG = 70
    """Our mistake (``EX_SOFTWARE`` of sysexits.h). The message carries an id to find it in the agent's log."""
    UNAVAILABLE = 75
    """Docker or HAProxy did not answer; trying again later may help (``EX_TEMPFAIL``)."""
    MISCONFIGURED = 78
    """The agent cannot start with these settings or files (``EX_CONFIG``)."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a command failed, as ``--format json`` prints it, on one line of standard error."""

    code: str
    """Constant, dotted, for scripts: ``app.not-found``."""
    message: str
    hint: str = ""
    """What to do next."""


class FailureEnvelope(msgspec.Struct, frozen=True):
    """``{"error": {…}}``."""

    error: Failure
