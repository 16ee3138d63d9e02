"""What a build is given besides its files: secrets, arguments, and of config what is asked for by name."""

from __future__ import annotations

import pytest

from tests.support.docker import token
from tests.support.rig import BASE, Rig

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

SERVES = "COPY . /www\nEXPOSE 5000\nCMD exec httpd -f -p $PORT -h /www\n"


def step(pushed: str, words: str) -> str:
    """Return the line of the one step with these words."""
    (line,) = [line for line in pushed.splitlines() if words in line and "RUN" in line]
    return line


async def test_a_value_that_changes_repeats_no_step_before_its_use_and_a_secret_repeats_none(boat: Rig) -> None:
    run = token()
    await boat.must("apps:create", "cached")
    await boat.must("builder:secrets:set", "cached", "KEY", stdin=b"first\nsecond\n")
    await boat.must("config:set", "cached", "COLOUR=blue", "UNASKED=config")
    await boat.must("docker-options:add", "cached", "build", "'--build-arg COLOUR'")
    dockerfile = (
        f'FROM {BASE}\nARG UNASKED\nRUN test -z "$UNASKED" && echo {run} early\n'
        f"RUN --mount=type=secret,id=KEY,required=true echo {run} secret && cat /run/secrets/KEY | head -n 1\n"
        f"ARG COLOUR\nRUN echo {run} in $COLOUR\n{SERVES}"
    )
    app = boat.checkout("cached", {"Dockerfile": dockerfile, "index.html": "one\n"})
    first = await boat.git_push(app)
    assert first.status == 0, first.err
    assert f"{run} in blue" in first.err and "CACHED" not in step(first.err, f"{run} early")
    # What a step prints of a secret is masked, each line by itself.
    assert "first" not in first.err and "******" in first.err

    await boat.must("builder:secrets:set", "cached", "KEY=another")
    await boat.must("config:set", "--no-restart", "cached", "COLOUR=red", "UNASKED=changed")
    app.write({"index.html": "two\n"})
    second = await boat.git_push(app)
    assert second.status == 0, second.err
    assert "CACHED" in step(second.err, f"{run} early") and "CACHED" in step(second.err, f"{run} secret")
    assert f"{run} in red" in second.err
    assert "CACHED" not in step(second.err, f"{run} in")
    await boat.must("apps:destroy", "cached", "--force")


async def test_a_build_that_asks_for_what_it_does_not_get_says_so(boat: Rig) -> None:
    app = boat.checkout("asks", {"Dockerfile": f"FROM {BASE}\nRUN --mount=type=secret,id=KEY echo {token()}\n{SERVES}"})
    optional = await boat.git_push(app)
    assert optional.status == 0, optional.err
    assert "The build asks for the secret KEY, which is not set" in optional.err
    app.write({"Dockerfile": f"FROM {BASE}\nRUN --mount=type=secret,id=KEY,required=true echo {token()}\n"})
    required = await boat.git_push(app)
    assert required.status == 1
    assert "asks for the build secret KEY, which is not set" in required.err
    assert "builder:secrets:set asks KEY=" in required.err
    app.write({"Dockerfile": f"FROM {BASE}\nRUN --mount=type=ssh echo {token()}\n"})
    forwarded = await boat.git_push(app)
    assert forwarded.status == 1
    assert "Pushboat forwards no ssh agent into builds" in forwarded.err
    # The server's own secrets are there for every app; an app's own come first.
    await boat.must("builder:secrets:set", "--global", "KEY=of-the-server", "OTHER=of-the-server")
    await boat.must("builder:secrets:set", "asks", "KEY=of-the-app")
    mounts = "--mount=type=secret,id=KEY,required=true --mount=type=secret,id=OTHER,required=true"
    test = 'test "$(cat /run/secrets/KEY) $(cat /run/secrets/OTHER)" = "of-the-app of-the-server"'
    app.write({"Dockerfile": f"FROM {BASE}\nRUN {mounts} echo {token()} && {test}\n{SERVES}"})
    both = await boat.git_push(app)
    assert both.status == 0, both.err
    await boat.must("builder:secrets:unset", "--global", "KEY", "OTHER")
    await boat.must("apps:destroy", "asks", "--force")
