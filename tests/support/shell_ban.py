"""Finds in a syntax tree what could run words that users wrote: shells, and text that becomes code.

Names are followed through imports, so ``from os import system as s`` is ``os.system``. Where a name cannot be followed
the road is closed instead: a watched module or a program starter may only be used by its own name, never be passed
on, so that there is nothing for an alias, ``getattr`` or ``partial`` to hide behind.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from typing import NamedTuple

SHELL = "a shell would read what users wrote"
CODE = "text must never become code"
HIDDEN = "what is called could not be told from the source any more"

BANNED = {
    **dict.fromkeys(("builtins.eval", "builtins.exec", "builtins.compile"), CODE),
    **dict.fromkeys(
        ("builtins.__import__", "builtins.__builtins__", "importlib.import_module", "importlib.reload", "sys.modules"),
        HIDDEN,
    ),
    **dict.fromkeys(("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"), SHELL),
    **dict.fromkeys(("asyncio.create_subprocess_shell", "asyncio.subprocess.create_subprocess_shell"), SHELL),
    "shutil.unpack_archive": "archives are never unpacked here",
}
BANNED_FAMILIES = re.compile(r"os\.(exec|spawn|posix_spawn)[a-z]*|os\.startfile")
"""Programs that are started, or become us, by the way of no function that the rest of this module watches."""

BANNED_METHODS = {
    "subprocess_shell": SHELL,
    "extractall": "archives are never unpacked here",
    "__dict__": HIDDEN,
    "__globals__": HIDDEN,
}
"""Attributes that nothing may use, whoever has them."""

BANNED_MODULES = {
    **dict.fromkeys(("pty", "commands", "popen2", "posix", "nt"), SHELL),
    **dict.fromkeys(("pickle", "marshal", "shelve", "dill", "code", "codeop", "runpy", "imp", "ctypes"), CODE),
}

WATCHED = {"os", "subprocess", "asyncio", "asyncio.subprocess", "builtins", "importlib", "sys"}
"""Modules that have something banned."""

BLOCKING_STARTERS = {f"subprocess.{name}" for name in ("run", "call", "check_call", "check_output", "Popen")}
STARTERS = BLOCKING_STARTERS | {"asyncio.create_subprocess_exec", "asyncio.subprocess.create_subprocess_exec"}
"""What starts a program from a vector of words."""

SHELLS = re.compile(r"(?:.*/)?(?:a|ba|da|fi|c|k|mk|tc|z)?sh(?:\.exe)?")


class Finding(NamedTuple):
    """Something that must not be there."""

    line: int
    what: str
    why: str


def findings(source: ast.Module | str) -> list[Finding]:
    """Return what is wrong in a module, in the order of its lines."""
    tree = ast.parse(source) if isinstance(source, str) else source
    return sorted(set(_Search(tree).run()))


def named_shells(tree: ast.AST) -> Iterator[ast.Constant]:
    """Yield every text that is the name or path of a shell and nothing else."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SHELLS.fullmatch(node.value):
            yield node


class _Search:
    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._names = dict(_imported(tree))
        self._owners = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        self._called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        self._type_names = {id(inner) for outer in _annotations(tree) for inner in ast.walk(outer)}

    def run(self) -> Iterator[Finding]:
        for node in ast.walk(self._tree):
            match node:
                case ast.Import() | ast.ImportFrom():
                    yield from self._import(node)
                case ast.Name() | ast.Attribute():
                    yield from self._reference(node)
                case ast.Call():
                    yield from self._call(node)

    def _import(self, node: ast.Import | ast.ImportFrom) -> Iterator[Finding]:
        if isinstance(node, ast.ImportFrom) and node.level:
            return
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        for module in modules:
            if why := BANNED_MODULES.get(module.partition(".")[0]):
                yield Finding(node.lineno, module, why)
        for alias in node.names if isinstance(node, ast.ImportFrom) else ():
            if alias.name == "*":
                yield Finding(node.lineno, f"from {node.module} import *", HIDDEN)
            elif why := _why(f"{node.module}.{alias.name}"):
                yield Finding(node.lineno, f"{node.module}.{alias.name}", why)

    def _reference(self, node: ast.Name | ast.Attribute) -> Iterator[Finding]:
        name = self._meaning(node)
        if isinstance(node, ast.Attribute) and (why := BANNED_METHODS.get(node.attr)):
            yield Finding(node.lineno, node.attr, why)
        elif why := _why(name):
            yield Finding(node.lineno, name, why)
        elif name in WATCHED and id(node) not in self._owners:
            yield Finding(node.lineno, f"{name} passed on", HIDDEN)
        elif name in STARTERS and id(node) not in self._called | self._owners | self._type_names:
            yield Finding(node.lineno, f"{name} passed on", HIDDEN)

    def _call(self, node: ast.Call) -> Iterator[Finding]:
        name = self._meaning(node.func)
        for keyword in node.keywords:
            if keyword.arg == "shell" and not _is_false(keyword.value):
                yield Finding(node.lineno, "shell=", SHELL)
            if keyword.arg is None and name in STARTERS:
                yield Finding(node.lineno, f"{name}(**…)", HIDDEN)
        if name in BLOCKING_STARTERS:
            # The ninth argument would be `shell`; one is all that is ever needed.
            if len(node.args) > 1 or any(isinstance(argument, ast.Starred) for argument in node.args):
                yield Finding(node.lineno, f"{name} with more than its vector", HIDDEN)
            elif any(_is_text(argument) for argument in node.args):
                yield Finding(node.lineno, f"{name} of a text", "programs are started from a vector of words")
        if name in STARTERS and any(True for _ in named_shells(node)):
            yield Finding(node.lineno, f"{name} of a shell", SHELL)

    def _meaning(self, node: ast.expr) -> str:
        """Return the full name of what a name or attribute stands for, or an empty string if that is not known."""
        match node:
            case ast.Name(id=name) if name in self._names:
                return self._names[name]
            case ast.Name(id=name) if hasattr(builtins, name) or name == "__builtins__":
                return f"builtins.{name}"
            case ast.Attribute(value=value, attr=attr):
                owner = self._meaning(value)
                return f"{owner}.{attr}" if owner else ""
        return ""


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield each name that an import binds anywhere in the module, with the full name of what it stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _annotations(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        for found in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(found, ast.expr):
                yield found


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def _is_text(node: ast.expr) -> bool:
    """Tell whether an expression is a text by its looks; a sum with a list in it, ``["git"] + words``, is none."""
    if isinstance(node, ast.BinOp):
        return not any(isinstance(inner, ast.List | ast.Tuple) for inner in ast.walk(node))
    return isinstance(node, ast.Constant | ast.JoinedStr)


def _why(name: str) -> str | None:
    return BANNED.get(name) or (SHELL if BANNED_FAMILIES.fullmatch(name) else None)
