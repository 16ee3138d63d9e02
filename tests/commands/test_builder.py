"""``builder:*``: what is built how, and what came of it."""

from __future__ import annotations

import pytest

from agent.errors import UserError
from agent.lifecycle.building import refuse
from tests.commands.desk import DOCKERFILE, Desk


async def test_a_builder_is_selected_by_a_name_that_exists(desk: Desk) -> None:
    await desk.core.create("blog")
    assert (await desk.give("builder:set blog selected python")).status == 0
    wrong = await desk.give("builder:set blog selected pyhton")
    assert (
        wrong.status != 0
        and "one of pack, dockerfile, go, rust, ruby, elixir, php, java, python, deno, node, static, image, null"
        in wrong.err
    )
    assert (await desk.give("builder:set --global base-image house/debian:bookworm")).status == 0
    assert (await desk.give("builder:report blog --builder-computed-selected")).out == "python\n"
    assert (await desk.give("builder:report blog --builder-computed-base-image")).out == "house/debian:bookworm\n"


async def test_in_place_of_a_builder_images_alone_or_nothing_may_be_selected(desk: Desk) -> None:
    await desk.core.create("blog")
    for value in ("image", "null"):
        assert (await desk.give(f"builder:set blog selected {value}")).status == 0
        assert (await desk.give("builder:report blog --builder-selected")).out == f"{value}\n"


@pytest.mark.parametrize(
    ("selected", "is_image", "code"),
    [("null", True, "builder.null"), ("null", False, "builder.null"), ("image", False, "builder.image")],
)
def test_what_is_not_to_be_deployed_is_refused_with_the_way_out(selected: str, is_image: bool, code: str) -> None:
    with pytest.raises(UserError) as refused:
        refuse(selected, app="blog", is_image=is_image)
    assert refused.value.code == code and "builder:set blog selected" in refused.value.hint


def test_all_else_is_deployed() -> None:
    for selected, is_image in (("", False), ("", True), ("image", True), ("php", False)):
        refuse(selected, app="blog", is_image=is_image)


@pytest.mark.parametrize("image", ["-x", "a b", "x:$(y)", "../x", "X/Y", "a\nb", "x" * 401])
async def test_a_base_image_is_the_name_of_one(desk: Desk, image: str) -> None:
    await desk.core.create("blog")
    refused = await desk.give(f"builder:set blog base-image '{image}'")
    assert refused.status != 0


async def test_the_report_tells_what_the_last_build_was_made_of(desk: Desk) -> None:
    await desk.core.create("empty")
    assert '"detected":""' in (await desk.give("builder:report empty --format json")).out.replace(" ", "")
    await desk.deployed()
    await desk.meanwhile("config:set blog A=1")
    assert (await desk.give("builder:report blog --builder-detected")).out == "dockerfile\n"
    because = await desk.give("builder:report blog --builder-detected-because")
    assert because.out == "Dockerfile, so what it says\n"
    assert (await desk.give("builder:report blog --builder-built-on")).out == "scratch has nothing\n"


async def test_the_plan_is_printed_alone_on_standard_output(desk: Desk) -> None:
    await desk.core.create("empty")
    nothing = await desk.give("builder:plan empty")
    assert nothing.status == 1 and "Nothing was pushed to empty yet." in nothing.err
    await desk.deployed()
    await desk.give("git:set blog deploy-branch main")
    printed = await desk.give("builder:plan blog")
    assert printed.out == DOCKERFILE["Dockerfile"]
    assert printed.err == "       dockerfile: Dockerfile, so what it says\n"
    assert (await desk.give("builder:plan blog --quiet")).err == ""


async def test_a_plan_that_is_the_apps_own_dockerfile_prints_no_escape_sequence(desk: Desk) -> None:
    await desk.deployed(files={**DOCKERFILE, "Dockerfile": "FROM scratch\n# \x1b]0;title\x07\x1b[31mred\n"})
    await desk.give("git:set blog deploy-branch main")
    assert (await desk.give("builder:plan blog")).out == "FROM scratch\n# red\n"


@pytest.mark.parametrize("names", ["a;b", "$(x)", "--allow-unauthenticated x", "UPPER", "x=1", "a\nb;c", "x " * 101])
async def test_packages_are_named_as_debian_names_them(desk: Desk, names: str) -> None:
    await desk.core.create("blog")
    assert (await desk.give(f"builder:set blog apt-packages '{names}'")).status != 0
    assert (await desk.give("builder:set blog apt-packages 'ffmpeg  libstdc++6'")).status == 0
    assert (await desk.give("builder:report blog --builder-apt-packages")).out == "ffmpeg libstdc++6\n"
