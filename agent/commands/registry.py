"""Every command, by the names that users type. A wrong declaration stops the start."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from types import ModuleType

import msgspec

from agent.commands.arguments import Signature, quoted, signature_of
from agent.commands.command import Command
from agent.commands.requests import is_declared
from agent.errors import UserError


class Entry(msgspec.Struct, frozen=True):
    """A command and what it takes."""

    command: type[Command]
    signature: Signature

    @property
    def name(self) -> str:
        """What users type."""
        return self.command.name

    @property
    def paragraphs(self) -> list[str]:
        """The docstring, cleaned, by paragraphs; the first is the summary."""
        return inspect.cleandoc(self.command.__doc__ or "").split("\n\n")

    @property
    def summary(self) -> str:
        """The first line of the help."""
        return self.paragraphs[0].replace("\n", " ").rstrip(".")


class Registry:
    """Finds commands. Never changes once made."""

    def __init__(self, modules: Sequence[ModuleType]) -> None:
        self._entries: dict[str, Entry] = {}
        self._aliases: dict[str, str] = {}
        self._about: dict[str, str] = {}
        for module in modules:
            for command in commands_in(module):
                self._add(command)
                self._about.setdefault(noun_of(command.name), _about(module, command))
        for alias, name in self._aliases.items():
            if alias in self._entries:
                raise TypeError(f"{alias} is a command and an alias of {name}")

    def entries(self) -> list[Entry]:
        """Return every command that is not hidden, by name."""
        return sorted((entry for entry in self._entries.values() if not entry.command.is_hidden), key=_by_noun)

    def groups(self) -> dict[str, list[Entry]]:
        """Return the commands by noun: what stands before the colon."""
        found: dict[str, list[Entry]] = {}
        for entry in self.entries():
            found.setdefault(noun_of(entry.name), []).append(entry)
        return found

    def about(self, noun: str) -> str:
        """Return what a noun's commands are for: what its module says of itself."""
        return self._about.get(noun, "")

    def get(self, name: str) -> Entry | None:
        """Return the command of that name or alias, or `None`."""
        return self._entries.get(self._aliases.get(name, name))

    def find(self, name: str) -> Entry:
        """Return the command of that name or alias.

        Raises:
            UserError: ``command.unknown``, with what was perhaps meant.
        """
        entry = self.get(name)
        if entry is None:
            raise UserError("command.unknown", f"There is no command {quoted(name)}.", self._suggestion(name))
        return entry

    def _suggestion(self, name: str) -> str:
        visible = [entry.name for entry in self.entries()]
        close = difflib.get_close_matches(name[:80].lower(), [*visible, *self._aliases], n=3, cutoff=0.6)
        if not close:
            return "See what there is with: help"
        return "Did you mean: " + ", ".join(dict.fromkeys(self._aliases.get(match, match) for match in close))

    def _add(self, command: type[Command]) -> None:
        name = getattr(command, "name", "")
        if not is_declared(command):
            raise TypeError(f"{command.__name__} must say its name and its permission")
        if not command.__doc__ or command.__doc__.startswith(f"{command.__name__}("):
            raise TypeError(f"{command.__name__} has no docstring, which is its help")
        if name in self._entries:
            raise TypeError(f"{name} is defined twice")
        self._entries[name] = Entry(command, signature_of(command))
        self._aliases.update(dict.fromkeys(command.aliases, name))


def commands_in(module: ModuleType) -> list[type[Command]]:
    """Return the commands that a module defines, in their order."""
    return [
        thing
        for thing in vars(module).values()
        if isinstance(thing, type)
        and issubclass(thing, Command)
        and thing.__module__ == module.__name__
        and "name" in vars(thing)
    ]


def noun_of(name: str) -> str:
    """Return what a command is about: ``apps`` of ``apps:create``."""
    return name.partition(":")[0]


def _about(module: ModuleType, command: type[Command]) -> str:
    """Return what the command's noun is for: the command's own summary if it is the noun's only one.

    Else what the module says in ``ABOUT``, or of itself in its first sentence, after the names of its commands.
    """
    noun = noun_of(command.name)
    if command.name == noun:
        return inspect.cleandoc(command.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    about: Mapping[str, str] = getattr(module, "ABOUT", {})
    text = inspect.cleandoc(module.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    sentence = text.rpartition("``: ")[2] if text.startswith("``") else text
    return about.get(noun, sentence[:1].upper() + sentence[1:])


def _by_noun(entry: Entry) -> tuple[str, bool, str]:
    noun, colon, verb = entry.name.partition(":")
    return noun, bool(colon), verb
