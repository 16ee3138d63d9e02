"""What the client itself has to complain about, in the agent's own form."""

from __future__ import annotations


class Trouble(Exception):
    """Something that the person at the keyboard can mend."""

    def __init__(self, message: str, hint: str = "", *, status: int = 1) -> None:
        super().__init__(message)
        self.text = f" !     {message}\n" + (f"       {hint}\n" if hint else "")
        self.status = status
