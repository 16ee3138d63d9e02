"""What a command takes, said beside each field of its Struct and read from there by parser, help, docs and completion.

A field is ``name: Annotated[type, Argument(…)]``, or ``Flag`` or ``Option``. The type decides how a word is read
(`READERS`), a default makes the field optional, ``tuple[…, ...]`` takes all further words.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Annotated, Literal, NewType, Union, get_args, get_origin, get_type_hints

import msgspec

from agent.errors import UserError
from agent.sanitise import quoted as quoted
from proto.names import MAX_APP_NAME, AppName, ProcessType, app_name, process_type

GLOBAL = "--global"
"""In place of an app: the server itself."""

ALL = "--all"
"""In place of an app: every app."""


Version = NewType("Version", int)
"""The number of a release, from 1."""


class Argument(msgspec.Struct, frozen=True, kw_only=True):
    """A word by its position; the last may take all that is left."""

    help: str
    metavar: str = ""
    """Shown in usage; the field's name if empty."""
    is_app: bool = False
    """The app that the command is about: `--app` and the linked app of the client can stand for it."""
    is_new_app: bool = False
    """The name of an app that does not exist yet: `--app` and the linked app of the client can stand for it too."""
    instead: tuple[str, ...] = ()
    """`GLOBAL` or `ALL`, if that may stand in the app's place."""
    is_command: bool = False
    """All that is left, flags included, is a command for somebody else."""
    may_be_flag: bool = False
    """Whether that may begin with a dash."""


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """Something to say or to leave out."""

    names: tuple[str, ...]
    help: str


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """A named value."""

    names: tuple[str, ...]
    help: str
    metavar: str = "value"
    choices: tuple[str, ...] = ()


class InfoFlag(msgspec.Struct, frozen=True, kw_only=True):
    """Any one long flag, kept as it is: the row that a report is asked for."""

    help: str = "Print this row's value only."


Kind = Argument | Flag | Option | InfoFlag
Reader = Callable[[str], object]


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a command."""

    field: str
    kind: Kind
    read: Reader
    is_required: bool
    is_many: bool

    @property
    def metavar(self) -> str:
        """What stands for it in usage lines."""
        given = self.kind.metavar if isinstance(self.kind, Argument | Option) else ""
        return given or self.field.replace("_", "-")


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """All that a command takes."""

    arguments: tuple[Parameter, ...]
    options: dict[str, Parameter]
    """Flags and options by each of their names."""
    info: Parameter | None

    @property
    def app(self) -> Parameter | None:
        """The argument that names the app, which is always the first, or `None`."""
        first = self.arguments[0] if self.arguments else None
        return first if first and isinstance(first.kind, Argument) and first.kind.is_app else None

    @property
    def new_app(self) -> Parameter | None:
        """The argument that names an app to be made, which is always the first, or `None`."""
        first = self.arguments[0] if self.arguments else None
        return first if first and isinstance(first.kind, Argument) and first.kind.is_new_app else None

    @property
    def rest(self) -> Parameter | None:
        """The argument that takes all further words, which is always the last, or `None`."""
        last = self.arguments[-1] if self.arguments else None
        return last if last and last.is_many else None

    def named(self) -> Iterator[Parameter]:
        """Yield each flag and option once, in the order of the fields."""
        seen: set[str] = set()
        for parameter in self.options.values():
            if parameter.field not in seen:
                seen.add(parameter.field)
                yield parameter


def signature_of(command: type[msgspec.Struct]) -> Signature:
    """Return what `command` takes. A wrong declaration is a bug and raises TypeError at the start."""
    hints = get_type_hints(command, include_extras=True)
    arguments: list[Parameter] = []
    options: dict[str, Parameter] = {}
    info: Parameter | None = None
    for field in msgspec.structs.fields(command):
        parameter = _parameter(command, field, hints[field.name])
        match parameter.kind:
            case Argument():
                if arguments and arguments[-1].is_many:
                    raise TypeError(f"{command.__name__}.{field.name} comes after an argument that takes the rest")
                arguments.append(parameter)
            case Flag(names=names) | Option(names=names):
                options.update(dict.fromkeys(names, parameter))
            case InfoFlag():
                info = parameter
    if any(isinstance(argument.kind, Argument) and argument.kind.is_app for argument in arguments[1:]):
        raise TypeError(f"{command.__name__}: the app comes first")
    return Signature(arguments=tuple(arguments), options=options, info=info)


def _parameter(command: type[msgspec.Struct], field: msgspec.structs.FieldInfo, hint: object) -> Parameter:
    kinds = [extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Kind)]
    if get_origin(hint) is not Annotated or len(kinds) != 1:
        raise TypeError(f"{command.__name__}.{field.name} does not say what it is (Argument, Flag or Option)")
    bare = get_args(hint)[0]
    is_many = get_origin(bare) is tuple
    return Parameter(field=field.name, kind=kinds[0], read=_reader(bare), is_required=field.required, is_many=is_many)


def _reader(bare: object) -> Reader:
    if get_origin(bare) is tuple:
        bare = get_args(bare)[0]
    if get_origin(bare) in (Union, types.UnionType):
        (bare,) = (part for part in get_args(bare) if part is not type(None))
    if get_origin(bare) is Literal:
        return _choice(get_args(bare))
    return READERS[bare]


def _choice(values: tuple[str, ...]) -> Reader:
    def read(text: str) -> str:
        if text not in values:
            raise UserError("argument.choice", f"{quoted(text)} is not known here.", f"Known: {', '.join(values)}")
        return text

    return read


def read_app_name(text: str) -> AppName:
    """Return the name for a new app.

    Raises:
        UserError: ``app.invalid-name``.
    """
    try:
        return app_name(text)
    except ValueError as error:
        raise UserError(
            "app.invalid-name",
            f"{quoted(text)} cannot be the name of an app.",
            "Names have lower-case letters, digits, - and . between them, and begin and end with a letter or digit;"
            f" {MAX_APP_NAME} characters at most.",
        ) from error


def read_process_type(text: str) -> ProcessType:
    """Return a process type.

    Raises:
        UserError: ``process.invalid``.
    """
    try:
        return process_type(text)
    except ValueError as error:
        raise UserError(
            "process.invalid", f"{quoted(text)} is not a process type.", "They are names such as web or worker."
        ) from error


def read_number(text: str) -> int:
    """Return a whole number from 0 up.

    Raises:
        UserError: ``argument.number``.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise UserError("argument.number", f"{quoted(text)} is not a whole number.", "Write it in digits, as 100.")
    return int(text)


def read_version(text: str) -> Version:
    """Return a release's number, written ``v3`` or ``3``.

    Raises:
        UserError: ``release.invalid``.
    """
    digits = text.removeprefix("v")
    if not (digits.isascii() and digits.isdigit() and 0 < int(digits[:10]) and len(digits) <= 10):
        raise UserError("release.invalid", f"{quoted(text)} is not a release.", "Write it as: v3")
    return Version(int(digits))


READERS: dict[object, Reader] = {
    str: str,
    bool: bool,
    int: read_number,
    AppName: read_app_name,
    ProcessType: read_process_type,
    Version: read_version,
}
"""How a word becomes a value, by the field's type."""

App = Annotated[str, Argument(help="The app.", metavar="app", is_app=True)]
"""An app that exists."""

AppOrGlobal = Annotated[str, Argument(help="The app.", metavar="app", is_app=True, instead=(GLOBAL,))]
"""An app that exists, or the server."""

AppOrAll = Annotated[str, Argument(help="The app.", metavar="app", is_app=True, instead=(ALL,))]
"""An app that exists, or all of them."""
