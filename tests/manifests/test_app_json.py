from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import UserError
from agent.manifests.app_env import MAX_VALUE, EnvVariable
from agent.manifests.app_json import MAX_ATTEMPTS, MAX_QUANTITY, parse_app_json
from agent.manifests.app_scripts import Scripts
from agent.manifests.commented import parse_commented
from agent.manifests.reader import MAX_SECONDS
from agent.ports.scheduler import CheckSpec


def test_comments_and_trailing_commas_are_read_over() -> None:
    parsed = parse_app_json(
        b"""{ // of ours
          "name": "a // no comment, /* nor this */ ,]",
          /* two
             lines */
          "formation": { "web": { "quantity": 2, }, },
        }"""
    )
    assert parsed.quantities == {"web": 2}
    assert parsed.notes == ("Pushboat does nothing with name of app.json.",)


def test_each_kind_of_check_is_told_by_its_keys() -> None:
    web = [
        {"path": "/health", "content": "ok", "httpHeaders": [{"name": "X-A", "value": "b"}], "scheme": "https"},
        {"command": ["./check", "-q"], "attempts": 9, "timeout": 1.5, "wait": 0, "initialDelay": 2},
        {"listening": True, "port": 8080, "warn": True},
        {"type": "startup", "uptime": 3, "name": "stays"},
        {},
    ]
    parsed = parse_app_json(json.dumps({"healthchecks": {"web": web}}).encode())
    assert parsed.checks["web"] == (  # type: ignore[index]
        CheckSpec(kind="path", path="/health", content="ok", headers=(("X-A", "b"),), scheme="https"),
        CheckSpec(kind="command", command=("./check", "-q"), attempts=9, timeout=1.5, wait=0.0, initial_delay=2.0),
        CheckSpec(kind="listening", port=8080, is_warning=True),
        CheckSpec(kind="uptime", uptime=3.0, name="stays"),
        CheckSpec(kind="uptime", uptime=10.0),
    )


def test_what_is_not_acted_on_is_named() -> None:
    parsed = parse_app_json(
        b"""{"cron": [], "scripts": {"test": "x", "predeploi": "x"}, "frobnicate": 1,
             "stack": "heroku-22", "formation": {"web": {"max_parallel": 2}},
             "healthchecks": {"web": [{"type": "liveness", "path": "/"}, {"path": "/", "onFailure": {}}]}}"""
    )
    assert parsed.notes == (
        "Pushboat does nothing with stack of app.json.",
        "Pushboat does not act on cron of app.json yet.",
        "Pushboat does not know frobnicate of app.json.",
        "Pushboat runs no liveness checks yet: healthchecks.web[0] of app.json is left out.",
        "Pushboat does not act on healthchecks.web[1].onFailure of app.json yet.",
        "Pushboat does not act on scripts.test of app.json.",
        "Pushboat does not know scripts.predeploi of app.json.",
    )
    assert len(parsed.checks) == 1
    assert parsed.quantities == {}


def test_every_key_of_herokus_schema_is_acted_on_or_named() -> None:
    """https://devcenter.heroku.com/articles/app-json-schema, with each key that it documents."""
    parsed = parse_app_json(
        b"""{
          "name": "Small Sharp Tool", "description": "This app does one little thing.", "keywords": ["productivity"],
          "website": "https://small-sharp-tool.com/", "repository": "https://example.com/sst", "logo": "https://x/l.svg",
          "success_url": "/welcome", "stack": "heroku-24", "image": "heroku/ruby",
          "scripts": {"postdeploy": {"command": "bundle exec rake bootstrap", "size": "eco"}, "pr-predestroy": "./end"},
          "env": {"SECRET_TOKEN": {"description": "signs", "generator": "secret"},
                  "WEB_CONCURRENCY": {"description": "processes", "value": "5"},
                  "SENTRY_DSN": {"required": false}},
          "formation": {"web": {"quantity": 2, "size": "standard-1x"}},
          "addons": ["openredis", {"plan": "mongolab:shared-single-small", "as": "MONGO"}],
          "buildpacks": [{"url": "https://example.com/buildpack"}],
          "environments": {"test": {"scripts": {"test": "bundle exec rake test"}}}
        }"""
    )
    assert parsed.notes == (
        "Pushboat does nothing with name, description, keywords, website, repository, logo, success_url, stack, image, "
        "addons, environments of app.json.",
        "Pushboat does not act on buildpacks of app.json yet.",
        "Pushboat has no sizes: formation.web.size of app.json is left out. For limits: resource:limit",
        "Pushboat does not act on scripts.pr-predestroy of app.json.",
        "Pushboat does not act on scripts.postdeploy.size of app.json.",
    )
    assert parsed.quantities == {"web": 2}
    assert parsed.scripts == Scripts(setup="bundle exec rake bootstrap")
    assert parsed.env == (
        EnvVariable(key="SECRET_TOKEN", description="signs", is_generated=True),
        EnvVariable(key="WEB_CONCURRENCY", description="processes", value="5"),
        EnvVariable(key="SENTRY_DSN", is_required=False),
    )


