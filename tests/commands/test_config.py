from __future__ import annotations

import base64
import shlex

import pytest

from agent.commands import envfile
from agent.errors import UserError
from proto.wire import Exit
from tests.commands.desk import Desk


async def test_config_of_an_app_without_a_release_is_only_set(desk: Desk) -> None:
    await desk.give("apps:create blog")
    answer = await desk.give("config:set blog TITLE='My blog' EMPTY=")
    assert answer.status == 0
    assert "TITLE" in answer.out and "My blog" not in answer.out + answer.err
    assert (await desk.give("config:get blog TITLE")).out == "My blog\n"
    assert (await desk.give("config:keys blog")).out == "EMPTY\nTITLE\n"
    assert (await desk.give("deploys blog --format json")).json() == []


async def test_a_config_change_of_a_running_app_is_a_release(desk: Desk) -> None:
    await desk.deployed("blog")
    answer = await desk.meanwhile("config:set blog TITLE=x")
    assert answer.status == 0, answer
    assert "=====> Application deployed:" in answer.out
    releases = await desk.give("releases blog --format json")
    assert [release["version"] for release in releases.json()] == [2, 1]
    assert releases.json()[0]["config_keys"] == ["TITLE"]


async def test_a_draft_waits_for_the_next_deploy(desk: Desk) -> None:
    await desk.deployed("blog")
    assert (await desk.give("config:set --no-restart blog A=1")).status == 0
    assert len((await desk.give("releases blog --format json")).json()) == 1
    assert (await desk.meanwhile("ps:restart blog")).status == 0
    assert (await desk.give("releases:info blog --format json")).json()["config_keys"] == ["A"]


async def test_setting_what_is_set_deploys_nothing(desk: Desk) -> None:
    await desk.deployed("blog")
    await desk.meanwhile("config:set blog A=1")
    again = await desk.give("config:set blog A=1")
    assert again.status == 0 and "Nothing changed" in again.out


async def test_values_survive_newlines_quotes_and_equals_signs(desk: Desk) -> None:
    await desk.give("apps:create blog")
    value = "a 'b' \"c\" = $HOME `id`\nsecond line\\"
    quoted = "'" + value.replace("'", "'\\''") + "'"
    assert (await desk.give(f"config:set blog KEY={quoted}")).status == 0
    assert (await desk.give("config:get blog KEY")).out == f"{value}\n"
    for name in ("", "--format envfile", "--format json"):
        exported = await desk.give(f"config:export blog {name}")
        await desk.give("apps:create other")
        imported = await desk.give(f"config:import other --replace {name}", exported.out.encode())
        assert imported.status == 0, imported
        assert (await desk.give("config:get other KEY")).out == f"{value}\n"


async def test_a_missing_key_ends_with_status_1_and_nothing_printed(desk: Desk) -> None:
    await desk.give("apps:create blog")
    answer = await desk.give("config:get blog NOPE")
    assert (answer.status, answer.out, answer.err) == (1, "", "")


async def test_encoded_values_are_decoded(desk: Desk) -> None:
    await desk.give("apps:create blog")
    encoded = base64.b64encode(b"two\nlines").decode()
    assert (await desk.give(f"config:set --encoded blog KEY={encoded}")).status == 0
    assert (await desk.give("config:get blog KEY --quoted")).out == "'two\nlines'\n"
    refused = await desk.give("config:set --encoded blog KEY=%%%")
    assert refused.status == Exit.FAILED and "base64" in refused.err


async def test_a_value_that_was_taken_apart_is_not_shown(desk: Desk) -> None:
    await desk.give("apps:create blog")
    answer = await desk.give("config:set blog PASSPHRASE=correct horse")
    assert answer.status == Exit.FAILED and "Word 2 after the app" in answer.err
    assert "horse" not in answer.err + answer.out


