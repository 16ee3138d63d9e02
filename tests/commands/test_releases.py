from __future__ import annotations

from pathlib import Path

from proto.wire import Exit
from tests.commands.desk import DOCKERFILE, Desk


async def test_a_deploy_is_shown_with_its_tasks(desk: Desk) -> None:
    files = {"Dockerfile": "FROM scratch\nEXPOSE 8080\n", "Procfile": "web: serve\nrelease: ./migrate\n"}
    await desk.deployed(files=files)
    shown = await desk.give("deploys:show blog")
    assert "       Task release:".ljust(24) + "succeeded, took 0.0 s" in shown.out.splitlines()
    facts = (await desk.give("deploys:show blog --format json")).json()
    assert isinstance(facts, dict)
    (task,) = facts["tasks"]
    assert (task["kind"], task["command"], task["status"], task["exit_code"]) == ("release", "./migrate", "ended", 0)


async def test_a_rollback_is_a_release_with_the_older_config(desk: Desk) -> None:
    await desk.deployed("blog")
    await desk.meanwhile("config:set blog NEW=secret-value")
    answer = await desk.meanwhile("releases:rollback blog")
    assert answer.status == 0, answer
    assert "Rolling blog back to v1" in answer.out and "Config keys that go: NEW" in answer.out
    assert (await desk.give("config:keys blog")).out == ""
    info = (await desk.give("releases:info blog --format json")).json()
    assert info["version"] == 3 and info["why"] == "Rolled back to v1" and info["config_keys"] == []


async def test_a_rollback_of_the_code_keeps_the_config(desk: Desk) -> None:
    await desk.deployed("blog")
    await desk.meanwhile("config:set blog NEW=1")
    assert (await desk.meanwhile("releases:rollback blog v1 --code-only")).status == 0
    assert (await desk.give("config:keys blog")).out == "NEW\n"


async def test_a_rollback_leaves_the_servers_config_to_the_server(desk: Desk) -> None:
    await desk.give("config:set --global ZONE=here")
    await desk.deployed("blog")
    await desk.meanwhile("config:set blog NEW=1")
    answer = await desk.meanwhile("releases:rollback blog v1")
    assert "Config keys that go: NEW\n" in answer.out
    assert (await desk.give("config:keys blog")).out == ""
    await desk.give("config:set --global ZONE=there")
    await desk.meanwhile("ps:restart blog")
    live = (await desk.give("releases:diff blog v3 v4 --values")).out
    assert "- config ZONE: here\n+ config ZONE: there" in live


async def test_config_is_not_changed_while_a_rollback_is_about_to_set_it(desk: Desk) -> None:
    app, _ = await desk.deployed("blog")
    await desk.meanwhile("config:set blog NEW=1")
    rollback = await desk.core.accept(app, kind="rollback", from_release=1)
    for line in ("config:set blog A=1", "config:set --no-restart blog A=1", "config:unset blog NEW"):
        answer = await desk.give(line)
        assert answer.status == Exit.FAILED
        assert "A rollback to v1 is under way" in answer.err and rollback.id in answer.err
    await desk.core.settle()
    assert (await desk.core.deploy(rollback)).status == "live"
    assert (await desk.meanwhile("config:set blog A=1")).status == 0
    assert (await desk.give("config:keys blog")).out == "A\n"


async def test_a_rollback_of_the_code_lets_config_be_changed(desk: Desk) -> None:
    app, _ = await desk.deployed("blog")
    await desk.core.accept(app, kind="rollback", from_release=1, is_code_only=True)
    assert (await desk.give("config:set --no-restart blog A=1")).status == 0
    await desk.core.settle()
    assert (await desk.give("config:keys blog")).out == "A\n"


