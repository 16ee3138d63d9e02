"""Finds in a syntax tree what could run words that users wrote: shells, and text that becomes code.

Names are followed through imports, so ``from os import system as s`` is ``os.system``. Where a name cannot be followed
the road is closed instead: a module or a program starter may only be used by its own name, never be passed on nor be
reached through another module that has it, so that there is nothing for an alias, ``getattr`` or ``partial`` to hide
behind. `doors` finds what would make git or ssh, which we start, give a text to a shell.
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
    **dict.fromkeys(("types.FunctionType", "types.LambdaType", "types.CodeType", "typing.ForwardRef"), CODE),
    **dict.fromkeys(("string.Formatter", "operator.attrgetter", "operator.methodcaller"), HIDDEN),
    **dict.fromkeys(("builtins.__import__", "builtins.__builtins__", "builtins.globals", "builtins.locals"), HIDDEN),
    **dict.fromkeys(("importlib.import_module", "importlib.reload", "importlib.__import__", "sys.modules"), HIDDEN),
    **dict.fromkeys(("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"), SHELL),
    **dict.fromkeys(("asyncio.create_subprocess_shell", "asyncio.subprocess.create_subprocess_shell"), SHELL),
    "shutil.unpack_archive": "archives are never unpacked here",
}
BANNED_FAMILIES = re.compile(
    r"os\.(exec|spawn|posix_spawn|fork)[a-z]*|os\.startfile|importlib\.(util|machinery|abc)(\..*)?"
    r"|(asyncio|subprocess|sys|importlib)\._.*"
)
"""Programs that are started, or become us, by the way of no function that the rest of this module watches."""

BANNED_METHODS = {
    **dict.fromkeys(("subprocess_shell", "subprocess_exec", "fork_exec", "spawnv_passfds", "getstatusoutput"), SHELL),
    **dict.fromkeys(("f_globals", "f_builtins", "f_locals", "gi_frame", "cr_frame", "__getattribute__"), HIDDEN),
    **dict.fromkeys(("__subclasses__", "__builtins__", "__loader__", "__spec__", "__code__", "__closure__"), HIDDEN),
    **dict.fromkeys(("load_extension", "enable_load_extension"), CODE),
    "extractall": "archives are never unpacked here",
    "__dict__": HIDDEN,
    "__globals__": HIDDEN,
}
"""Attributes that nothing may use, whoever has them."""

BANNED_MODULES = {
    **dict.fromkeys(("pty", "commands", "popen2", "posix", "nt", "_posixsubprocess", "webbrowser", "mailcap"), SHELL),
    **dict.fromkeys(("pexpect", "plumbum", "sh", "invoke", "fabric", "distutils", "multiprocessing"), SHELL),
    **dict.fromkeys(("pickle", "marshal", "shelve", "dill", "code", "codeop", "runpy", "imp", "ctypes", "cffi"), CODE),
    **dict.fromkeys(("timeit", "profile", "cProfile", "pdb", "bdb", "doctest", "zipimport", "yaml", "jinja2"), CODE),
    **dict.fromkeys(("pkgutil", "pydoc"), HIDDEN),
}

MODULES = {"os", "subprocess", "sys", "builtins", "importlib", "posix", "posixsubprocess"}
"""Names that nothing but the module itself may have."""

WATCHED = {"os", "subprocess", "asyncio", "asyncio.subprocess", "builtins", "importlib", "sys"}
"""Modules that have something banned."""

BLOCKING_STARTERS = {f"subprocess.{name}" for name in ("run", "call", "check_call", "check_output", "Popen")}
STARTERS = BLOCKING_STARTERS | {"asyncio.create_subprocess_exec", "asyncio.subprocess.create_subprocess_exec"}
"""What starts a program from a vector of words."""

OWN = {"agent", "cli", "proto", "scripts", "bench", "tests"}
"""Packages whose modules may be passed on: they are looked through themselves."""

BANNED_KEYWORDS = {"executable": HIDDEN, "preexec_fn": CODE}
"""Of a starter."""
RUNNERS = re.compile(r"(?:.*/)?(?:busybox|env|xargs|perl|ruby|[gm]?awk|expect|script|watch|python[0-9.]*)")
"""Programs that run, or read as a program, what is in their arguments."""

SHELLS = re.compile(r"(?:.*/)?(?:a|ba|da|fi|c|k|mk|tc|z)?sh(?:\.exe)?")


DOORS = re.compile(
    r"GIT_(SSH|PROXY)_COMMAND|GIT_(\w*EDITOR|PAGER|EXTERNAL_DIFF)|core\.(sshcommand|pager|editor|gitproxy)|sequence\.editor"
    r"|(^|\s)alias\.|credential\.\S*helper|packobjectshook|textconv|filter\.\S*(clean|smudge|process)|merge\.\S*driver"
    r"|(?<!Permit)LocalCommand|KnownHostsCommand|ProxyCommand(?!\s+none)|RemoteCommand|Match\s+exec|\bext::",
    re.IGNORECASE,
)
"""By what git and ssh take a line for a shell (git(1), git-config(1), ssh_config(5))."""


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
    """Yield every text that is the name or path of a shell, with ``-c`` and more at most; texts that add up, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.BinOp) and (text := _folded(node)) is not None:
            program, _, rest = text.partition(" ")
            if SHELLS.fullmatch(program) and (not rest or re.match(r"\s*-\w*c\b", rest)):
                yield ast.copy_location(ast.Constant(text), node)


