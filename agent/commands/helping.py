"""Help, documentation and completion, derived from the commands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agent.commands.arguments import ALL, GLOBAL, Argument, Flag, Option, Parameter
from agent.commands.parsing import COMMON_FLAGS, COMMON_OPTIONS, usage
from agent.commands.registry import Entry, Registry

COMMON_HELP = (
    ("--app <app>", "The app, in place of the first argument."),
    ("--format json", "Answer for scripts: JSON on standard output, failures as one line of JSON on standard error."),
    ("--quiet", "Only what was asked for: no headings, no progress."),
    ("--force", "Do not ask whether you mean it."),
    ("--help", "Tell what the command does."),
)

_INSTEAD = {GLOBAL: "The server itself, in place of an app.", ALL: "Every app, in place of one."}

_INTRODUCTION = "git push an app here, and it is live. What else you can do:"
_FURTHER = (
    "<noun>:help tells more of a noun, <command> --help of a command, help --all lists every command.",
    "Names, arguments and exit statuses are those of Dokku where both have the command.",
)


class Guide:
    """Knows the commands, for those who ask about them: ``agent.commands.command.Guide``."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def help(self, topic: str, *, is_all: bool = False) -> list[str]:
        """Return the help on a command or a noun; on everything if `topic` is empty.

        Raises:
            UserError: ``command.unknown``.
        """
        if not topic:
            return overview(self._registry, is_all=is_all)
        if self._registry.get(topic) is None and topic in self._registry.groups():
            return of_noun(self._registry, topic)
        return of_command(self._registry.find(topic))

    def candidates(self, words: Sequence[str]) -> list[str]:
        """Return what the last of `words` may become: commands, or flags of the command that the first word is."""
        return candidates(self._registry, words)


def overview(registry: Registry, *, is_all: bool) -> list[str]:
    """Return the text of ``help``: one line for each noun, or for each command."""
    lines = ["Usage: <command> [<app>] [<arguments>…] [--app <app>] [--format json] [--quiet] [--force]", ""]
    lines += [_INTRODUCTION, ""]
    if is_all:
        lines += _columns([(usage(entry), entry.summary) for entry in registry.entries()], width=44)
    else:
        lines += _columns([(noun, registry.about(noun)) for noun in registry.groups()], width=14)
    return [*lines, "", *_FURTHER]


def of_noun(registry: Registry, noun: str) -> list[str]:
    """Return the text of ``<noun>:help``."""
    entries = registry.groups()[noun]
    verbs = any(":" in entry.name for entry in entries)
    lines = [f"Usage: {noun}[:<command>]" if verbs else f"Usage: {usage(entries[0])}", "", registry.about(noun), ""]
    return [*lines, *_columns([(usage(entry), entry.summary) for entry in entries], width=44)]


def of_command(entry: Entry) -> list[str]:
    """Return the text of ``<command> --help``."""
    lines = [f"Usage: {usage(entry)}", "", f"{entry.summary}.", ""]
    for paragraph in entry.paragraphs[1:]:
        lines += [*paragraph.split("\n"), ""]
    rows = [*_argument_rows(entry), *_option_rows(entry)]
    if rows:
        lines += [*_columns(rows, width=28), ""]
    if further := entry.command.further():
        lines += ["What can be set:", *_columns(further, width=28), ""]
    if entry.command.aliases:
        lines += [f"Also known as: {', '.join(entry.command.aliases)}", ""]
    if entry.command.examples:
        lines += ["For example:", *(f"    {example}" for example in entry.command.examples), ""]
    return lines[:-1]


def markdown(registry: Registry) -> str:
    """Return ``docs/commands.md``."""
    lines = [
        "# Commands",
        "",
        "Written by `python -m agent.commands.reference` from the commands' own descriptions; a test compares the two.",
        "",
        "Give them as `pushboat <command> …`, or with any OpenSSH client as `ssh -p 2222 <server> <command> …`."
        " In a folder whose git remote `pushboat` names an app, `pushboat` needs no app.",
        "",
        "With any command:",
        "",
        *(f"- `{name}`: {text}" for name, text in COMMON_HELP),
        "",
    ]
    for noun, entries in registry.groups().items():
        lines += [f"## {noun}", "", registry.about(noun), ""]
        for entry in entries:
            lines += _section(entry)
    return "\n".join(lines).rstrip() + "\n"


def candidates(registry: Registry, words: Sequence[str]) -> list[str]:
    """Return what the last of `words` may become: commands, or the flags of the command that the first word is."""
    *before, last = words or [""]
    if not before:
        return [entry.name for entry in registry.entries() if entry.name.startswith(last)]
    entry = registry.get(before[0])
    if entry is None or not last.startswith("-"):
        return []
    app = entry.signature.app
    instead = app.kind.instead if app and isinstance(app.kind, Argument) else ()
    known = [*entry.signature.options, *instead, *COMMON_FLAGS, *COMMON_OPTIONS, "--help"]
    return sorted(name for name in set(known) if name.startswith(last))


def _section(entry: Entry) -> Iterable[str]:
    yield from (f"### {entry.name}", "", f"    {usage(entry)}", "", f"{entry.summary}.", "")
    for paragraph in entry.paragraphs[1:]:
        yield from (paragraph, "")
    rows = [*_argument_rows(entry), *_option_rows(entry)]
    yield from (f"- `{name}`: {text}" for name, text in rows)
    yield from (f"- {name}: {text}" for name, text in entry.command.further())
    if rows:
        yield ""
    for example in entry.command.examples:
        yield f"    {example}"
    if entry.command.examples:
        yield ""


def _argument_rows(entry: Entry) -> Iterable[tuple[str, str]]:
    for argument in entry.signature.arguments:
        assert isinstance(argument.kind, Argument)
        yield f"<{argument.metavar}>{'…' if argument.is_many else ''}", argument.kind.help
        for word in argument.kind.instead:
            yield word, _INSTEAD[word]


def _option_rows(entry: Entry) -> Iterable[tuple[str, str]]:
    for parameter in entry.signature.named():
        yield _names(parameter), parameter.kind.help
    if entry.signature.info:
        yield "--<row>", entry.signature.info.kind.help


def _names(parameter: Parameter) -> str:
    kind = parameter.kind
    if isinstance(kind, Option):
        return f"{', '.join(kind.names)} <{parameter.metavar}>"
    assert isinstance(kind, Flag)
    return ", ".join(kind.names)


def _columns(rows: Sequence[tuple[str, str]], *, width: int) -> list[str]:
    """Return two columns; a left one that is too wide has the right one below it."""
    lines = []
    for left, right in rows:
        if len(left) > width:
            lines += [f"    {left}", f"    {' ' * width}  {right}".rstrip()]
        else:
            lines.append(f"    {left.ljust(width)}  {right}".rstrip())
    return lines