async def test_a_release_tells_what_it_is_made_of_who_made_it_when_and_why(desk: Desk) -> None:
    await desk.deployed("blog")
    await desk.meanwhile("config:set blog TOKEN=s3cret")
    first, second = [(await desk.give(f"releases:info blog v{n} --format json")).json() for n in (1, 2)]
    assert (first["version"], second["version"]) == (1, 2)
    assert first["image"].startswith("sha256:") and first["image"] == second["image"]
    assert first["commit"] == second["commit"] == "c" * 40
    assert first["processes"] == {"web": "serve", "worker": "work"}
    assert (first["by"], first["config_keys"], second["config_keys"]) == ("ada", [], ["TOKEN"])
    assert first["why"] and second["why"] and first["live_at"] and second["created_at"] >= first["created_at"]
    # What comes after it changes nothing about it.
    await desk.meanwhile("config:set blog TOKEN=other")
    again = (await desk.give("releases:info blog v2 --format json")).json()
    assert {**again, "is_live": True} == second
    assert "+ config TOKEN: s3cret" in (await desk.give("releases:diff blog v1 v2 --values")).out


async def test_config_is_on_disk_in_no_release_in_the_clear(desk: Desk, tmp_path: Path) -> None:
    app, _ = await desk.deployed("blog")
    await desk.meanwhile("config:set blog TOKEN=quite-a-secret")
    assert await desk.database.read.configs.get(app.id, release=2) == {"TOKEN": "quite-a-secret"}
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert app.id.encode() in stored and b"quite-a-secret" not in stored


async def test_an_image_that_is_gone_cannot_be_rolled_back_to(desk: Desk) -> None:
    app, _ = await desk.deployed("blog")
    for number in range(5):
        await desk.core.push(app, {"Dockerfile": f"FROM scratch\nEXPOSE {9000 + number}\n"}, commit=f"{number}" * 40)
        await desk.core.settle()
    answer = await desk.give("releases:rollback blog v1")
    assert answer.status == Exit.FAILED
    assert "The image of v1 is no longer kept" in answer.err and "c" * 40 in answer.err


async def test_an_image_that_somebody_removed_cannot_be_rolled_back_to(desk: Desk) -> None:
    app, _ = await desk.deployed("blog")
    await desk.core.push(app, {"Dockerfile": "FROM scratch\nEXPOSE 9000\n"}, commit="d" * 40)
    await desk.core.settle()
    first = await desk.core.database.read.releases.get(app.id, 1)
    assert first is not None
    del desk.core.images.by_id[first.image]
    before = await desk.core.database.read.deploys.of_app(app.id)
    answer = await desk.give("releases:rollback blog v1")
    assert answer.status == Exit.FAILED
    assert "somebody has removed it" in answer.err and "c" * 40 in answer.err and "releases blog" in answer.err
    assert await desk.core.database.read.deploys.of_app(app.id) == before


async def test_a_diff_masks_values_unless_asked(desk: Desk) -> None:
    await desk.deployed("blog")
    await desk.meanwhile("config:set blog TOKEN=s3cret")
    masked = await desk.give("releases:diff blog v1 v2")
    assert masked.out == "=====> blog from v1 to v2\n+ config TOKEN: *******\n"
    assert "+ config TOKEN: s3cret" in (await desk.give("releases:diff blog v1 --values")).out
    assert "They are the same" in (await desk.give("releases:diff blog v1 v1")).out


