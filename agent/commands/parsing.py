"""Words become a command.

Flags and options may stand anywhere before ``--``, and before the command that ``run`` and ``enter`` pass on. The app
is the first word, or what ``--app`` says, or the app that the client's folder is linked to: the linked one is used if
the words make sense without naming one, and do not begin with its name.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import msgspec

from agent.commands.arguments import Argument, Flag, InfoFlag, Option, Parameter, Signature, quoted
from agent.commands.command import Command, Options
from agent.commands.registry import Entry, Registry
from agent.errors import UserError

HELP_FLAGS = ("--help", "-h")
COMMON_FLAGS = ("--quiet", "--force")
COMMON_OPTIONS = ("--app", "--format")
FORMATS = {"json": True, "stdout": False, "text": False}


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for."""

    entry: Entry
    command: Command
    options: Options
    app: str | None
    """The name of the app that the command is about, not looked up yet. `None`: about none, or about all."""


class HelpWanted(Exception):
    """Somebody wants to know, not to do. ``topic``: a command or a noun; empty for the overview."""

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.topic = topic


class Format(msgspec.Struct):
    """How to answer; known before the rest is, so that mistakes are answered in the same way."""

    as_json: bool = False


def parse(
    words: Sequence[str], *, registry: Registry, linked_app: str = "", format: Format | None = None
) -> Invocation:
    """Return what `words` ask for. `linked_app`: what the client's folder is linked to. `format` is filled in early.

    Raises:
        HelpWanted: they ask for help.
        UserError: ``command.*`` or ``argument.*``, with what would be right.
    """
    return _Parser(words, registry=registry, linked_app=linked_app, format=format or Format()).parse()


def usage(entry: Entry) -> str:
    """Return how the command is written: ``config:get <app> <key> [--quoted]``."""
    parts = [entry.name]
    if any(not isinstance(parameter.kind, Flag) or parameter.kind.names for parameter in entry.signature.named()):
        parts += [_option_usage(parameter) for parameter in entry.signature.named()]
    if entry.signature.info:
        parts.append("[--<row>]")
    parts += [_argument_usage(argument) for argument in entry.signature.arguments]
    return " ".join(parts)


def _option_usage(parameter: Parameter) -> str:
    kind = parameter.kind
    if isinstance(kind, Option):
        return f"[{kind.names[0]} <{parameter.metavar}>]{'…' if parameter.is_many else ''}"
    assert isinstance(kind, Flag)
    return f"[{kind.names[0]}]"


def _argument_usage(argument: Parameter) -> str:
    assert isinstance(argument.kind, Argument)
    text = "|".join([f"<{argument.metavar}>", *argument.kind.instead])
    if argument.is_many:
        text += "…"
    return text if argument.is_required else f"[{text}]"


