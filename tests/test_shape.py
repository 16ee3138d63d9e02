"""The house rules that a machine can check, over the syntax trees of everything that is shipped.

Formatting, docstrings and imports are ruff's, types are mypy's, layers are import-linter's (pyproject.toml). What
stands here is what none of them knows: how large a room may get, who may announce which fact, what must never be
called, and where SQL may be written.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from agent.commands.catalogue import every_command
from proto import events
from tests.support import shell_ban

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden"

MODULE_LINES = 400
"""About 100 is usual and 300 is large; past that a module holds two nouns."""
FUNCTION_LINES = 70
"""40 is large. What is longer cannot be read at a glance."""

ALLOWED = {
    ("agent/docker/file_changes.py", "ctypes"): "three calls of inotify by name, given a path and constants",
    ("cli/ssh.py", "os.execvpe"): "the client becomes ssh, with a vector of words",
    ("proto/events.py", "__subclasses__"): "the events are those that the module defines",
    ("bench/memory.py", "asyncio.create_subprocess_exec of a shell"): "a program that stands in the bench itself",
}
"""What the ban on shells would forbid, and why it may be there."""
FOR_CONTAINERS = {
    "agent/builders/java.py",
    "agent/builders/php.py",
    "agent/commands/one_off.py",
    "agent/docker/execs.py",
    "agent/manifests/procfile.py",
}
"""Where the words of a shell stand that runs inside an app's own container."""
COMPLETES_SHELLS = {"cli/completion.py"}
"""Where shells are named because the client completes words in them."""

MAKES_CODE = re.compile(r"(?:^|[\s;&|(`])(?:eval|(?:ba|da|z)?sh\s+-[a-z]*c)\b|\b(?:source|\.)\s+<\(")
"""``eval``, ``sh -c`` and a process that is read as a script, in bash."""
SQL = re.compile(
    r"\s*(SELECT\s.+\sFROM\s|INSERT\s+INTO\s|UPDATE\s+\w+\s+SET\s|DELETE\s+FROM\s|CREATE\s+TABLE|PRAGMA\s+\w)"
)
CORE = ("agent/bus", "agent/handlers", "agent/lifecycle", "agent/commands", "agent/manifests", "agent/ports")
"""What decides. The database beside it has an executor that is injected, and its own file."""
WORLDLY_MODULES = {
    *("os", "io", "pathlib", "shutil", "tempfile", "glob", "fcntl", "signal", "resource"),
    *("time", "random", "secrets", "uuid", "threading", "multiprocessing", "concurrent"),
    *("socket", "subprocess", "http", "urllib", "ssl", "aiohttp", "aiodocker", "asyncssh", "sqlite3", "aiosqlite"),
}
WORLDLY_CALLS = re.compile(
    r"open|input|print|(?:\w+\.)*(?:datetime|date)\.(?:now|utcnow|today)"
    r"|asyncio\.(?:to_thread|create_subprocess_\w+|open_\w+|start_server|run|new_event_loop)"
)
SOURCE_OF_EVENT = re.compile(r"Source: ``([a-z_.]+)``")


def shipped() -> list[Path]:
    """Return every Python file of the product and of the tools beside it, tests left out."""
    folders = ("agent", "cli", "proto", "scripts", "bench")
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def tracked() -> list[Path]:
    """Return every file of the repository that git knows and that is there."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [path for name in names.split("\0") if name and (path := ROOT / name).is_file()]


def inside(*folders: str) -> list[Path]:
    """Return the Python files below the given folders of the repository."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(), filename=str(path))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return every node of a file's syntax tree: most tests here go through all of them."""
    return tuple(ast.walk(tree(path)))


def where(path: Path, node: ast.AST | None = None) -> str:
    """Return a place that an editor can jump to."""
    line = f":{node.lineno}" if node is not None and hasattr(node, "lineno") else ""
    return f"{path.relative_to(ROOT)}{line}"


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function and method of a file."""
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def dotted(node: ast.expr) -> str:
    """Return ``a.b.c`` of a name or attribute, or an empty string of anything else."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            owner = dotted(value)
            return f"{owner}.{attr}" if owner else ""
        case _:
            return ""