async def test_a_diff_names_what_changed_and_no_value_of_the_config_unless_asked(desk: Desk) -> None:
    app, _ = await desk.deployed("blog")
    await desk.meanwhile("config:set blog TOKEN=value-a KEPT=value-k")
    await desk.meanwhile("config:set blog TOKEN=value-b")
    await desk.meanwhile("config:unset blog TOKEN")
    changed = {"Dockerfile": "FROM scratch\nEXPOSE 9090\n", "Procfile": "web: serve --fast\nclock: tick\n"}
    await desk.core.push(app, changed, commit="d" * 40)
    await desk.core.settle()
    images = {version: (await desk.give(f"releases:info blog v{version} --format json")).json() for version in (4, 5)}
    of_config = {
        "v1 v2": ("+ config KEPT: value-k", "+ config TOKEN: value-a"),
        "v2 v3": ("- config TOKEN: value-a", "+ config TOKEN: value-b"),
        "v3 v4": ("- config TOKEN: value-b",),
        "v2 v1": ("- config KEPT: value-k", "- config TOKEN: value-a"),
    }
    for versions, lines in of_config.items():
        for end in ("", "--format json"):
            masked = await desk.give(f"releases:diff blog {versions} {end}")
            assert masked.status == 0 and masked.out.count("TOKEN") and "value-" not in masked.out + masked.err
        told = [line.partition(": ")[0] + ": *******" for line in lines]
        assert (await desk.give(f"releases:diff blog {versions}")).out.splitlines()[1:] == told
        assert tuple((await desk.give(f"releases:diff blog {versions} --values")).out.splitlines()[1:]) == lines
    of_code = [
        f"- commit: {'c' * 40}",
        f"+ commit: {'d' * 40}",
        f"- image: {images[4]['image']}",
        f"+ image: {images[5]['image']}",
        "+ process clock: tick",
        "- process web: serve",
        "+ process web: serve --fast",
        "- process worker: work",
    ]
    assert (await desk.give("releases:diff blog v4 v5")).out.splitlines()[1:] == of_code


async def test_what_is_no_release_is_refused(desk: Desk) -> None:
    await desk.deployed("blog")
    for line in ("releases:info blog v9", "releases:info blog x", "releases:rollback blog v9", "releases:info blog v0"):
        answer = await desk.give(line)
        assert answer.status == Exit.FAILED and "release" in answer.err, line


async def test_the_list_is_for_people(desk: Desk) -> None:
    await desk.deployed("blog")
    lines = (await desk.give("releases blog")).out.splitlines()
    assert lines[0] == "=====> Releases of blog"
    assert lines[1].split() == ["RELEASE", "STATUS", "COMMIT", "WHEN", "BY", "WHY"]
    assert lines[2].split()[:4] == ["v1", "live", "cccccccccccc", "0s"] or lines[2].startswith("v1")


async def test_a_failed_deploy_is_shown_with_its_reason(desk: Desk) -> None:
    app = await desk.core.create("blog")
    deploy = await desk.core.push(app, {**DOCKERFILE, "Dockerfile": "FROM scratch\nRUN false\n"})
    await desk.core.settle()
    output = await desk.give("deploys:output blog")
    assert output.status == Exit.FAILED
    assert " !     The deploy failed (build): " in output.out
    shown = await desk.give(f"deploys:show blog {deploy.id[:6]} --format json")
    assert shown.json()["status"] == "failed" and shown.json()["stage"] == "build"


async def test_a_deploy_under_way_can_be_cancelled(desk: Desk) -> None:
    app = await desk.core.create("blog")
    deploy = await desk.core.push(app, DOCKERFILE)
    assert (await desk.give("deploys:cancel blog")).status == 0
    await desk.core.settle()
    assert (await desk.core.deploy(deploy)).status == "cancelled"
    again = await desk.give("deploys:cancel blog")
    assert again.status == Exit.FAILED and "it is cancelled" in again.err
    assert (await desk.give("deploys:output blog")).status == Exit.FAILED


async def test_an_image_can_be_named_for_a_deploy(desk: Desk) -> None:
    await desk.give("apps:create blog")
    answer = await desk.meanwhile("git:from-image blog registry.example.com/blog:1")
    assert answer.status == Exit.FAILED and "There is no image" in answer.out
    for bad in ("'a b'", "--", "$(id)", "UPPER/Case:x y"):
        assert (await desk.give(f"git:from-image blog {bad}")).status == Exit.FAILED, bad


async def test_a_deploy_that_is_not_there(desk: Desk) -> None:
    await desk.give("apps:create blog")
    assert "Nothing was ever deployed" in (await desk.give("deploys:show blog")).err
    await desk.core.push((await desk.database.read.apps.by_name("blog")) or await desk.core.create("x"), DOCKERFILE)
    assert "has no deploy" in (await desk.give("deploys:show blog zzz")).err
