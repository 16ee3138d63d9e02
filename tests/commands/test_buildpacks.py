"""``buildpacks:*``, ``builder-pack:*`` and ``repo:purge-cache``."""

from __future__ import annotations

import json

from tests.commands.desk import Desk


async def test_the_builder_image_is_set_by_either_name(desk: Desk) -> None:
    await desk.give("apps:create blog")
    said = await desk.give("buildpacks:set-property blog stack house/builder:1")
    assert (said.status, said.out) == (0, "=====> Setting builder-image to house/builder:1\n")
    report = json.loads((await desk.give("buildpacks:report blog --format json")).out)
    assert report["computed-stack"] == report["stack"] == "house/builder:1" and report["global-stack"] == ""
    assert (await desk.give("builder:report blog --builder-builder-image")).out == "house/builder:1\n"
    await desk.give("builder:set blog builder-image")
    assert (await desk.give("buildpacks:report blog --buildpacks-computed-stack")).out == "heroku/builder:24\n"


async def test_what_cannot_be_set_is_said_with_what_can(desk: Desk) -> None:
    await desk.give("apps:create blog")
    wrong = await desk.give("buildpacks:set-property blog flavour x")
    assert wrong.status == 1 and "What can be set: stack. Buildpacks are named in the app's project.toml." in wrong.err
    wrong = await desk.give("buildpacks:set-property blog stack 'no image'")
    assert wrong.status == 1 and "Give an image's name" in wrong.err
    assert (await desk.give("buildpacks:set-property nosuch stack x/y")).status == 20
    assert (await desk.give("builder-pack:set blog projecttoml-path ../up")).status == 1


async def test_what_builds_have_kept_is_removed_and_counted(desk: Desk) -> None:
    await desk.give("apps:create blog")
    app = await desk.database.read.apps.by_name("blog")
    assert app is not None
    desk.core.workshops.volumes[app.id] = {"cache", "image-d1"}
    said = await desk.give("repo:purge-cache blog")
    assert said.status == 0 and "Volumes of buildpacks removed: 2\n" in said.out
    again = await desk.give("repo:purge-cache blog --format json")
    assert json.loads(again.out)["volumes"] == 0
    assert (await desk.give("repo:purge-cache nosuch")).status == 20