@cache
def docstrings(path: Path) -> set[int]:
    """Return the identities of the nodes that hold documentation, those below attributes included."""
    return {
        id(node.value) for node in nodes(path) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def test_no_module_is_larger_than_one_noun() -> None:
    sizes = {where(path): len(path.read_text().splitlines()) for path in shipped()}
    assert {place: size for place, size in sizes.items() if size > MODULE_LINES} == {}


def test_no_function_is_too_long_to_be_read_at_a_glance() -> None:
    sizes = {
        f"{where(path, function)} {function.name}": (function.end_lineno or 0) - function.lineno + 1
        for path in shipped()
        for function in functions(path)
    }
    assert {place: size for place, size in sizes.items() if size > FUNCTION_LINES} == {}


def test_every_public_thing_is_documented() -> None:
    missing = [
        f"{where(path, node)} {name}"
        for path in shipped()
        for name, node in public_things(path)
        if not documented(node)
    ]
    assert missing == []


def public_things(path: Path) -> Iterator[tuple[str, ast.AST]]:
    """Yield the module, its public classes and functions, and the public methods of those classes."""
    yield path.stem, tree(path)
    for node in tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            methods = node.body if isinstance(node, ast.ClassDef) else []
            for method in methods:
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and not method.name.startswith("_"):
                    yield f"{node.name}.{method.name}", method


def documented(node: ast.AST) -> bool:
    """Tell whether a definition has a docstring, or is one of several overloads of one that has."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(
        dotted(decorator) in {"overload", "override"} or dotted(decorator).endswith(".setter")
        for decorator in node.decorator_list
    ):
        return True
    assert isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    return bool(ast.get_docstring(node))


def test_no_import_hides_in_a_function_or_behind_type_checking() -> None:
    hidden = [
        where(path, node)
        for path in shipped()
        for function in functions(path)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    conditional = [
        where(path, node)
        for path in shipped()
        for node in nodes(path)
        if isinstance(node, ast.If) and dotted(node.test).endswith("TYPE_CHECKING")
    ]
    assert hidden + conditional == []


def test_nothing_that_could_run_what_users_wrote_is_used() -> None:
    found = {
        (str(path.relative_to(ROOT)), *finding) for path in shipped() for finding in shell_ban.findings(tree(path))
    }
    used = {(place, what) for place, _, what, _ in found} & ALLOWED.keys()
    assert [finding for finding in sorted(found) if (finding[0], finding[2]) not in ALLOWED] == []
    assert used == ALLOWED.keys(), "an exception that nothing needs"


def test_a_shell_is_named_only_where_words_for_containers_are_made() -> None:
    naming = {where(path) for path in shipped() if any(shell_ban.named_shells(tree(path)))}
    assert naming == FOR_CONTAINERS | COMPLETES_SHELLS


def test_nothing_has_git_or_ssh_start_a_shell() -> None:
    found = [(where(path), *door) for path in inside("agent") for door in shell_ban.doors(tree(path))]
    assert found == []


def test_no_script_of_ours_makes_code_of_text() -> None:
    scripts = [
        path for path in tracked() if path.read_bytes().startswith(b"#!/usr/bin/env bash") or path.suffix == ".sh"
    ]
    assert len(scripts) > 5
    guilty = [
        f"{where(path)}:{number}"
        for path in scripts
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if MAKES_CODE.search(line)
    ]
    assert guilty == []


def is_script(path: Path) -> bool:
    """Tell whether a file is a script of bash."""
    return path.suffix == ".sh" or path.read_bytes().startswith(b"#!/usr/bin/env bash")


def test_no_exception_is_swallowed_whole() -> None:
    swallowed = [
        where(path, node)
        for path in shipped()
        for node in nodes(path)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or dotted(node.type) in {"Exception", "BaseException", "asyncio.CancelledError"})
        and all(isinstance(statement, ast.Pass | ast.Continue) for statement in node.body)
    ]
    suppressed = [
        where(path, node)
        for path in shipped()
        for node in nodes(path)
        if isinstance(node, ast.Call)
        and dotted(node.func).endswith("suppress")
        and any(dotted(argument) in {"Exception", "BaseException"} for argument in node.args)
    ]
    assert swallowed + suppressed == []


def test_sql_is_written_in_agent_state_only() -> None:
    found = [
        where(path, node)
        for path in shipped()
        if (ROOT / "agent" / "state") not in path.parents
        for node in nodes(path)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings(path)
        and SQL.match(node.value)
    ]
    assert found == []


def test_no_place_in_a_statement_has_a_number() -> None:
    # Python 3.14 refuses a sequence of values for them: https://docs.python.org/3/whatsnew/3.14.html
    numbered = re.compile(r"(?<=[=<>(,\s])\?[0-9]")
    assert [where(path) for path in inside("agent/state") if numbered.search(path.read_text())] == []


def test_the_core_touches_the_world_through_ports_only() -> None:
    """So that all of it runs under a virtual clock; what it may do beside is wait, on whatever loop it is given."""
    guilty = []
    for path in inside(*CORE):
        for node in nodes(path):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                imported = [node.module or ""]
            if WORLDLY_MODULES.intersection(module.partition(".")[0] for module in imported):
                guilty.append(where(path, node))
            if isinstance(node, ast.Call) and WORLDLY_CALLS.fullmatch(dotted(node.func)):
                guilty.append(where(path, node))
            if isinstance(node, ast.Attribute) and node.attr == "time" and isinstance(node.value, ast.Call):
                guilty.append(where(path, node))
    assert guilty == []


def test_what_decides_never_says_any() -> None:
    places = [
        where(path, node)
        for path in inside("agent/lifecycle", "agent/handlers", "agent/commands", "agent/ports", "cli")
        for node in nodes(path)
        if isinstance(node, ast.ImportFrom)
        and node.module == "typing"
        and any(alias.name == "Any" for alias in node.names)
    ]
    assert places == []


@cache
def emitters() -> dict[str, set[str]]:
    """Return which modules of the agent construct which durable event."""
    names = {event_type.__name__ for event_type in events.EVENT_TYPES}
    found: dict[str, set[str]] = {name: set() for name in names}
    for path in inside("agent"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for node in nodes(path):
            if isinstance(node, ast.Call) and (name := dotted(node.func).rpartition(".")[2]) in names:
                found[name].add(module)
    return found


@pytest.mark.parametrize("event_type", events.EVENT_TYPES, ids=events.tag_of)
def test_an_event_is_announced_by_the_module_that_its_docstring_names(event_type: type[events.Event]) -> None:
    source = SOURCE_OF_EVENT.search(event_type.__doc__ or "")
    assert source, f"{event_type.__name__}: the docstring must say who announces it: Source: ``agent.…``."
    assert emitters()[event_type.__name__] == {source[1]}


@pytest.mark.parametrize("event_type", events.EVENT_TYPES, ids=events.tag_of)
def test_an_event_has_a_golden_example(event_type: type[events.Event]) -> None:
    tag = events.tag_of(event_type)
    examples = [
        path for path in (GOLDEN / "events").glob("*.json") if re.fullmatch(rf"{tag}(\.v\d+)?\.json", path.name)
    ]
    assert examples, f"tests/golden/events/{tag}.json is missing"
    for example in examples:
        assert isinstance(events.decode(example.read_bytes()), event_type)


def test_every_command_and_all_that_it_takes_is_documented() -> None:
    entries = every_command().entries()
    assert len(entries) > 40
    silent = [entry.name for entry in entries if not entry.summary]
    silent += [
        f"{entry.name} {parameter.metavar}"
        for entry in entries
        for parameter in (*entry.signature.arguments, *entry.signature.named())
        if not parameter.kind.help
    ]
    assert silent == []


def handler_names() -> list[str]:
    """Return the names under which deliveries are stored, as the decorators ``@on`` and ``@reconciles`` say them."""
    found = []
    for path in inside("agent/handlers"):
        for function in functions(path):
            for decorator in function.decorator_list:
                if isinstance(decorator, ast.Call) and dotted(decorator.func).split(".")[-1] in {"on", "reconciles"}:
                    found.append(explicit_name(path, decorator))
    return sorted(found)


def explicit_name(path: Path, decorator: ast.Call) -> str:
    """Return the ``name=`` of a subscription, which must be written out: rows of the database carry it."""
    for keyword in decorator.keywords:
        if keyword.arg == "name" and isinstance(keyword.value, ast.Constant):
            return str(keyword.value.value)
    raise AssertionError(f'{where(path, decorator)}: write the handler\'s name out: name="noun.verb"')


def test_stored_handler_names_never_change_by_accident() -> None:
    assert handler_names() == (GOLDEN / "handlers.txt").read_text().split()


def test_a_handler_name_is_used_once() -> None:
    names = handler_names()
    assert len(names) == len(set(names))


def test_tests_of_the_core_never_sleep() -> None:
    sleeping = [
        where(path, node)
        for path in inside("tests/bus", "tests/state", "tests/lifecycle", "tests/handlers")
        for node in nodes(path)
        if isinstance(node, ast.Call)
        and dotted(node.func).endswith("sleep")
        and not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
    ]
    assert sleeping == []


def test_no_file_names_a_package_index() -> None:
    # A folder of wheels in an app's own repository is no index.
    option = re.compile(r"--(extra-)?" + r"index-url|--find" + r"-links[\s=]+https?:|\[\[tool\.uv\.index")
    assert [where(path) for path in tracked() if option.search(path.read_text(errors="replace"))] == []
