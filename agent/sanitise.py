"""The one function between text that apps wrote and a person's terminal.

App output, build output, commit subjects and error messages are hostile: a line may move the cursor, set the
window's title, make the terminal type into the shell behind it, or reorder what is read. Colours are the only
thing worth keeping. `str.isprintable` is the test (a few hundred MB/s, and nearly every line passes it); the
regular expression runs only where the test found something.

What goes: C0 but newline and tab, DEL, C1, every ECMA-48 control sequence but SGR, every control string (OSC, DCS,
SOS, PM, APC) that is terminated, the introducer alone of one that is not (what follows is then plain text), BiDi
embeddings, overrides and isolates ("Trojan Source", CVE-2021-42574), and lone surrogates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

MASK = "*******"
"""Shown in place of what is secret. Says nothing of its length."""

MIN_SECRET = 4
"""Characters of the shortest text that `without` takes for a secret."""

RESET = "\x1b[0m"
"""SGR 0. Added to text that leaves a colour on, so that it ends with the text."""

_CONCEAL = 8
"""SGR parameter: text that is there but cannot be seen."""

_COLOUR_ARGUMENTS = {38: {5: 1, 2: 3}, 48: {5: 1, 2: 3}, 58: {5: 1, 2: 3}}
"""Extended colours (ISO 8613-6): parameter -> kind -> how many arguments follow, which are no parameters themselves."""

# Each alternative starts with ESC or a C1 code and its repeated class excludes ESC, so matching is linear.
_HOSTILE = re.compile(
    r"""
      \x1b\[ (?P<sgr> [0-9;]{0,64} ) m                          # colours: kept, if they conceal nothing
    | (?: \x1b\[ | \x9b ) [\x30-\x3f]* [\x20-\x2f]* [\x40-\x7e] # any other control sequence
    | (?: \x1b[\]PX^_] | [\x90\x98\x9d-\x9f] )
      [^\x07\x1b\x9c]* (?: \x07 | \x1b\\ | \x9c )               # a terminated control string
    | \x1b [\x20-\x2f]+ [\x30-\x7e]                             # character sets and the like
    | \x1b [\x30-\x7e]                                          # two-byte escapes, string introducers
    | [\x00-\x08\x0b-\x1f\x7f-\x9f]                             # lone controls
    | [\u202a-\u202e\u2066-\u2069]                              # BiDi
    | (?P<surrogate> [\ud800-\udfff] )
    """,
    re.VERBOSE,
)


_UNESCAPED = re.compile(r"[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Return `text` safe to print: at most newlines, tabs and colours, which end with the text.

    Repeating is harmless.
    """
    if text.isprintable():
        return text
    cleaned = _HOSTILE.sub(_keep_colour, text)
    last = cleaned.rfind("\x1b")
    if last >= 0 and not cleaned.startswith(RESET, last):
        return cleaned + RESET
    return cleaned


def plain(text: str) -> str:
    """Return `text` as `clean` does, without colours: what a person reads, for searching and for files."""
    if text.isprintable():
        return text
    return _HOSTILE.sub(_keep_nothing, text)


def without(secrets: Collection[str]) -> Callable[[str], str]:
    """Return what puts `MASK` in place of each of `secrets` in a text. Each line of a longer one is a secret too."""
    parts = {line.strip() for secret in secrets for line in secret.splitlines()}
    # Very short ones would blot out words that say nothing of them.
    by_start: dict[str, list[str]] = {}
    for part in sorted((part for part in parts if len(part) >= MIN_SECRET), key=len, reverse=True):
        by_start.setdefault(part[:MIN_SECRET], []).append(part)
    return partial(_masked, by_start) if by_start else str


def in_json(text: str) -> str:
    """Return JSON as `text` says, with what could act on a terminal escaped (RFC 8259, 7) and nothing lost.

    JSON has such characters in strings only, and its encoders escape no more of them than C0.
    """
    if text.isprintable():
        return text
    return _UNESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def quoted(text: str) -> str:
    """Return what a user typed for use in a message: quoted, and cut if it is long.

    What stands after an ``=`` is left out: it may be the value of a secret (``config:set`` without the app, say), and
    messages land in the logs of whatever runs the command.
    """
    name, equals, value = text.partition("=")
    shown = f"{name}=…" if value else name + equals
    return repr(shown if len(shown) <= 80 else shown[:77] + "…")


def without_query(url: str) -> str:
    """Return a URL without its query and fragment: signed addresses have their secrets there."""
    return url.partition("#")[0].partition("?")[0]


def _keep_colour(match: re.Match[str]) -> str:
    parameters = match["sgr"]
    if parameters is None:
        return _keep_nothing(match)
    return "" if _conceals(parameters) else match[0]


def _keep_nothing(match: re.Match[str]) -> str:
    return "\ufffd" if match["surrogate"] else ""


def _conceals(parameters: str) -> bool:
    codes = [int(code or 0) for code in parameters.split(";")]
    index = 0
    while index < len(codes):
        code = codes[index]
        if code == _CONCEAL:
            return True
        kind = codes[index + 1] if index + 1 < len(codes) else 0
        arguments = _COLOUR_ARGUMENTS.get(code, {}).get(kind)
        index += 1 if arguments is None else 2 + arguments
    return False


def _masked(by_start: Mapping[str, Sequence[str]], text: str) -> str:
    """Return `text` with `MASK` for each secret, the longest where one is part of another.

    A key file is thousands of secrets, one a line. An expression of them all takes seconds to make and a tenth of one
    for each line; looking each place's first characters up takes microseconds.
    """
    kept: list[str] = []
    shown = place = 0
    while place <= len(text) - MIN_SECRET:
        for secret in by_start.get(text[place : place + MIN_SECRET], ()):
            if text.startswith(secret, place):
                kept += (text[shown:place], MASK)
                shown = place = place + len(secret)
                break
        else:
            place += 1
    return "".join((*kept, text[shown:])) if kept else text
