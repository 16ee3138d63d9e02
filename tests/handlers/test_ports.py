"""Where an image is expected to listen, by what it EXPOSEs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.lifecycle import config
from tests.fakes.core import Core, core


@pytest.fixture
async def blog(tmp_path: Path) -> AsyncIterator[Core]:
    async with core(tmp_path) as c:
        yield c


@pytest.mark.parametrize(
    ("exposed", "port", "is_told"),
    [((), 5000, False), ((8080, 80), 8080, False), ((443, 80), 80, True), ((80, 443), 80, True), ((443,), 5000, True)],
)
async def test_the_port_of_tls_is_passed_over_and_the_push_says_so(
    blog: Core, exposed: tuple[int, ...], port: int, is_told: bool
) -> None:
    app = await blog.create()
    dockerfile = "FROM scratch\n" + "".join(f"EXPOSE {number}\n" for number in exposed)
    deploy = await blog.push(app, {"Dockerfile": dockerfile})
    await blog.settle()
    (replica,) = await blog.database.read.replicas.of_app(app.id)
    assert replica.port == port
    assert blog.scheduler.wishes[replica.id].env["PORT"] == str(port)
    said = "\n".join(blog.transcripts.lines[deploy.id])
    assert ("Port 443, which the image EXPOSEs, is passed over" in said) == is_told
    assert (f"web gets PORT={port}." in said) == is_told


async def test_a_port_that_is_set_decides_and_nothing_is_said(blog: Core) -> None:
    app = await blog.create()
    async with blog.database.transaction() as tx:
        await config.set_values(tx, app=app.id, values={"PORT": "443"})
    deploy = await blog.push(app, {"Dockerfile": "FROM scratch\nEXPOSE 443\n"})
    await blog.settle()
    (replica,) = await blog.database.read.replicas.of_app(app.id)
    assert replica.port == 443
    assert not any("passed over" in line for line in blog.transcripts.lines[deploy.id])
