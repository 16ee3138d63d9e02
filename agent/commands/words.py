"""A command line, split into words as a POSIX shell would, without a shell anywhere.

The rules are those of `shlex.split`: blanks separate, single quotes keep everything, double quotes keep everything
but ``\\"`` and ``\\\\``, a backslash elsewhere keeps the next character. Nothing is expanded. shlex itself reads one
character at a time; a line of 200 KB would hold up everybody for a tenth of a second.
"""

from __future__ import annotations

import re

from agent.errors import UserError

_PIECE = re.compile(
    r"""
      (?P<blank>  [ \t\r\n]+ )
    | (?P<plain>  [^ \t\r\n'"\\]+ )
    | ' (?P<single> [^']* ) '
    | " (?P<double> (?: [^"\\] | \\. )* ) "
    | \\ (?P<escaped> . )
    """,
    re.VERBOSE | re.DOTALL,
)

_IN_DOUBLE_QUOTES = re.compile(r'\\(["\\])')


def split(line: str) -> list[str]:
    """Return the words of `line`.

    Raises:
        UserError: ``command.open-quote``, a quote is never closed or the line ends with a backslash; ``command.nul``.
    """
    if "\0" in line:
        # No program can be given one (execve(2)), nor can a variable hold one, so no word of ours may.
        raise UserError(
            "command.nul", "The command has a NUL character in it.", "Leave it out; binary data goes to standard input."
        )
    words: list[str] = []
    word: list[str] = []
    in_word = False
    position = 0
    while position < len(line):
        piece = _PIECE.match(line, position)
        if piece is None:
            raise _unfinished(line[position])
        position = piece.end()
        if piece.lastgroup == "blank":
            if in_word:
                words.append("".join(word))
            word, in_word = [], False
            continue
        in_word = True
        text = piece[piece.lastgroup or 0]
        word.append(_IN_DOUBLE_QUOTES.sub(r"\1", text) if piece.lastgroup == "double" else text)
    if in_word:
        words.append("".join(word))
    return words


def _unfinished(character: str) -> UserError:
    if character == "\\":
        return UserError(
            "command.open-quote", "The command ends with a backslash.", "Write \\\\ for a backslash, or quote it."
        )
    return UserError(
        "command.open-quote", f"A quote ({character}) is not closed.", f"Close it, or write \\{character} for itself."
    )
