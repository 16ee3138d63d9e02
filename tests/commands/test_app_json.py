"""Where app.json and Procfile are: set, reported, and refused where it leads out of the repository."""

from __future__ import annotations

import pytest

from proto.wire import Exit
from tests.commands.desk import Desk


@pytest.mark.parametrize(
    ("noun", "key", "usual"), [("app-json", "appjson-path", "app.json"), ("ps", "procfile-path", "Procfile")]
)
async def test_where_a_file_is_can_be_set_for_an_app_and_for_all(desk: Desk, noun: str, key: str, usual: str) -> None:
    await desk.core.create("blog")
    row = f"--{noun}-computed-{key}"
    assert (await desk.give(f"{noun}:report blog {row}")).out == f"{usual}\n"
    assert (await desk.give(f"{noun}:set --global {key} house/file")).status == 0
    assert (await desk.give(f"{noun}:report blog {row}")).out == "house/file\n"
    said = await desk.give(f"{noun}:set blog {key} deploy/file")
    assert said.out == f"=====> Setting {key} to deploy/file\n"
    assert (await desk.give(f"{noun}:report blog {row}")).out == "deploy/file\n"
    assert (await desk.give(f"{noun}:report blog --{noun}-global-{key}")).out == "house/file\n"
    for out in ("/etc/passwd", "../up", "a/../../b"):
        wrong = await desk.give(f"{noun}:set blog {key} {out}")
        assert wrong.status == Exit.FAILED and "a path inside the repository" in wrong.err
    assert (await desk.give(f"{noun}:set blog {key}")).out == f"=====> Unsetting {key}\n"
    assert (await desk.give(f"{noun}:report blog {row}")).out == "house/file\n"