MISTAKES = {
    "the app forgotten": "config:set TOKEN=canary",
    "the app forgotten, two values": "config:set TOKEN=canary OTHER=canary",
    "a wrong app": "config:set nobody TOKEN=canary",
    "the = forgotten": "config:set blog TOKEN canary",
    "a key that is none": "config:set blog MY-TOKEN=canary",
    "an option with a typing error": "config:set blog --no-restrat=canary TOKEN=canary",
    "a wrong command": "config:sett blog TOKEN=canary",
    "not base64": "config:set blog --encoded TOKEN=canary",
    "one value too many": "config:get blog TOKEN=canary TOKEN=canary",
    "a value for a key": "config:get blog TOKEN=canary",
    "an open quote": "config:set blog 'TOKEN=canary",
    "a NUL": "config:set blog 'TOKEN=canary\x00'",
    "a build argument without its =": "docker-options:add blog build --build-arg TOKEN canary",
    "a build argument without its name": "docker-options:add blog build '--build-arg MY-TOKEN=canary'",
    "another option of docker": "docker-options:add blog build '--secret id=TOKEN,src=canary'",
    "a phase that is none": "docker-options:add blog TOKEN=canary",
    "a build secret without its =": "builder:secrets:set blog TOKEN canary",
    "a build secret without its name": "builder:secrets:set blog '/TOKEN=canary'",
    "a value to be unset": "config:unset blog TOKEN=canary",
    "a value to be unset beside a key": "config:unset blog OTHER TOKEN=canary",
    "a build secret to be unset by its value": "builder:secrets:unset TOKEN=canary",
    "a password with a blank": "registry:login blog ghcr.io ada two canary",
    "an app called as a value": "apps:create TOKEN=canary",
    "a variable of a one-off": "run blog -e MY-TOKEN=canary env",
    "a file without quotes": "config:import blog",
    "a file that is not JSON": "config:import blog --format json",
}
INPUT = b"""
KEY=-----BEGIN PRIVATE KEY-----
canary+canary/canary==
-----END PRIVATE KEY-----
"""


@pytest.mark.parametrize("options", ["", " --format json"], ids=["text", "json"])
@pytest.mark.parametrize("line", MISTAKES.values(), ids=MISTAKES.keys())
async def test_a_mistake_shows_no_value(desk: Desk, line: str, options: str) -> None:
    await desk.give("apps:create blog")
    answer = await desk.give(line + ("" if "--format" in line else options), INPUT)
    assert answer.status != Exit.OK
    assert "canary" not in answer.out + answer.err
    assert answer.err.strip() or line.startswith("config:get")
    assert (await desk.give("config:keys blog")).out == ""


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("config:set blog", "needs at least one <KEY=value>"),
        ("config:set blog KEY", "is not KEY=value"),
        ("config:set blog 1KEY=x", "is not a config key"),
        ("config:set blog 'K\x01=x'", "What stands before the = of value 1 is not a config key"),
        ("config:set blog 'K\x00=x'", "The command has a NUL character in it"),
        ("config:set blog PORT=65536", "Give a number from 1 to 65535."),
        ("config:set blog PORT=0000080801", "The value of PORT is not a port"),
        ("config:set blog PORT=0", "The value of PORT is not a port"),
        ("config:set --global PORT=http", "The value of PORT is not a port"),
        ("config:import blog some.env", "cannot read"),
        ("config:import blog", "names no config"),
    ],
)
async def test_wrong_config_is_refused_with_a_reason(desk: Desk, line: str, says: str) -> None:
    await desk.give("apps:create blog")
    answer = await desk.give(line)
    assert answer.status == Exit.FAILED
    assert says in answer.err
    assert (await desk.give("config:keys blog")).out == ""


async def test_a_value_that_no_process_could_have_is_refused(desk: Desk) -> None:
    await desk.give("apps:create blog")
    answer = await desk.give("config:import blog", b"KEY=" + b"x" * 1_000_000)
    assert answer.status == Exit.FAILED and "128 KiB" in answer.err


async def test_more_input_than_any_config_is_refused(desk: Desk) -> None:
    await desk.give("apps:create blog")
    answer = await desk.give("config:import blog", b"x" * ((8 << 20) + 1))
    assert answer.status == Exit.FAILED and "more than 8 MiB" in answer.err


