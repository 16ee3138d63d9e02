"""Procfile and app.json: those of an image that is deployed as it is, and where settings say that they are."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from agent.errors import UserError
from agent.lifecycle import apps
from agent.lifecycle.properties import set_property
from agent.ports.images import ImageInfo
from agent.state.apps import App
from agent.state.deploys import Deploy
from agent.state.releases import Release
from proto.names import SERVER, AppId, ProcessType
from tests.fakes.core import Core, core

DOCKERFILE = {"Dockerfile": "FROM scratch\nEXPOSE 8080\n"}


@pytest.fixture
async def blog(tmp_path: Path) -> AsyncIterator[Core]:
    async with core(tmp_path) as c:
        yield c


async def deployed(c: Core, app: App, files: dict[str, bytes], *, number: int = 1) -> Deploy:
    """Deploy an image with these files below /app."""
    image = ImageInfo(id=f"sha256:shop{number}", ports=(8080,), folder="/app")
    c.images.have(image, f"shop:{number}")
    c.workshops.files[image.id] = {f"/app/{name}": content for name, content in files.items()}
    deploy = await c.accept(app, kind="image", image=f"shop:{number}")
    await c.settle()
    return await c.deploy(deploy)


async def newest(c: Core, app: App) -> Release:
    return (await c.database.read.releases.of_app(app.id))[0]


async def name(c: Core, property: str, value: str, *, app: AppId = SERVER) -> None:
    async with c.database.transaction() as tx:
        await set_property(tx, app=app, name=property, value=value)


async def test_an_image_that_exists_is_run_as_its_own_procfile_and_app_json_say(blog: Core) -> None:
    app = await blog.create()
    app_json = {
        "env": {"COLOUR": "green"},
        "formation": {"worker": {"quantity": 2}},
        "healthchecks": {"web": [{"path": "/up"}]},
        "scripts": {"pushboat": {"postdeploy": "./warm"}},
        "stack": "heroku-24",
    }
    files = {"Procfile": b"web: ./serve\nworker: ./work\nrelease: ./migrate", "app.json": json.dumps(app_json).encode()}
    deploy = await deployed(blog, app, files)
    assert deploy.status == "live", deploy.reason
    plan = (await newest(blog, app)).plan
    assert {process.type: process.command for process in plan.processes} == {"web": "./serve", "worker": "./work"}
    assert [(task.kind, task.command) for task in plan.tasks] == [("release", "./migrate"), ("postdeploy", "./warm")]
    assert plan.processes[0].checks[0].path == "/up"
    assert (await blog.database.read.scales.of_app(app.id))["worker"] == 2  # type: ignore[index]
    assert (await blog.database.read.configs.get(app.id))["COLOUR"] == "green"
    told = blog.transcripts.lines[deploy.id]
    assert " !     Pushboat does nothing with stack of app.json." in told


async def test_what_is_not_known_or_differs_from_dokku_is_named_in_a_push(blog: Core) -> None:
    app_json = {"frobnicate": 1, "scripts": {"dokku": {"predeploy": "./assets"}}}
    pushed = await blog.push(await blog.create(), {**DOCKERFILE, "app.json": json.dumps(app_json)})
    await blog.settle()
    deploy = await blog.deploy(pushed)
    assert deploy.status == "live", deploy.reason
    told = blog.transcripts.lines[deploy.id]
    assert " !     Pushboat does not know frobnicate of app.json." in told
    assert (
        " !     scripts.dokku.predeploy of app.json is run, and files that it changes are not kept: "
        "what has to be in the image belongs into the build."
    ) in told


async def test_an_image_without_them_runs_its_own_command_as_before(blog: Core) -> None:
    app = await blog.create()
    assert (await deployed(blog, app, {})).status == "live"
    plan = (await newest(blog, app)).plan
    assert [(process.type, process.command) for process in plan.processes] == [("web", None)] and plan.tasks == ()


async def test_a_mistake_in_them_fails_the_deploy_and_what_served_goes_on(blog: Core) -> None:
    app = await blog.create()
    assert (await deployed(blog, app, {})).status == "live"
    broken = await deployed(blog, app, {"app.json": b'{"formation": []}'}, number=2)
    assert broken.status == "failed" and broken.reason and "formation in app.json must be an object" in broken.reason
    row = await blog.database.read.apps.get(app.id)
    assert row is not None and row.live_release == 1
    # The way round a file that is no app.json of ours: say that it is elsewhere, for all, where it need not be.
    await name(blog, "app-json.appjson-path", "deploy/app.json")
    assert (await deployed(blog, app, {"app.json": b"[]"}, number=3)).status == "live"


async def test_config_that_an_image_requires_is_asked_for_before_it_runs(blog: Core) -> None:
    app = await blog.create()
    deploy = await deployed(blog, app, {"app.json": b'{"env": {"KEY": {"required": true}}}'})
    assert (
        deploy.status == "failed"
        and deploy.reason
        and "app.json requires config that has no value: KEY" in deploy.reason
    )


@pytest.mark.parametrize("kind", ["push", "image"])
async def test_they_are_read_where_the_settings_say(blog: Core, kind: str) -> None:
    app = await blog.create()
    await name(blog, "ps.procfile-path", "deploy/Procfile.web", app=app.id)
    await name(blog, "app-json.appjson-path", "deploy/app.json", app=app.id)
    files = {
        "Procfile": "wrong: x",
        "app.json": "wrong",
        "deploy/Procfile.web": "web: ./right",
        "deploy/app.json": '{"formation": {"web": {"quantity": 2}}}',
    }
    if kind == "image":
        deploy = await deployed(blog, app, {path: text.encode() for path, text in files.items()})
    else:
        pushed = await blog.push(app, DOCKERFILE | files)
        await blog.settle()
        deploy = await blog.deploy(pushed)
    assert deploy.status == "live", deploy.reason
    plan = (await newest(blog, app)).plan
    assert [(process.type, process.command) for process in plan.processes] == [("web", "./right")]
    assert plan.formation == {"web": 2}


async def test_one_that_is_named_for_an_app_has_to_be_there_and_one_for_all_need_not(blog: Core) -> None:
    app = await blog.create()
    await name(blog, "ps.procfile-path", "deploy/Procfile")
    pushed = await blog.push(app, DOCKERFILE)
    await blog.settle()
    assert (await blog.deploy(pushed)).status == "live"
    await name(blog, "ps.procfile-path", "deploy/Procfile", app=app.id)
    pushed = await blog.push(app, DOCKERFILE, commit="d" * 40)
    await blog.settle()
    failed = await blog.deploy(pushed)
    assert failed.status == "failed" and failed.reason is not None
    assert "There is no deploy/Procfile in the commit, and ps:set blog procfile-path names it." in failed.reason


async def test_a_mistake_is_told_by_the_path_that_was_set(blog: Core) -> None:
    app = await blog.create()
    await name(blog, "ps.procfile-path", "deploy/Procfile", app=app.id)
    pushed = await blog.push(app, DOCKERFILE | {"deploy/Procfile": "web"})
    await blog.settle()
    failed = await blog.deploy(pushed)
    assert failed.reason and "Line 1 of deploy/Procfile" in failed.reason


async def test_formation_says_how_many_run_until_app_json_does_not(blog: Core) -> None:
    app = await blog.create()

    async def push(number: int, formation: Mapping[str, object]) -> list[str]:
        """Push this formation; return the process types of all that runs once it is live."""
        files = {
            "Dockerfile": f"FROM scratch\nEXPOSE {8000 + number}\n",
            "Procfile": "web: ./serve\nworker: ./work\n",
            "app.json": json.dumps({"formation": formation}),
        }
        pushed = await blog.push(app, files, commit=f"{number}" * 40)
        await blog.settle()
        assert (await blog.deploy(pushed)).status == "live"
        await blog.settle(within=120.0)
        return sorted(status.process for status in blog.scheduler.running(app.id))

    async def scale(**quantities: int) -> None:
        row = await blog.database.read.apps.get(app.id)
        assert row is not None
        async with blog.database.transaction() as tx:
            wanted = {ProcessType(process): count for process, count in quantities.items()}
            await apps.scale(tx, app=row, quantities=wanted)
        await blog.settle()

    # A process type that the Procfile does not have is nothing to run.
    two_and_one = {"web": {"quantity": 2, "size": "eco"}, "worker": {"quantity": 1}, "old": {"quantity": 3}}
    assert await push(1, two_and_one) == ["web", "web", "worker"]
    for process in ("web", "worker"):
        with pytest.raises(UserError, match=r"set in its app\.json, so it cannot be scaled by hand") as refused:
            await scale(**{process: 3})
        assert refused.value.code == "scale.formation"
    # What the file does not name any more stays as it is, and is the owner's again.
    assert await push(2, {"worker": {"quantity": 0}}) == ["web", "web"]
    await scale(web=1)
    await blog.settle(within=120.0)
    assert [status.process for status in blog.scheduler.running(app.id)] == ["web"]