def doors(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield each text that would have git or ssh give a line to a shell, with its line; documentation is left out."""
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told
        if is_text and (found := DOORS.search(node.value)):  # type: ignore[attr-defined]
            yield node.lineno, found[0]  # type: ignore[attr-defined]


class _Search:
    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._names = dict(_imported(tree))
        self._modules = {name for name in _modules(tree) if name.partition(".")[0] not in OWN} | WATCHED
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
            elif alias.name.lstrip("_") in WATCHED | BANNED_MODULES.keys() and node.module != "importlib":
                yield Finding(node.lineno, f"{alias.name} from {node.module}", HIDDEN)
        for alias in node.names if isinstance(node, ast.Import) else ():
            if why := _why(alias.name):
                yield Finding(node.lineno, alias.name, why)

    def _reference(self, node: ast.Name | ast.Attribute) -> Iterator[Finding]:
        name = self._meaning(node)
        if isinstance(node, ast.Attribute) and (why := BANNED_METHODS.get(node.attr)):
            yield Finding(node.lineno, node.attr, why)
        elif why := _why(name):
            yield Finding(node.lineno, name, why)
        elif isinstance(node, ast.Attribute) and node.attr.lstrip("_") in MODULES and name and name not in WATCHED:
            yield Finding(node.lineno, f"{node.attr} through another module", HIDDEN)
        elif name in self._modules and id(node) not in self._owners:
            yield Finding(node.lineno, f"{name} passed on", HIDDEN)
        elif name in STARTERS and id(node) not in self._called | self._owners | self._type_names:
            yield Finding(node.lineno, f"{name} passed on", HIDDEN)

    def _call(self, node: ast.Call) -> Iterator[Finding]:
        name = self._meaning(node.func)
        for keyword in node.keywords:
            yield from self._keyword(keyword, node.lineno, name)
        if name in BLOCKING_STARTERS:
            # The ninth argument would be `shell`; one is all that is ever needed.
            if len(node.args) > 1 or any(isinstance(argument, ast.Starred) for argument in node.args):
                yield Finding(node.lineno, f"{name} with more than its vector", HIDDEN)
            elif any(_is_text(argument) for argument in node.args):
                yield Finding(node.lineno, f"{name} of a text", "programs are started from a vector of words")
        if name in STARTERS and (any(True for _ in named_shells(node)) or any(_runners(node))):
            yield Finding(node.lineno, f"{name} of a shell", SHELL)
        if name == "builtins.vars" and not node.args:
            yield Finding(node.lineno, "vars()", HIDDEN)
        if name == "builtins.getattr" and any(_folded(argument) in MODULES for argument in node.args[1:2]):
            yield Finding(node.lineno, "getattr of a module", HIDDEN)

    def _keyword(self, keyword: ast.keyword, line: int, name: str) -> Iterator[Finding]:
        """Look at one keyword of a call of `name`."""
        if keyword.arg == "shell" and not _is_false(keyword.value):
            yield Finding(line, "shell=", SHELL)
        if keyword.arg == "proxy_command":
            yield Finding(line, "proxy_command=", SHELL)
        if name in STARTERS and (why := BANNED_KEYWORDS.get(keyword.arg or "")):
            yield Finding(line, f"{keyword.arg}=", why)
        if name in STARTERS and keyword.arg is None:
            yield Finding(line, f"{name}(**…)", HIDDEN)

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


def _modules(tree: ast.Module) -> Iterator[str]:
    """Yield each module that is imported as one, by its full name and by those of its packages."""
    for node in ast.walk(tree):
        for alias in node.names if isinstance(node, ast.Import) else ():
            parts = alias.name.split(".")
            yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _folded(node: ast.AST) -> str | None:
    """Return the text that constants add up to, or `None` if it is none."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _folded(node.left), _folded(node.right)
        return None if left is None or right is None else left + right
    return None


def _runners(call: ast.Call) -> Iterator[bool]:
    """Yield a truth for each program of a vector that would run its arguments: a constant in the first place."""
    vectors = [call.args[0].elts if call.args and isinstance(call.args[0], ast.List | ast.Tuple) else call.args]
    vectors += [
        one.value.elts for one in call.args if isinstance(one, ast.Starred) and isinstance(one.value, ast.Tuple)
    ]
    for words in vectors:
        first = _folded(words[0]) if words else None
        yield first is not None and RUNNERS.fullmatch(first) is not None
        yield any(_folded(word) in ("-c", "-e") for word in words[1:2]) and _is_python(words[0])


def _is_python(word: ast.expr) -> bool:
    return isinstance(word, ast.Attribute) and word.attr == "executable"


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
