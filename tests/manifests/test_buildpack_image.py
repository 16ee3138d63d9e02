"""The process table of an image that buildpacks made."""

from __future__ import annotations

import json

import pytest

from agent.handlers.builder import plan_of
from agent.lifecycle.wishes import command_words
from agent.manifests.app_json import AppJson
from agent.manifests.buildpack_image import METADATA, processes_of
from agent.manifests.procfile import parse_procfile
from agent.ports.images import ImageInfo
from agent.state.plans import Plan


def labels(*types: str) -> dict[str, str]:
    return {METADATA: json.dumps({"processes": [{"type": each, "command": ["x"]} for each in types]})}


def test_each_process_is_begun_by_its_own_program() -> None:
    assert processes_of(labels("web", "worker", "a.b"), ("/cnb/process/web",)) == {
        "web": "/cnb/process/web",
        "worker": "/cnb/process/worker",
    }


@pytest.mark.parametrize("told", [labels("task"), {METADATA: "[["}, {}])
def test_without_a_web_process_the_default_one_is_it(told: dict[str, str]) -> None:
    assert processes_of(told, ("/cnb/process/task",))["web"] == "/cnb/process/task"


@pytest.mark.parametrize("command", [(), ("httpd",)])
def test_other_images_have_no_such_table(command: tuple[str, ...]) -> None:
    assert processes_of(labels("web"), command) == {}


def test_what_else_is_run_is_run_by_the_launcher() -> None:
    plan = Plan(processes=(), has_launcher=True)
    by_launcher = ("/cnb/lifecycle/launcher", "--")
    assert command_words("/cnb/process/worker", plan=plan, env={}) == ("/cnb/process/worker",)
    assert command_words("./migrate --now", plan=plan, env={}) == (*by_launcher, "./migrate", "--now")
    assert command_words("a && b", plan=plan, env={})[:3] == (*by_launcher, "/bin/sh")


def test_lines_of_a_procfile_replace_processes_and_add_to_them() -> None:
    image = ImageInfo(id="sha256:1", command=("/cnb/process/web",), labels=labels("web", "worker"))
    plan = plan_of(image, procfile=parse_procfile(b"worker: ./work\nclock: ./tick\n"), app_json=AppJson())
    assert {each.type: each.command for each in plan.processes} == {
        "web": "/cnb/process/web",
        "worker": "./work",
        "clock": "./tick",
    }
    assert plan.has_launcher and not plan.has_entrypoint


def test_an_image_that_kept_its_entry_point_is_run_as_it_is() -> None:
    image = ImageInfo(id="sha256:1", entrypoint=("/cnb/process/web",), labels=labels("web", "worker"))
    plan = plan_of(image, procfile=None, app_json=AppJson())
    assert [(each.type, each.command) for each in plan.processes] == [("web", None)]
    assert plan.has_entrypoint and not plan.has_launcher
