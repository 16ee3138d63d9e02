from __future__ import annotations

import pytest

from proto.wire import Exit
from tests.commands.desk import Desk


async def test_domains_come_and_go(desk: Desk) -> None:
    await desk.give("apps:create blog")
    await desk.give("domains:add-global apps.example.com")
    assert (await desk.give("urls blog")).out == "http://blog.apps.example.com\n"
    added = await desk.give("domains:add blog Blog.Example.COM blog.example.com")
    assert added.out == "-----> Added blog.example.com to blog\n"
    assert "Skipping: blog.example.com already added" in (await desk.give("domains:add blog blog.example.com")).out
    assert (await desk.give("url blog")).out == "http://blog.example.com\n"
    assert (await desk.give("domains:remove blog blog.example.com")).status == 0
    assert (await desk.give("domains:set blog a.example.com b.example.com")).status == 0
    assert (await desk.give("urls blog --format json")).json() == ["http://a.example.com", "http://b.example.com"]
    await desk.give("domains:clear blog")
    assert (await desk.give("url blog")).status == Exit.FAILED
    await desk.give("domains:reset blog")
    assert (await desk.give("domains:report blog --domains-app-vhosts")).out == "blog.apps.example.com\n"
    await desk.give("domains:clear-global")
    assert (await desk.give("urls blog")).out == ""


async def test_a_domain_of_another_app_is_refused_with_its_name(desk: Desk) -> None:
    await desk.give("apps:create blog")
    await desk.give("apps:create shop")
    await desk.give("domains:add blog www.example.com")
    answer = await desk.give("domains:add shop new.example.com www.example.com")
    assert answer.status == Exit.FAILED and "belongs to the app blog" in answer.err
    assert (await desk.give("urls shop")).out == "", "all or none"


IDNA = [
    ("bücher.example", "xn--bcher-kva.example"),
    ("BÜCHER.Example", "xn--bcher-kva.example"),
    ("XN--Bcher-KVA.example", "xn--bcher-kva.example"),
    ("bücher。example", "xn--bcher-kva.example"),
    ("*.bücher.example", "*.xn--bcher-kva.example"),
    ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
]


@pytest.mark.parametrize(("written", "kept"), IDNA)
async def test_a_name_beyond_ascii_is_kept_and_compared_in_its_a_label_form(
    desk: Desk, written: str, kept: str
) -> None:
    await desk.give("apps:create blog")
    await desk.give("apps:create shop")
    assert (await desk.give(f"domains:add blog {written}")).out == f"-----> Added {kept} to blog\n"
    assert await vhosts(desk, "blog") == kept
    for same in (written, kept):
        answer = await desk.give(f"domains:add shop {same}")
        assert answer.status == Exit.FAILED and f"{kept} belongs to the app blog" in answer.err
    assert (await desk.give(f"domains:remove blog {written}")).status == 0
    assert await vhosts(desk, "blog") == ""


OVERLAPS = [
    ("www.example.com", "*.example.com"),
    ("a.b.example.com", "*.example.com"),
    ("*.b.example.com", "*.example.com"),
    ("xn--bcher-kva.example.com", "*.example.com"),
    ("www.xn--bcher-kva.example", "*.bücher.example"),
]
APART = [
    ("example.com", "*.example.com"),
    ("www.notexample.com", "*.example.com"),
    ("www.example.com.org", "*.example.com"),
    ("example.com", "www.example.com"),
]


@pytest.mark.parametrize("command", ["add", "set"])
@pytest.mark.parametrize(("first", "second"), OVERLAPS + [(second, first) for first, second in OVERLAPS])
async def test_no_wildcard_covers_a_name_of_another_app(desk: Desk, first: str, second: str, command: str) -> None:
    await desk.give("apps:create blog")
    await desk.give("apps:create shop")
    assert (await desk.give(f"domains:add blog {first}")).status == 0
    answer = await desk.give(f"domains:{command} shop new.example.org {second}")
    assert answer.status == Exit.FAILED and "overlaps with a wildcard domain of the app blog" in answer.err
    assert await vhosts(desk, "shop") == "", "all or none"
    assert (await desk.give(f"domains:add blog {second}")).status == 0, "its own may overlap"


