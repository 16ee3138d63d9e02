"""``registry:*``: who Pushboat is to registries, and where releases go."""

from __future__ import annotations

import pytest

from agent.lifecycle import registries
from agent.ports.registries import Login
from proto.names import SERVER
from tests.commands.desk import DOCKERFILE, Desk

ADA = Login(server="ghcr.io", user="ada", password="hush")


@pytest.fixture
def known(desk: Desk) -> Desk:
    desk.core.registries.known = {("ghcr.io", "ada", "hush"), ("docker.io", "ada", "hu sh")}
    return desk


async def test_a_login_is_kept_once_the_registry_knows_it(known: Desk) -> None:
    app = await known.core.create("blog")
    done = await known.give("registry:login blog ghcr.io ada --password-stdin", b"hush\n")
    assert done.status == 0 and "Logged in to ghcr.io as ada" in done.out
    assert await registries.logins(known.database.read, app.id) == {"ghcr.io": ADA}
    assert await registries.logins_of(known.database.read, SERVER) == {}
    for line in ("registry:login --global https://index.docker.io/v1/ ada 'hu sh'",):
        assert (await known.give(line)).status == 0
    assert set(await registries.logins(known.database.read, app.id)) == {"ghcr.io", "docker.io"}
    report = (await known.give("registry:report blog")).out
    assert "ada@ghcr.io" in report and "ada@docker.io" in report and "hush" not in report


@pytest.mark.parametrize(
    ("line", "stdin", "code"),
    [
        ("registry:login blog ghcr.io ada wrong", b"", "registry.refused"),
        ("registry:login blog ghcr.io ada", b"wrong", "registry.refused"),
        ("registry:login blog ghcr.io ada", b"", "registry.no-password"),
        ("registry:login blog ghcr.io ada", b"\n", "registry.no-password"),
        ("registry:login blog ghcr.io ada", b"\xff", "registry.no-password"),
        ("registry:login blog ghcr.io ada hush --password-stdin", b"hush", "registry.two-passwords"),
        ("registry:login blog ghcr.io ada hush canary", b"", "registry.two-passwords"),
        ("registry:login blog nowhere ada hush", b"", "property.invalid"),
        ("registry:login blog 'ghcr.io a' ada hush", b"", "property.invalid"),
        ("registry:logout blog ghcr.io", b"", "registry.no-login"),
    ],
)
async def test_a_mistake_keeps_no_login(known: Desk, line: str, stdin: bytes, code: str) -> None:
    app = await known.core.create("blog")
    refused = await known.give(f"{line} --format json", stdin)
    assert refused.status == 1 and f'"{code}"' in refused.err
    assert not any(word in refused.err + refused.out for word in ("wrong", "canary", "hush"))
    assert await registries.logins(known.database.read, app.id) == {}


async def test_a_missing_app_is_told_by_its_status(known: Desk) -> None:
    assert (await known.give("registry:login nobody ghcr.io ada hush")).status == 20
    assert (await known.give("builder:secrets:list nobody")).status == 20


async def test_a_login_is_forgotten(known: Desk) -> None:
    app = await known.core.create("blog")
    await known.give("registry:login blog ghcr.io ada hush")
    assert (await known.give("registry:logout blog https://GHCR.io")).status == 0
    assert await known.database.read.properties.get(app.id, "registry.logins") is None
    events = await known.database.read.outbox.events(limit=100)
    assert not any(b"hush" in event.body for event in events)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("blog server ghcr.io", 0),
        ("blog server ghcr.io/ada", 1),
        ("blog server https://ghcr.io/", 0),
        ("blog server ghcr", 1),
        ("blog image-repo shop/blog", 0),
        ("blog image-repo Shop", 1),
        ("blog image-repo ../x", 1),
        ("blog image-repo shop/blog:1", 1),
        ("--global image-repo shop/blog", 1),
        ("--global image-repo-template 'shop/{{.AppName}}-web'", 0),
        ("--global image-repo-template shop", 1),
        ("blog push-extra-tags latest,stable", 0),
        ("blog push-extra-tags 3", 1),
        ("blog push-on-release yes", 1),
    ],
)
async def test_what_is_no_name_in_a_registry_is_refused(desk: Desk, words: str, status: int) -> None:
    await desk.core.create("blog")
    assert (await desk.give(f"registry:set {words}")).status == status


async def test_the_report_tells_where_the_last_release_is(desk: Desk) -> None:
    await desk.give("registry:set --global server ghcr.io")
    await desk.give("registry:set --global push-on-release true")
    await desk.give("registry:set --global image-repo-template 'shop/{{ .AppName }}'")
    await desk.deployed()
    for row, value in (
        ("computed-server", "ghcr.io"),
        ("computed-image-repo", "shop/blog"),
        ("computed-push-on-release", "true"),
        ("tag-version", "1"),
        ("push-status", "pushed"),
        ("pushed-images", "ghcr.io/shop/blog:1"),
    ):
        assert (await desk.give(f"registry:report blog --registry-{row}")).out == f"{value}\n", row
    await desk.give("registry:set blog image-repo team/x")
    assert (await desk.give("registry:report blog --registry-computed-image-repo")).out == "team/x\n"
    desk.core.registries.is_refusing = True
    app = await desk.database.read.apps.by_name("blog")  # type: ignore[arg-type]
    assert app
    await desk.core.push(app, {**DOCKERFILE, "Dockerfile": "FROM scratch\nEXPOSE 1\n"}, commit="d" * 40)
    await desk.core.settle()
    assert "denied" in (await desk.give("registry:report blog --registry-push-failure")).out