class _Parser:
    def __init__(self, words: Sequence[str], *, registry: Registry, linked_app: str, format: Format) -> None:
        self._words = list(words)
        self._registry = registry
        self._linked_app = linked_app
        self._format = format
        self._common: dict[str, str | bool] = {}
        self._values: dict[str, object] = {}
        self._positionals: list[str] = []
        self._position = 0

    def parse(self) -> Invocation:
        name = self._read_name()
        entry = self._registry.find(name)
        self._read_words(entry)
        app = self._bind(entry)
        if "--app" in self._common and not (entry.signature.app or entry.signature.new_app):
            raise UserError("argument.no-app", f"{entry.name} is not about one app.", f"Usage: {usage(entry)}")
        return Invocation(
            entry=entry,
            command=entry.command(**self._values),
            options=Options(
                quiet="--quiet" in self._common, force="--force" in self._common, as_json=self._format.as_json
            ),
            app=app,
        )

    # The command's name.

    def _read_name(self) -> str:
        while self._position < len(self._words):
            word = self._words[self._position]
            self._position += 1
            if word in HELP_FLAGS:
                raise HelpWanted(next((rest for rest in self._words[self._position :] if rest[:1] != "-"), ""))
            if word in ("--version", "-v"):
                return "version"
            if word.startswith("-") and len(word) > 1:
                if not self._read_common(word):
                    raise _unknown_flag(word, "before the command", [*COMMON_FLAGS, *COMMON_OPTIONS])
                continue
            return self._resolve_help(word)
        raise HelpWanted("")

    def _resolve_help(self, name: str) -> str:
        topic, colon, verb = name.rpartition(":")
        if colon and verb == "help":
            raise HelpWanted(topic)
        if self._registry.get(name) is None and name in self._registry.groups():
            raise HelpWanted(name)
        return name

    # Flags, options and positional words.

    def _read_words(self, entry: Entry) -> None:
        while self._position < len(self._words):
            if self._command_begins(entry.signature):
                self._positionals += self._words[self._position :]
                return
            word = self._words[self._position]
            self._position += 1
            if word == "--":
                self._positionals += self._words[self._position :]
                return
            if word.startswith("-") and len(word) > 1:
                self._read_flag(word, entry)
            else:
                self._positionals.append(word)

    def _command_begins(self, signature: Signature) -> bool:
        """Tell whether the next word begins what `run` or `enter` pass on, which we do not look into."""
        rest = signature.rest
        if rest is None or not isinstance(rest.kind, Argument) or not rest.kind.is_command:
            return False
        if self._words[self._position].startswith("-") and not rest.kind.may_be_flag:
            return False
        before = len(signature.arguments) - 1
        if "--app" in self._common or self._linked_app:
            before -= 1
        return len(self._positionals) >= before

    def _read_flag(self, word: str, entry: Entry) -> None:
        signature = entry.signature
        if word in HELP_FLAGS and word not in signature.options:
            raise HelpWanted(entry.name)
        app = signature.app
        if app and isinstance(app.kind, Argument) and word in app.kind.instead:
            self._values[app.field] = word
            return
        name, equals, value = word.partition("=")
        parameter = signature.options.get(name)
        if parameter:
            self._read_own(parameter, name, value if equals else None, entry)
        elif self._read_common(word):
            return
        elif not word.startswith("--") and len(word) > 2 and word[:2] in signature.options:
            self._read_short(word, entry)
        elif signature.info and word.startswith("--"):
            self._read_info(signature.info, word)
        else:
            known = [*signature.options, *COMMON_FLAGS, *COMMON_OPTIONS]
            raise _unknown_flag(word, f"for {entry.name}", known, usage=usage(entry))

    def _read_own(self, parameter: Parameter, name: str, value: str | None, entry: Entry) -> None:
        if isinstance(parameter.kind, Flag):
            if value is not None:
                raise UserError("argument.flag-value", f"{name} takes no value.", f"Usage: {usage(entry)}")
            self._values[parameter.field] = True
            return
        text = self._next(name) if value is None else value
        if name == "--format":
            self._format.as_json = text == "json"
        read = parameter.read(text)
        if parameter.is_many:
            earlier = self._values.get(parameter.field, ())
            assert isinstance(earlier, tuple)
            self._values[parameter.field] = (*earlier, read)
        else:
            self._values[parameter.field] = read

    def _read_short(self, word: str, entry: Entry) -> None:
        """Read ``-n100`` or ``-tq``."""
        parameter = entry.signature.options[word[:2]]
        if isinstance(parameter.kind, Flag):
            self._read_own(parameter, word[:2], None, entry)
            self._read_flag(f"-{word[2:]}", entry)
        else:
            self._read_own(parameter, word[:2], word[2:], entry)

    def _read_info(self, parameter: Parameter, word: str) -> None:
        if parameter.field in self._values:
            raise UserError("argument.two-rows", "A report prints one row at a time.", "Ask for one, or leave all out.")
        self._values[parameter.field] = word

    def _read_common(self, word: str) -> bool:
        """Read what any command understands; return false if it is something else."""
        name, equals, value = word.partition("=")
        if name in COMMON_FLAGS and not equals:
            self._common[name] = True
            return True
        if name not in COMMON_OPTIONS:
            return False
        text = value if equals else self._next(name)
        if name == "--format":
            if text not in FORMATS:
                raise UserError("argument.format", f"There is no format {quoted(text)}.", "Formats: json, stdout")
            self._format.as_json = FORMATS[text]
        self._common[name] = text
        return True

    def _next(self, name: str) -> str:
        if self._position >= len(self._words):
            raise UserError("argument.missing", f"{name} needs a value after it.", f"Write it as: {name} <value>")
        self._position += 1
        return self._words[self._position - 1]

    # Positional words to fields.

    def _bind(self, entry: Entry) -> str | None:
        arguments = list(entry.signature.arguments)
        app = entry.signature.app
        name: str | None = None
        if app:
            if app.field in self._values:  # --global or --all stand in its place
                arguments = arguments[1:]
            elif outside := self._app_from_outside(arguments):
                name = self._values[app.field] = outside
                arguments = arguments[1:]
        elif (new := entry.signature.new_app) and (outside := self._app_from_outside(arguments)):
            self._values[new.field] = new.read(outside)
            arguments = arguments[1:]
        for argument in arguments:
            self._bind_one(argument, entry)
        if self._positionals:
            raise UserError(
                "argument.too-many",
                f"{quoted(self._positionals[0])} is too much for {entry.name}.",
                f"Usage: {usage(entry)}",
            )
        if app and name is None and app.field in self._values:
            given = self._values[app.field]
            assert isinstance(app.kind, Argument)
            name = None if given is None or given in app.kind.instead else str(given)
        return name

    def _bind_one(self, argument: Parameter, entry: Entry) -> None:
        if not self._positionals:
            if argument.is_required:
                raise UserError("argument.missing", f"{entry.name} needs {_named(argument)}.", f"Usage: {usage(entry)}")
            return
        if argument.is_many:
            self._values[argument.field] = tuple(argument.read(word) for word in self._positionals)
            self._positionals = []
        else:
            self._values[argument.field] = argument.read(self._positionals.pop(0))

    def _app_from_outside(self, arguments: Sequence[Parameter]) -> str | None:
        """Return the app that ``--app`` says, or the linked one if the other words make sense without one."""
        if "--app" in self._common:
            return str(self._common["--app"])
        others = arguments[1:]
        count = len(self._positionals)
        least = sum(argument.is_required for argument in others)
        if self._positionals[:1] == [self._linked_app] and count > least:
            return None  # It was named all the same.
        most = count if others and others[-1].is_many else len(others)
        return self._linked_app if self._linked_app and least <= count <= most else None


def _named(argument: Parameter) -> str:
    assert isinstance(argument.kind, Argument)
    if argument.kind.is_app:
        return "an app"
    return f"at least one <{argument.metavar}>" if argument.is_many else f"<{argument.metavar}>"


def _unknown_flag(word: str, where: str, known: Sequence[str], *, usage: str = "") -> UserError:
    name = word.partition("=")[0]
    close = difflib.get_close_matches(name[:80], known, n=1, cutoff=0.6)
    hint = f"Did you mean {close[0]}? " if close else ""
    return UserError(
        "argument.unknown-flag",
        f"There is no flag {quoted(name)} {where}.",
        f"{hint}{f'Usage: {usage}' if usage else 'See: help'}",
    )


__all__ = ["Format", "HelpWanted", "InfoFlag", "Invocation", "parse", "usage"]