@pytest.mark.parametrize(("first", "second"), APART + [(second, first) for first, second in APART])
async def test_names_that_no_wildcard_of_another_app_covers_are_taken(desk: Desk, first: str, second: str) -> None:
    await desk.give("apps:create blog")
    await desk.give("apps:create shop")
    assert (await desk.give(f"domains:add blog {first}")).status == 0
    assert (await desk.give(f"domains:add shop {second}")).status == 0


@pytest.mark.parametrize("domain", ["'bad domain'", "-x.com", "a..b", "$(id).com", "x" * 300 + ".com", "'é\x01'"])
async def test_what_is_no_domain_is_refused(desk: Desk, domain: str) -> None:
    await desk.give("apps:create blog")
    answer = await desk.give(f"domains:add blog -- {domain}")
    assert answer.status == Exit.FAILED and "is not a domain name" in answer.err


async def test_removing_what_is_not_there_says_what_is(desk: Desk) -> None:
    await desk.give("apps:create blog")
    await desk.give("domains:add blog a.example.com")
    answer = await desk.give("domains:remove blog b.example.com")
    assert answer.status == Exit.FAILED and "It has: a.example.com" in answer.err


async def test_the_report_has_dokkus_rows(desk: Desk) -> None:
    await desk.give("apps:create blog")
    await desk.give("domains:add-global example.com")
    answer = await desk.give("domains:report blog")
    assert answer.out.splitlines()[:3] == [
        "=====> blog domains information",
        "       Domains app default:           true",
        "       Domains app enabled:           true",
    ]
    as_json = (await desk.give("domains:report blog --format json")).json()
    assert as_json["app-vhosts"] == "blog.example.com"
    assert (await desk.give("domains:report --global --format json")).json()["global-vhosts"] == "example.com"


async def vhosts(desk: Desk, app: str) -> str:
    return (await desk.give(f"domains:report {app} --domains-app-vhosts")).out.strip()


async def test_who_gets_a_name_without_asking_goes_without_one_that_another_was_given(desk: Desk) -> None:
    for line in ("domains:set-global example.com", "apps:create shop", "domains:set shop blog.example.com"):
        assert (await desk.give(line)).status == 0
    assert (await desk.give("apps:create blog")).status == 0
    assert await vhosts(desk, "blog") == ""
    assert await vhosts(desk, "shop") == "blog.example.com"
    await desk.give("domains:remove shop blog.example.com")
    assert await vhosts(desk, "blog") == "blog.example.com"


async def test_a_new_global_domain_takes_no_name_from_an_app_that_was_given_it(desk: Desk) -> None:
    for line in ("apps:create blog", "apps:create shop", "apps:create wiki", "apps:create wiki.example.com"):
        assert (await desk.give(line)).status == 0
    await desk.give("domains:set shop blog.example.com")
    assert (await desk.give("domains:set-global example.com")).status == 0
    assert await vhosts(desk, "blog") == await vhosts(desk, "wiki") == ""
    assert await vhosts(desk, "wiki.example.com") == "wiki.example.com"
    await desk.give("apps:rename wiki.example.com other.example.org")
    assert await vhosts(desk, "wiki") == "wiki.example.com"


@pytest.mark.parametrize("name", ["www.example.com", "new.wild.example.com", "shop.example.org"])
async def test_an_app_cannot_be_called_as_the_domain_of_another(desk: Desk, name: str) -> None:
    await desk.give("domains:set-global example.org")
    for line in ("apps:create shop", "apps:create blog", "domains:add shop www.example.com *.wild.example.com"):
        assert (await desk.give(line)).status == 0
    for line in (f"apps:create {name}", f"apps:rename blog {name}"):
        answer = await desk.give(line)
        assert answer.status == Exit.FAILED and "the app shop" in answer.err
    assert (await desk.give("apps:list --quiet")).out == "blog\nshop\n"
