from __future__ import annotations

from proto.wire import Exit
from tests.commands.desk import Desk


async def test_an_app_is_created_and_listed(desk: Desk) -> None:
    created = await desk.give("apps:create blog")
    assert created.status == 0
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


async def test_destroying_asks_for_the_name(desk: Desk) -> None:
    await desk.give("apps:create blog")
    refused = await desk.give("apps:destroy blog", b"bolg\n")
    assert refused.status == Exit.FAILED
    assert "Nothing was changed" in refused.err
    assert (await desk.give("apps:exists blog")).status == 0
    assert (await desk.meanwhile("apps:destroy blog", b"blog\n")).status == 0
    assert (await desk.give("apps:exists blog")).status == Exit.NO_SUCH_APP
