"""JSON with comments: ``// …``, ``/* … */`` and a comma after the last item, as people write in app.json.

All of it is overwritten with spaces, so that the line numbers of errors stay those of the file.
"""

from __future__ import annotations

import json
import re

from agent.errors import UserError

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

# Both also match when their end is missing: to look for that end again from each later character would take for ever.
_STRING = r'"(?:[^"\\\n]|\\.)*+"?'
_COMMENT = r"//[^\n]*|/\*.*?(?:\*/|\Z)"
_TOKEN = re.compile(rf"{_STRING}|{_COMMENT}", re.DOTALL)
_TRAILING_COMMA = re.compile(rf"{_STRING}|,(?=\s*[\]}}])", re.DOTALL)


def parse_commented(content: bytes, *, name: str) -> Json:
    """Return the value that the file `name` holds.

    Raises:
        UserError: ``manifest.invalid``, with the line's number.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _invalid(name, line=content[: error.start].count(b"\n") + 1, problem="is not UTF-8 text") from error
    plain = _TRAILING_COMMA.sub(_without_comma, _TOKEN.sub(_without_comment, text))
    try:
        value: Json = json.loads(plain, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise _invalid(name, line=error.lineno, problem=f"is not JSON: {_reason(error)}") from error
    except RecursionError as error:
        raise UserError("manifest.invalid", f"{name} is nested too deeply.") from error
    except ValueError as error:
        raise UserError("manifest.invalid", f"{name} is not valid: {error}.") from error
    return value


def _without_comment(match: re.Match[str]) -> str:
    token = match[0]
    return token if token.startswith('"') else re.sub(r"[^\n]", " ", token)


def _without_comma(match: re.Match[str]) -> str:
    return " " if match[0] == "," else match[0]


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:60]!r} stands twice in one object")
        found[key] = value
    return found


def _refuse_constant(constant: str) -> Json:
    raise ValueError(f"{constant} is not a JSON number")


def _reason(error: json.JSONDecodeError) -> str:
    return error.msg[:1].lower() + error.msg[1:]


def _invalid(name: str, *, line: int, problem: str) -> UserError:
    return UserError("manifest.invalid", f"Line {line} of {name} {problem}.", "Mend it, commit and push again.")
