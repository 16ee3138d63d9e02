"""What commands take at the limit, and one past it: what is past it is refused with a reason, and changes nothing."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable

import pytest

from agent.commands.config import MAX_IMPORT_BYTES
from agent.commands.git_access import MAX_PASSWORD
from agent.commands.keys import MAX_KEY_BYTES
from agent.commands.registries import MAX_PASSWORD_BYTES
from agent.lifecycle.apps import MAX_QUANTITY
from agent.lifecycle.build_secrets import MAX_SECRET_BYTES, MAX_TOTAL_BYTES
from agent.lifecycle.config import MAX_CONFIG_BYTES, MAX_VALUE_BYTES
from agent.lifecycle.resources import MOST_CPUS, MOST_MEMORY
from agent.lifecycle.value_checks import MAX_PACKAGES, MAX_STOP_SECONDS, MAX_TASK_SECONDS
from agent.ports.remotes import MAX_ADDRESS
from proto.wire import Exit
from tests.commands.desk import Desk

ED25519 = b"ssh-ed25519"
PUBLIC = base64.b64encode(struct.pack(">I", 11) + ED25519 + struct.pack(">I", 32) + bytes(range(32)))


def config(total: int) -> bytes:
    """Return config in JSON whose keys and values have so many bytes together."""
    each = MAX_VALUE_BYTES - 100
    sizes = [each] * (total // each) + [total % each]
    return json.dumps({f"K{number:03}": "x" * (size - 4) for number, size in enumerate(sizes)}).encode()


def public_key(size: int) -> bytes:
    line = ED25519 + b" " + PUBLIC + b" "
    return line + b"c" * (size - len(line))


def address(size: int) -> str:
    return "https://git.example.com/".ljust(size, "a")


Given = Callable[[int], tuple[str, bytes]]
"""What is given that is so much past the limit (0: at it): the line, and standard input."""

GIVEN: dict[str, tuple[Given, str]] = {
    "one value of config": (
        lambda past: ("config:set blog KEY=" + "x" * (MAX_VALUE_BYTES - 5 + past), b""),
        "longer than 128 KiB",
    ),
    "all config": (
        lambda past: ("config:import blog --format json", config(MAX_CONFIG_BYTES + past)),
        "more than 4 MiB in all",
    ),
    "config on standard input": (
        lambda past: ("config:import blog", b"KEY=1\n#".ljust(MAX_IMPORT_BYTES + past, b"x")),
        "more than 8 MiB",
    ),
    "a build secret": (
        lambda past: ("builder:secrets:set blog KEY", b"x" * (MAX_SECRET_BYTES + past)),
        "more than 500 KiB",
    ),
    "a password of a registry": (
        lambda past: ("registry:login blog ghcr.io ada", b"x" * (MAX_PASSWORD_BYTES + past) + b"\r\n"),
        "more than 64 KiB",
    ),
    "a password of a git server": (
        lambda past: ("git:auth git.example.com ann", b"x" * (MAX_PASSWORD + past) + b"\n"),
        "more than 4,096 bytes",
    ),
    "a public key": (lambda past: ("ssh-keys:add ada", public_key(MAX_KEY_BYTES + past)), "too long"),
    "packages of Debian": (
        lambda past: (f"builder:set blog apt-packages '{' '.join(['ffmpeg'] * (MAX_PACKAGES + past))}'", b""),
        "names of Debian packages",
    ),
    "a name of a package": (lambda past: (f"builder:set blog apt-packages {'x' * (100 + past)}", b""), "Debian"),
    "a stage": (lambda past: (f"builder-dockerfile:set blog target {'x' * (128 + past)}", b""), "stage"),
    "a branch": (lambda past: (f"git:set blog deploy-branch {'x' * (200 + past)}", b""), "branch"),
    "replicas": (lambda past: (f"ps:scale blog web={MAX_QUANTITY + past}", b""), "from 0 to 100"),
    "seconds to stop": (
        lambda past: (f"ps:set blog stop-timeout-seconds {MAX_STOP_SECONDS + past}", b""),
        "from 1 to 3600",
    ),
    "seconds of a task": (
        lambda past: (f"ps:set blog task-timeout-seconds {MAX_TASK_SECONDS + past}", b""),
        "from 1 to 86400",
    ),
    "memory": (lambda past: (f"resource:limit --memory {MOST_MEMORY + past}b blog", b""), "such as 512m"),
    "cores": (lambda past: (f"resource:limit --cpu {MOST_CPUS + past / 1_000:.3f} blog", b""), "number of cores"),
    "an address of a repository": (
        lambda past: (f"git:sync blog {address(MAX_ADDRESS + past)}", b""),
        "is not the address of a repository",
    ),
}


LARGE = ("all config", "config on standard input")


@pytest.mark.parametrize("what", [pytest.param(what, marks=[pytest.mark.slow] * (what in LARGE)) for what in GIVEN])
async def test_at_the_limit_it_is_taken_and_one_past_it_refused(desk: Desk, what: str) -> None:
    given, says = GIVEN[what]
    app = await desk.core.create("blog")
    desk.core.registries.known = {("ghcr.io", "ada", "x" * MAX_PASSWORD_BYTES)}
    line, stdin = given(1)
    refused = await desk.give(line, stdin)
    assert refused.status == Exit.FAILED and says in refused.err, refused.err[:300]
    assert await desk.database.read.configs.get(app.id) == {}
    assert await desk.database.read.properties.of_app(app.id) == {}
    line, stdin = given(0)
    taken = await desk.give(line, stdin)
    assert says not in taken.err
    assert taken.status == Exit.OK or what == "an address of a repository", taken.err[:300]  # there is no such server


async def test_all_build_secrets_together_may_have_as_much_as_the_limit(desk: Desk) -> None:
    await desk.core.create("blog")
    whole, rest = divmod(MAX_TOTAL_BYTES, MAX_SECRET_BYTES)
    for number in range(whole):
        assert (await desk.give(f"builder:secrets:set blog A{number}", b"x" * MAX_SECRET_BYTES)).status == Exit.OK
    refused = await desk.give("builder:secrets:set blog LAST", b"x" * (rest + 1))
    assert refused.status == Exit.FAILED and "more than 2 MiB" in refused.err
    assert (await desk.give("builder:secrets:set blog LAST", b"x" * rest)).status == Exit.OK


MANY_TIMES = (
    "apps:create {}",
    "apps:rename blog {}",
    "domains:add blog {}.test",
    "apps:report {}",
    "ps:scale blog {}=1",
)
MANY_TIMES += ("{}", "git:set blog deploy-branch {}", "deploys:show blog {}", "releases:info blog {}")


@pytest.mark.parametrize("line", MANY_TIMES)
@pytest.mark.parametrize("size", [1_000, 100_000])
async def test_what_is_many_times_as_long_as_it_may_be_is_refused_in_few_words(
    desk: Desk, line: str, size: int
) -> None:
    await desk.deployed("blog")
    before = await desk.core.database.read.apps.all()
    answer = await desk.give(line.format("x" * size))
    assert answer.status in (Exit.FAILED, Exit.NO_SUCH_APP) and answer.out == ""
    assert answer.err.startswith(" !     ") and len(answer.err) < 500
    assert await desk.core.database.read.apps.all() == before