async def test_the_servers_config_is_below_the_apps(desk: Desk) -> None:
    await desk.give("apps:create blog")
    assert (await desk.give("config:set --global A=server B=server")).status == 0
    await desk.give("config:set blog B=app")
    assert (await desk.give("config:export blog --merged --format shell")).out == "A='server' B='app' \n"
    assert (await desk.give("config:keys --global")).out == "A\nB\n"


async def test_unset_tells_what_was_not_there(desk: Desk) -> None:
    await desk.give("apps:create blog")
    await desk.give("config:set blog A=1 B=2")
    answer = await desk.give("config:unset blog A NOPE")
    assert "Skipping NOPE" in answer.out
    assert (await desk.give("config:keys blog")).out == "B\n"
    await desk.give("config:clear blog")
    assert (await desk.give("config:keys blog")).out == ""


EXPORTED = {
    "exports": "export A='it'\\''s \"two\"\nlines'\nexport B='1'\nexport E=''\n",
    "envfile": 'A="it\'s \\"two\\"\\nlines"\nB="1"\nE=""\n',
    "shell": "A='it'\\''s \"two\"\nlines' B='1' E='' \n",
    "json": '{"A":"it\'s \\"two\\"\\nlines","B":"1","E":""}\n',
    "json-list": (
        '[{"name":"A","value":"it\'s \\"two\\"\\nlines"},{"name":"B","value":"1"},{"name":"E","value":""}]\n'
    ),
    "docker-args": "--env='A=it'\\''s \"two\"\nlines' --env='B=1' --env='E=' \n",
    "docker-args-keys": "--env=A --env=B --env=E \n",
    "pack-keys": "--env A --env B --env E \n",
    "pretty": 'A:  it\'s "two"\nlines\nB:  1\nE:  \n',
}
"""What each format makes of a value with a line's end and quotes of both kinds, a plain one and an empty one."""


@pytest.mark.parametrize("format", EXPORTED)
async def test_every_format_of_an_export_keeps_line_ends_and_quotes(desk: Desk, format: str) -> None:
    await desk.give("apps:create blog")
    values = b'{"B": "1", "A": "it\'s \\"two\\"\\nlines", "E": ""}'
    assert (await desk.give("config:import blog --format json", values)).status == 0
    answer = await desk.give(f"config:export blog --format {format}")
    assert (answer.status, answer.out, answer.err) == (0, EXPORTED[format], "")


def test_every_format_of_an_export_has_its_example() -> None:
    assert tuple(EXPORTED) == envfile.FORMATS


@pytest.mark.parametrize("format", ["exports", "shell", "docker-args"])
def test_what_is_exported_for_a_shell_comes_back_from_one(format: envfile.Format) -> None:
    values = {"A": 'it\'s "two"\nlines $(id) `id` \\', "E": ""}
    words = shlex.split(envfile.write(values, format=format))
    pairs = [word.removeprefix("--env=").partition("=") for word in words if word != "export"]
    assert {key: value for key, _, value in pairs} == values


def test_an_env_file_is_read_as_people_write_it() -> None:
    text = b"""# a comment
export A=1
B = two words # and a comment
C='single # not a comment'   # but this is
D="double \\"quoted\\"\\nline $HOME"
E=

F="two
lines"
G=a=b#c
"""
    assert envfile.read(text, is_json=False) == {
        "A": "1",
        "B": "two words",
        "C": "single # not a comment",
        "D": 'double "quoted"\nline $HOME',
        "E": "",
        "F": "two\nlines",
        "G": "a=b#c",
    }


@pytest.mark.parametrize("text", [b"A=1\nnot a pair\n", b"A='open\n", b"A='x' y\n"])
def test_a_line_that_is_none_is_named(text: bytes) -> None:
    with pytest.raises(UserError, match=r"Line \d of the input is not KEY=value"):
        envfile.read(text, is_json=False)


def test_a_hostile_env_file_is_refused_at_once() -> None:
    with pytest.raises(UserError):
        envfile.read(b"A='x'" + b" " * 2_000_000 + b"y", is_json=False)
