"""The three kinds of expected trouble: the user can mend it, time will, nobody will. All else is a bug."""

from __future__ import annotations

from proto.wire import Exit


class UserError(Exception):
    """Something the person who asked can mend.

    ``code`` is constant and dotted, for scripts (``app.not-found``); ``message`` says what is wrong about which
    thing; ``hint`` says what to do next. Neither holds secrets or class names.
    """

    def __init__(self, code: str, message: str, hint: str = "", *, status: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.status = status


class Unavailable(UserError):
    """Docker, HAProxy or the disk does not answer as it should; trying again later may help."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(code, message, hint, status=Exit.UNAVAILABLE)


class Misconfigured(UserError):
    """The agent cannot start with these settings or files."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(code, message, hint, status=Exit.MISCONFIGURED)


class Retry(Exception):
    """Raised by a handler: not yet; call me again for the same event after ``after`` seconds."""

    def __init__(self, reason: str, *, after: float) -> None:
        super().__init__(reason)
        self.after = after


class GiveUp(Exception):
    """Raised by a handler: no repetition will help. The delivery is buried and ``HandlerGaveUp`` is emitted."""


class Stopped(Exception):
    """Raised out of long work whose stop signal was set. The bus counts the delivery as done."""
