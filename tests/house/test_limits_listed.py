"""The table of limits in ``docs/security.md`` is whole and true: every limit of the code, its value and its test."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import msgspec

from agent.settings import Settings
from tests.support.named_tests import every_test

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"
IS_LIMIT = re.compile(r"(?:^|_)(?:MAX|MOST|LONGEST|LARGEST|LIMIT|CAP|BYTES|TRIES|PIDS|STALL|PATIENCE|FINISH)(?:_|$)")
"""How the code names what is not to be passed."""
_CLASS = re.compile(r"class (\w+)")
_NUMBER = re.compile(r"(    )?([A-Za-z_]+)(?:: \w+)? = (\d[\d_.]*(?: (?:<<|\*) \d[\d_.]*)*)(?:  #.*)?")
"""A line that gives a name a number, in a class or outside."""
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}

FROM_SETTINGS = "what a setting of the table says unless it is set"
OF_A_FRIEND = "what the engine, HAProxy or our own files send: a guard against misreading, which nobody outside reaches"
OF_A_SIZE = "a size, not a limit"
OF_A_PACE = "how much is done or written at once, or how soon again"
SHOWN = "how much of something is shown; nothing is refused"
OF_OTHER_SERVERS = "of what a git server chosen by an administrator says; past it the fetch fails or is not shown"

NO_LIMITS = {
    "agent.archives.incoming.HEAD_BYTES": OF_A_SIZE,
    "agent.archives.members._HEADER_BYTES": "room for headers beside the content, which has its limit",
    "agent.builders.buildkit.MAX_MESSAGE": OF_A_FRIEND,
    "agent.builders.failure.MAX_REASON": SHOWN,
    "agent.builders.layouts.MAX_DOCUMENT": OF_A_FRIEND,
    "agent.builders.progress._MAX_STEPS": OF_A_FRIEND,
    "agent.builders.protobuf._MAX_VARINT": "of the format itself",
    "agent.bus.timers.MAX_PAUSE": OF_A_PACE,
    "agent.commands.events.MAX_EVENTS": SHOWN,
    "agent.commands.git.MAX_BRANCHES": SHOWN,
    "agent.commands.services._MAX_WORDS": "no name is as long; what is longer names no app",
    "agent.docker.backoff.LONGEST_SECONDS": OF_A_PACE,
    "agent.docker.build_limits._MAX_LINE": OF_A_FRIEND,
    "agent.docker.frames.MAX_FRAME": OF_A_FRIEND,
    "agent.docker.images.MAX_LOAD_BYTES": FROM_SETTINGS,
    "agent.docker.log_files.CHUNK_BYTES": OF_A_PACE,
    "agent.docker.log_growth.MAX_PAUSE_SECONDS": OF_A_PACE,
    "agent.docker.log_resume.FILE_BYTES": OF_A_SIZE,
    "agent.docker.log_resume.MOST_SLOTS": OF_A_SIZE,
    "agent.docker.log_resume.RATE_BYTES": OF_A_SIZE,
    "agent.docker.log_resume.RECORD_BYTES": OF_A_SIZE,
    "agent.docker.logs.BUSY_BYTES": OF_A_PACE,
    "agent.docker.logs.MAX_SILENCE_SECONDS": OF_A_PACE,
    "agent.docker.ping.HEAD_LIMIT": OF_A_FRIEND,
    "agent.docker.raw.HEAD_LIMIT": OF_A_FRIEND,
    "agent.docker.saved_layers.MAX_MANIFEST": OF_A_FRIEND,
    "agent.git.access.STALL_SECONDS": OF_OTHER_SERVERS,
    "agent.git.command_list.MAX_LIST_BYTES": FROM_SETTINGS,
    "agent.git.command_list.MAX_REFS": FROM_SETTINGS,
    "agent.git.command_list._MAX_PIECE": "of git's own protocol",
    "agent.git.environment.MAX_PUSH_BYTES": FROM_SETTINGS,
    "agent.git.hostkeys._MOST": OF_OTHER_SERVERS,
    "agent.git.pack._LONGEST_HEAD": "of git's own format",
    "agent.git.process._MAX_ERROR": SHOWN,
    "agent.git.progress._LONGEST": OF_OTHER_SERVERS,
    "agent.git.progress._MOST": OF_OTHER_SERVERS,
    "agent.git.receive.DRAIN_BYTES": "how much of a push that was refused already is thrown away",
    "agent.git.remotes.MAX_LISTED": OF_OTHER_SERVERS,
    "agent.git.remotes.MAX_MEMORY_BYTES": OF_OTHER_SERVERS,
    "agent.git.ssh_agent._MOST": OF_A_FRIEND,
    "agent.git.tree._FOLDER_BYTES": OF_A_PACE,
    "agent.lifecycle.app_env.SECRET_BYTES": OF_A_SIZE,
    "agent.lifecycle.checks.LONGEST_UPTIME_SECONDS": OF_A_PACE,
    "agent.lifecycle.config.MAX_PORT": "of TCP itself",
    "agent.lifecycle.remotes.SEED_BYTES": OF_A_SIZE,
    "agent.logs.grep_process.MEMORY_BYTES": "of the process that matches patterns, which ends alone",
    "agent.logs.search.PAGE_BYTES": OF_A_PACE,
    "agent.logs.segments.CHECKPOINT_BYTES": OF_A_SIZE,
    "agent.logs.store.SEGMENT_BYTES": OF_A_SIZE,
    "agent.logs.transcript.PENDING_BYTES": "what may wait for a slow disk",
    "agent.logs.transcript._PAGE_BYTES": OF_A_PACE,
    "agent.machine.LEAST_FREE_BYTES": SHOWN,
    "agent.proxies.haproxy.control.MAX_ANSWER": OF_A_FRIEND,
    "agent.proxies.haproxy.proxy.MAX_SOCKET_PATH": "of sockets in Linux; a longer folder stops the start",
    "agent.proxies.haproxy.supervisor.START_TRIES": OF_A_PACE,
    "agent.ssh.gate.LARGEST_PACKET": "above the limit of a command line, so that it is us who refuse it, in words",
    "agent.ssh.gate._MAX_PACKET": "what asyncssh takes itself",
    "agent.ssh.pusher.MAX_NAMED": SHOWN,
    "agent.state.examination.MAX_FINDINGS": SHOWN,
    "agent.state.outbox.MAX_CAUSES": SHOWN,
    "agent.vault.KEY_BYTES": OF_A_SIZE,
    "agent.vault.NONCE_BYTES": OF_A_SIZE,
    "cli.linking.MAX_APP_NAME": "the client's own copy of the agent's",
}
"""What has such a name and is in no row, and why."""
NO_LIMITS_OF_SETTINGS = {"[ssh] port", "[http] spare_backends"}

A_TIME = "a time by a real clock: whatever else is tested there is done within it; a test lets it run over"
THE_KERNELS = "counted by the kernel, which lets no more pass than it is told; a test runs into it, or reads the number"
IN_STEPS = "a budget that is kept by removing more than one past it: a test sees that it is never passed"

ONLY_PAST = {
    "[ssh] login_grace": A_TIME,
    "[ssh] keepalive": A_TIME,
    "[ssh] idle": A_TIME,
    "agent.git.receive.STALL_SECONDS": A_TIME,
    "agent.git.receive.FINISH_SECONDS": A_TIME,
    "agent.git.downloads.STALL_SECONDS": A_TIME,
    "[build] timeout": A_TIME,
    "[build] memory_percent": THE_KERNELS,
    "agent.docker.build_cgroups.PIDS": THE_KERNELS,
    "agent.docker.build_spec.PIDS": THE_KERNELS,
    "[replicas] memory_bytes": THE_KERNELS,
    "[replicas] stop_seconds": A_TIME,
    "[replicas] task_seconds": A_TIME,
    "agent.proxies.haproxy.config.Options.request_seconds": A_TIME,
    "[http] keep_alive": A_TIME,
    "[logs] budget_bytes": IN_STEPS,
    "[logs] app_budget_bytes": IN_STEPS,
}
"""What is not tried exactly at the limit, and why."""
_TESTS = re.compile(r"(?:(at|past) )?`([^`]+)`")


class Row(msgspec.Struct, frozen=True):
    what: str
    value: float
    source: str
    at: tuple[str, ...]
    """Tests that go as far as the limit."""
    past: tuple[str, ...]
    """Tests that go one past it."""


def rows() -> list[Row]:
    table = PAGE.read_text().partition("## Limits")[2].partition("\n## ")[0]
    found = []
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) == 5 and cells[2].startswith("`"):
            what, value, source, _, tests = cells
            named = _TESTS.findall(tests)
            at, past = (tuple(test for side, test in named if side != other) for other in ("past", "at"))
            found.append(Row(what, number(value), source.strip("`"), at, past))
    return found


def number(text: str) -> float:
    """Return what ``1 GiB``, ``1,000`` or ``20 s`` stands for: bytes, or the number."""
    amount, _, unit = text.partition(" ")
    return float(amount.replace(",", "")) * UNITS.get(unit, 1)


@cache
def constants() -> dict[str, float]:
    """Return every number that is assigned to a name, by its place: of modules, and of the classes in them."""
    found = {}
    for folder in ("agent", "cli", "proto"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            place = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            owner = ""
            for line in path.read_text().splitlines():
                if match := _CLASS.match(line):
                    owner = f"{match[1]}."
                elif match := _NUMBER.fullmatch(line):
                    amount = evaluated(ast.parse(match[3], mode="eval").body)
                    found[f"{place}.{owner if match[1] else ''}{match[2]}"] = amount
    return found


def evaluated(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as amount):
            return amount
        case ast.BinOp(left=left, op=ast.LShift(), right=right):
            return int(evaluated(left)) << int(evaluated(right))
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return evaluated(left) * evaluated(right)
        case _:
            raise ValueError(ast.unparse(node))


def settings() -> dict[str, float]:
    """Return the default of every setting that is a number."""
    return {
        f"[{table}] {key}": value
        for table, struct in msgspec.structs.asdict(Settings()).items()
        for key, value in msgspec.structs.asdict(struct).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def test_every_limit_of_the_table_is_the_one_of_the_code() -> None:
    known = constants() | settings()
    assert len(rows()) > 80
    assert {row.source: row.value for row in rows()} == {row.source: known.get(row.source) for row in rows()}


def test_no_limit_is_missing_in_the_table() -> None:
    listed = {row.source for row in rows()}
    named = {place for place in constants() if of_a_module(place) and IS_LIMIT.search(place.rpartition(".")[2])}
    assert named - listed - NO_LIMITS.keys() == set()
    assert NO_LIMITS.keys() - named == set(), "nothing is excused that is not there"
    assert NO_LIMITS.keys() & listed == set()
    assert settings().keys() - listed - NO_LIMITS_OF_SETTINGS == set()


def of_a_module(place: str) -> bool:
    """Tell whether it is no field of a class: those get what a setting or a constant says."""
    return place.rpartition(".")[0].islower()


def test_each_limit_is_tried_by_tests_that_are_there() -> None:
    missing = {row.what: sorted({*row.at, *row.past} - every_test()) for row in rows()}
    assert {what: tests for what, tests in missing.items() if tests} == {}


def test_each_limit_is_tried_one_past_it_and_at_it_or_it_is_said_why_not() -> None:
    assert [row.what for row in rows() if not row.past] == []
    assert {row.source for row in rows() if not row.at} == ONLY_PAST.keys()
