"""Writes docs/settings.md from agent/settings.py, so that the page cannot tell anything but the truth.

``python -m scripts.house.settings_page > docs/settings.md``. A test compares the two.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from scripts.house.boat import ROOT

SOURCE = ROOT / "agent" / "settings.py"
PAGE = ROOT / "docs" / "settings.md"

HEAD = """# Settings

*Made from `agent/settings.py` by `python -m scripts.house.settings_page`; change it there.*

The agent reads `/etc/pushboat/pushboat.toml` (or the file that `--config` or `PUSHBOAT_CONFIG` names), then the
environment, which wins: `PUSHBOAT_SSH_PORT=2200` is `port = 2200` in the table `[ssh]`; lists are separated by commas.
Every setting has a default, so the file may be empty or missing. A setting that is unknown or has a wrong value stops
the start with a message that names it; `pushboat-agent check` tells without starting. Changes count from the next
start: `systemctl restart pushboat`, which interrupts no app.
"""


@dataclass(frozen=True)
class Key:
    """One setting."""

    name: str
    kind: str
    default: str
    text: str
    """What it does."""
    reason: str
    """What is to be said for its default."""


def page() -> str:
    """Return the whole page."""
    tree = ast.parse(SOURCE.read_text())
    structs = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    parts = [HEAD]
    for table, kind in _tables(structs["Settings"]):
        summary = re.sub(r"^``\[\w+\]``: ", "", ast.get_docstring(structs[kind]) or "")
        parts.append(
            f"\n## [{table}]: {summary}\n\n| key | type | default | what it does | why so |\n|---|---|---|---|---|\n"
        )
        parts += [
            f"| `{key.name}` | {key.kind} | `{key.default}` | {key.text} | {key.reason} |\n"
            for key in _keys(structs[kind])
        ]
    return "".join(parts)


def _tables(settings: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Yield each table's name and the name of its Struct."""
    for node in settings.body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Name(id=kind)):
                yield name, kind


def _keys(struct: ast.ClassDef) -> Iterator[Key]:
    """Yield a Struct's fields; the text below each says what it is."""
    for node, below in zip(struct.body, [*struct.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            text, _, reason = _text(below).partition(" Why: ")
            yield Key(node.target.id, _kind(node.annotation), _default(node.value), text, reason)


def _text(node: ast.stmt | None) -> str:
    match node:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return " ".join(text.replace("``", "`").split())
        case _:
            return ""


def _kind(annotation: ast.expr) -> str:
    """Return the type in an operator's words."""
    source = ast.unparse(annotation)
    words = {"str": "text", "bool": "true or false", "Port": "port", "Count": "number ≥ 1", "Seconds": "seconds > 0"}
    words |= {"Interface": "interface or empty", "Percent": "1 to 100"}
    words["tuple[PortText, ...]"] = "list of ports, as texts"
    if source in words:
        return words[source]
    if source.startswith("tuple[str"):
        return "list of texts"
    if pattern := re.search(r"pattern='\^\(([a-z|]+)\)\$'", source):
        return " or ".join(f"`{word}`" for word in pattern[1].split("|"))
    return "number ≥ 0" if "ge=0" in source else source


def _default(value: ast.expr) -> str:
    """Return the default as TOML writes it, with sizes worked out."""
    plain = ast.literal_eval(value) if not isinstance(value, ast.BinOp) else _shifted(value)
    if isinstance(plain, bool):
        return str(plain).lower()
    if isinstance(plain, tuple):
        return "[" + ", ".join(f'"{item}"' for item in plain) + "]"
    if isinstance(plain, int):
        return f"{plain:_}" if plain >= 10_000 else str(plain)
    return f'"{plain}"' if isinstance(plain, str) else str(plain)


def _shifted(value: ast.BinOp) -> int:
    """Return ``2 << 30`` as a number."""
    assert isinstance(value.op, ast.LShift)
    left, right = ast.literal_eval(value.left), ast.literal_eval(value.right)
    return int(left) << int(right)


if __name__ == "__main__":
    sys.stdout.write(page())
