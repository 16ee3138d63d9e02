"""Reading one object of a manifest in JSON, with errors that name the place in the file."""

from __future__ import annotations

from collections.abc import Sequence

from agent.errors import UserError
from agent.manifests.commented import Json

MAX_SECONDS = 3_600.0


class Reader:
    """Reads one JSON object, knows where it stands in the file, and names it in errors."""

    def __init__(self, value: Json, *, where: str, file: str) -> None:
        self.where = where
        self.file = file
        if not isinstance(value, dict):
            raise self.wrong("", "must be an object")
        self.values = value

    def wrong(self, key: str, problem: str) -> UserError:
        """Return the error that the value of `key`, or the object itself, is not as it should be."""
        place = ".".join(part for part in (self.where, key) if part)
        message = f"{place} in {self.file} {problem}." if place else f"{self.file} {problem}."
        return UserError("manifest.invalid", message, "Mend it, commit and push again.")

    def inner(self, key: str) -> Reader:
        """Return a reader of the object that is the value of `key`."""
        return Reader(self.values[key], where=".".join((*filter(None, (self.where,)), key)), file=self.file)

    def only(self, keys: Sequence[str]) -> None:
        """Refuse all keys but these."""
        for key in self.values:
            if key not in keys:
                raise self.wrong(plain(key), f"is not known; known are {', '.join(keys)}")

    def text(self, key: str, *, default: str) -> str:
        """Return a text."""
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, "must be a text")
        return value

    def flag(self, key: str) -> bool:
        """Return true or false; false where it is missing."""
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise self.wrong(key, "must be true or false")
        return value

    def whole(self, key: str, *, default: int, least: int, most: int) -> int:
        """Return a whole number within its range."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.wrong(key, f"must be a whole number from {least} to {most}")
        return value

    def seconds(self, key: str, *, default: float, least: float = 0.0) -> float:
        """Return a number of seconds within its range."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= MAX_SECONDS:
            raise self.wrong(key, f"must be a number of seconds from {least:g} to {MAX_SECONDS:g}")
        return float(value)


def plain(key: str) -> str:
    """Return a key of the file so that it can stand in a message."""
    return "".join(character if character.isprintable() else "?" for character in key[:60])
