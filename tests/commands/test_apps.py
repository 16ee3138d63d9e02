from __future__ import annotations

from proto.wire import Exit
from tests.commands.desk import Desk


async def test_an_app_is_created_and_listed(desk: Desk) -> None:
    created = await desk.give("apps:create blog")
    assert created.status == 0
    assert created.out.startswith("-----> Creating blog...\n")
    assert "git remote add pushboat ssh://pushboat@box.example.com:2222/blog" in created.out
    assert (await desk.give("apps:list")).out == "=====> My Apps\nblog\n"
    assert (await desk.give("apps:list --quiet")).out == "blog\n"
    assert (await desk.give("--format json apps:list")).json() == ["blog"]


async def test_a_second_app_of_the_same_name_is_refused_and_leaves_no_repository(desk: Desk) -> None:
    await desk.give("apps:create blog")
    again = await desk.give("apps:create blog")
    assert again.status == Exit.FAILED
    assert again.err == (
        " !     There is already an app called blog.\n       Pick another name, or list yours with: apps:list\n"
    )
    assert len(desk.core.repos.made) == 1


async def test_an_app_that_does_not_exist_ends_with_status_20(desk: Desk) -> None:
    for line in ("apps:exists nope", "apps:report nope", "--app nope urls", "urls 'No App!'"):
        assert (await desk.give(line)).status == Exit.NO_SUCH_APP, line


async def test_a_failure_in_json_is_one_line_on_standard_error(desk: Desk) -> None:
    answer = await desk.give("apps:exists nope --format json")
    assert answer.out == ""
    assert answer.err.startswith('{"error":{"code":"app.not-found","message":"') and answer.err.count("\n") == 1


async def test_the_report_has_dokkus_rows(desk: Desk) -> None:
    await desk.deployed("blog")
    app = await desk.database.read.apps.by_name("blog")
    assert app is not None
    lines = (await desk.give("apps:info blog")).out.splitlines()
    assert lines[0] == "=====> blog app information"
    assert lines[1].startswith("       App created at:                ")
    flags = [line.partition(":")[0].strip().replace(" ", "-") for line in lines[1:]]
    assert flags == sorted(flags)
    for row, value in (
        ("app-created-at", str(int(app.created_at))),
        ("app-deploy-source", "push"),
        ("app-dir", f"/srv/repos/{app.id}"),
        ("app-global-disable-autocreation", "false"),
        ("app-locked", "false"),
    ):
        assert (await desk.give(f"apps:report blog --{row}")).out == f"{value}\n", row
    assert (await desk.give("apps:report --global --format json")).json()["global-disable-autocreation"] == "false"
    assert (await desk.give("apps:report --global")).out.startswith("=====> global app information\n")


async def test_older_scripts_find_the_long_keys_too(desk: Desk) -> None:
    await desk.deployed("blog")
    for noun, key in (("apps", "locked"), ("ps", "stop-timeout-seconds"), ("proxy", "balance")):
        report = (await desk.give(f"{noun}:report blog --format json")).json()
        assert report[key] == report[f"{noun.removesuffix('s') if noun == 'apps' else noun}-{key}"]
        assert all(isinstance(value, str) for value in report.values())
    assert "domains-app-vhosts" not in (await desk.give("domains:report blog --format json")).json()


async def test_a_report_prints_one_row_and_refuses_what_is_none(desk: Desk) -> None:
    await desk.give("apps:create blog")
    for line, says in (
        ("apps:report blog --app-nope", "Rows: --app-created-at, --app-created-by"),
        ("apps:report blog --app-dir --app-id", "one row at a time"),
        ("apps:report blog --app-dir --format json", "Leave out the flag, or --format json."),
        ("apps:report blog --format yaml", "Formats: json, stdout"),
    ):
        answer = await desk.give(line)
        assert answer.status == Exit.FAILED and says in answer.err, line


async def test_destroying_asks_for_the_name(desk: Desk) -> None:
    await desk.give("apps:create blog")
    refused = await desk.give("apps:destroy blog", b"bolg\n")
    assert refused.status == Exit.FAILED
    assert "Nothing was changed" in refused.err
    assert (await desk.give("apps:exists blog")).status == 0
    assert (await desk.meanwhile("apps:destroy blog", b"blog\n")).status == 0
    assert (await desk.give("apps:exists blog")).status == Exit.NO_SUCH_APP