def test_formation_says_how_many_and_how_many_at_once() -> None:
    parsed = parse_app_json(
        b"""{"formation": {"web": {"quantity": 4, "max_parallel": 2}, "worker": {"max_parallel": -1}, "cron": {}}}"""
    )
    assert parsed.quantities == {"web": 4}
    assert parsed.batches == {"web": 2, "worker": -1}
    assert parsed.notes == ()


def test_scripts_are_read_under_every_name() -> None:
    parsed = parse_app_json(
        b"""{"scripts": {"dokku": {"predeploy": "a", "postdeploy": "b"}, "pushboat": {"postdeploy": "c"},
             "postdeploy": {"command": "d", "size": "standard-1x"}}}"""
    )
    assert parsed.scripts == Scripts(predeploy="a", postdeploy="c", setup="d")
    assert parsed.notes == (
        "scripts.dokku.predeploy of app.json is run, and files that it changes are not kept: "
        "what has to be in the image belongs into the build.",
        "postdeploy of scripts.pushboat in app.json takes the place of Dokku's.",
        "Pushboat does not act on scripts.postdeploy.size of app.json.",
    )
    assert parse_app_json(b'{"scripts": {"postdeploy": " ./seed  --all "}}').scripts == Scripts(setup="./seed  --all")


def test_env_is_read_in_its_short_and_its_long_form() -> None:
    parsed = parse_app_json(
        b"""{"env": {"A": "1", "B": {"description": "What B is", "value": "2", "sync": true},
             "C": {"generator": "secret"}, "D": {"required": false}, "E": {}}}"""
    )
    assert parsed.env == (
        EnvVariable(key="A", value="1"),
        EnvVariable(key="B", value="2", description="What B is", is_synced=True),
        EnvVariable(key="C", is_generated=True),
        EnvVariable(key="D", is_required=False),
        EnvVariable(key="E"),
    )
    assert parsed.notes == ()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{\n\n  'a': 1}", "Line 3 of app.json is not JSON"),
        ('{"a": 1,\n"b" 2}', "Line 2 of app.json is not JSON"),
        ("[]", "app.json must be an object"),
        ("", "Line 1 of app.json is not JSON"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"formation": {}, "formation": {}}', "'formation' stands twice"),
        ("[" * 100_000, "app.json"),
        ('{"formation": []}', "formation in app.json must be an object"),
        ('{"formation": {"w b": {}}}', "formation.w b in app.json is not the name of a process type"),
        ('{"formation": {"web": {"quantity": -1}}}', r"formation.web.quantity in app.json must be a whole number"),
        ('{"formation": {"web": {"quantity": true}}}', "must be a whole number"),
        ('{"formation": {"web": {"max_parallel": 0}}}', "max_parallel in app.json must be 1 or more, or -1 for all"),
        ('{"formation": {"web": {"max_parallel": "2"}}}', "max_parallel in app.json must be a whole number"),
        ('{"formation": {"web": {"quantity": 1e9}}}', "must be a whole number"),
        ('{"formation": {"web": {"quantitiy": 1}}}', "formation.web.quantitiy in app.json is not known; known are"),
        ('{"healthchecks": {"web": {}}}', "healthchecks.web in app.json must be a list"),
        ('{"healthchecks": {"web": [{"atempts": 1}]}}', r"healthchecks.web\[0\].atempts in app.json is not known"),
        ('{"healthchecks": {"web": [{"attempts": 0}]}}', "attempts in app.json must be a whole number from 1"),
        ('{"healthchecks": {"web": [{"timeout": "5"}]}}', "timeout in app.json must be a number of seconds"),
        ('{"healthchecks": {"web": [{"timeout": 1e999}]}}', "timeout in app.json must be a number of seconds"),
        ('{"healthchecks": {"web": [{"path": "health"}]}}', "path in app.json must begin with /"),
        ('{"healthchecks": {"web": [{"path": "/a\\r\\nX: y"}]}}', "path in app.json must begin with /"),
        ('{"healthchecks": {"web": [{"path": "/", "uptime": 1}]}}', "asks for path and uptime at once"),
        ('{"healthchecks": {"web": [{"command": "x"}]}}', "command in app.json must be a list of texts"),
        ('{"healthchecks": {"web": [{"command": []}]}}', "command in app.json must not be empty"),
        ('{"healthchecks": {"web": [{"type": "x"}]}}', "type in app.json must be startup"),
        ('{"healthchecks": {"web": [{"port": 65536}]}}', "port in app.json must be a whole number from 0 to 65535"),
        ('{"healthchecks": {"web": [{"scheme": "ftp"}]}}', "scheme in app.json must be http or https"),
        ('{"healthchecks": {"web": [{"path":"/","httpHeaders": [{"name": "a b"}]}]}}', "must be the name of an HTTP"),
        ('{"healthchecks": {"web": [{"path":"/","httpHeaders": [{"name":"a","value":"b\\n"}]}]}}', "plain text"),
        ('{"scripts": "x"}', "scripts in app.json must be an object"),
        ('{"scripts": {"dokku": {"predeploi": "x"}}}', "scripts.dokku.predeploi in app.json is not known"),
        ('{"scripts": {"pushboat": {"predeploy": ["x"]}}}', "scripts.pushboat.predeploy in app.json must be a text"),
        ('{"scripts": {"pushboat": {"predeploy": " "}}}', "scripts.pushboat.predeploy in app.json must be a command"),
        ('{"scripts": {"postdeploy": "a\\nb"}}', "scripts.postdeploy in app.json must be a command on one line"),
        ('{"scripts": {"postdeploy": {"command": "a", "x": 1}}}', "scripts.postdeploy.x in app.json is not known"),
        ('{"env": ["A"]}', "env in app.json must be an object"),
        ('{"env": {"A B": "x"}}', "env.A B in app.json is no name of a variable"),
        ('{"env": {"A": 1}}', "env.A in app.json must be a text"),
        ('{"env": {"A": {"value": true}}}', "env.A.value in app.json must be a text"),
        ('{"env": {"A": {"generator": "uuid"}}}', 'env.A.generator in app.json must be "secret"'),
        ('{"env": {"A": {"requird": true}}}', "env.A.requird in app.json is not known"),
        ('{"env": {"A": "a\\u0000b"}}', "env.A in app.json must be at most"),
    ],
)
def test_a_mistake_is_named_with_its_place(content: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as refused:
        parse_app_json(content.encode())
    assert refused.value.code == "manifest.invalid"


def test_text_that_is_not_utf8_is_named_with_its_line() -> None:
    with pytest.raises(UserError, match=r"Line 2 of x\.json is not UTF-8"):
        parse_commented(b'{\n"a": "\xff"}', name="x.json")


@pytest.mark.parametrize("piece", [b"/*", b'\\"', b'"\\"', b", ", b"//", b"[", b"/"])
def test_a_flood_of_openings_is_refused_at_once(piece: bytes) -> None:
    """Quadratic work would take many minutes here."""
    for start in (b"", b'"', b"{"):
        with pytest.raises(UserError):
            parse_commented(start + piece * (200_000 // len(piece)), name="x")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.slow
@given(_json)
def test_plain_json_means_what_it_means_without_comments(value: object) -> None:
    assert parse_commented(json.dumps(value, ensure_ascii=False).encode(), name="x") == value


_keys = st.sampled_from(
    [
        "dokku",
        "predeploy",
        "postdeploy",
        "value",
        "web",
        "path",
        "command",
        "attempts",
        "uptime",
        "type",
        "listening",
        "x",
    ]
)
_shapes = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(["env", "formation", "healthchecks", "scripts", "x"]), _shapes))
def test_any_shape_is_parsed_or_refused(value: object) -> None:
    try:
        parse_app_json(json.dumps(value).encode())
    except UserError as refused:
        assert "app.json" in refused.message


@pytest.mark.parametrize(
    ("text", "most", "past"),
    [
        ('{"formation": {"web": {"quantity": %s}}}', MAX_QUANTITY, MAX_QUANTITY + 1),
        ('{"formation": {"web": {"max_parallel": %s}}}', MAX_QUANTITY, MAX_QUANTITY + 1),
        ('{"healthchecks": {"web": [{"attempts": %s}]}}', MAX_ATTEMPTS, MAX_ATTEMPTS + 1),
        ('{"healthchecks": {"web": [{"timeout": %s}]}}', MAX_SECONDS, MAX_SECONDS + 0.001),
        ('{"healthchecks": {"web": [{"initialDelay": %s}]}}', MAX_SECONDS, MAX_SECONDS + 0.001),
        ('{"env": {"KEY": "%s"}}', "x" * MAX_VALUE, "x" * (MAX_VALUE + 1)),
    ],
)
def test_at_the_limit_it_is_read_and_one_past_it_refused(text: str, most: object, past: object) -> None:
    assert parse_app_json((text % most).encode())
    with pytest.raises(UserError, match="must be"):
        parse_app_json((text % past).encode())
