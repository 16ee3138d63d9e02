"""What a builder image says of itself, and how its lifecycle is asked to build."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.builders import cnb
from agent.builders.cnb import BuilderFacts, facts_of
from agent.builders.project_toml import Wanted
from agent.errors import UserError
from agent.ports.images import ImageInfo

METADATA = {
    "stack": {"runImage": {"image": "house/run:1", "mirrors": ["mirror.example.com/run:1"]}},
    "buildpacks": [{"id": "house/go", "version": "1.0"}, {"id": "house/go", "version": "2.0"}],
}
APIS = {"platform": {"deprecated": ["0.11"], "supported": ["0.12", "0.13"]}}
ENV = {"CNB_USER_ID": "1000", "CNB_GROUP_ID": "1001"}


def image(metadata: Any = METADATA, apis: Any = APIS, env: dict[str, str] = ENV) -> ImageInfo:
    labels = {
        "io.buildpacks.builder.metadata": json.dumps(metadata),
        "io.buildpacks.lifecycle.apis": json.dumps(apis),
    }
    return ImageInfo(id="sha256:1", env=env, labels=labels)


def test_a_builder_says_whom_it_builds_as_and_what_apps_run_on() -> None:
    facts = facts_of(image(), image="house/builder:1")
    assert (facts.user, facts.group, facts.api) == (1000, 1001, "0.13")
    assert facts.run_images == ("house/run:1", "mirror.example.com/run:1")
    assert facts.buildpacks == (Wanted("house/go", "1.0"), Wanted("house/go", "2.0"))


def test_newer_builders_list_run_images_apart_and_may_have_their_apis_in_the_metadata() -> None:
    metadata = {"images": [{"image": "house/run:2"}, {"image": "house/run:3"}], "lifecycle": {"apis": APIS}}
    facts = facts_of(image(metadata, apis=None), image="house/builder:1")
    assert (facts.run_images, facts.api) == (("house/run:2",), "0.13")


@pytest.mark.parametrize(
    ("info", "says"),
    [
        (ImageInfo(id="sha256:1"), "is no builder of Cloud Native Buildpacks: it lacks the label"),
        (image(env={"CNB_USER_ID": "0", "CNB_GROUP_ID": "0"}), "lacks CNB_USER_ID (a number that is not root's)."),
        (image(env={"CNB_USER_ID": "1000"}), "lacks CNB_GROUP_ID."),
        (image(metadata={"buildpacks": []}), "lacks a run image in that label."),
        (
            image(apis={"platform": {"supported": ["0.9"]}}),
            "speaks the Platform API 0.9; Pushboat speaks 0.14",
        ),
        (image(apis="[["), "speaks the Platform API none that it tells"),
    ],
)
def test_an_image_that_cannot_build_says_why(info: ImageInfo, says: str) -> None:
    with pytest.raises(UserError) as refused:
        facts_of(info, image="house/builder:1")
    assert says in refused.value.message


@pytest.mark.parametrize(
    ("name", "trusted", "is_trusted"),
    [
        ("heroku/builder:24", "heroku/builder", True),
        ("docker.io/heroku/builder:24", "heroku/builder", True),
        ("heroku/builder@sha256:" + "0" * 64, "heroku/builder", True),
        ("heroku/builder:24", "heroku/builder:24", True),
        ("heroku/builder:22", "heroku/builder:24", False),
        ("heroku/builder-x:24", "heroku/builder", False),
        ("evil.example.com/heroku/builder:24", "heroku/builder", False),
        ("house:5000/builder:1", "house:5000/builder", True),
        ("house:5000/builder:1", "house", False),
    ],
)
def test_trust_is_by_the_whole_name(name: str, trusted: str, is_trusted: bool) -> None:
    assert cnb.is_trusted(name, [trusted]) is is_trusted


def test_the_creator_is_asked_for_a_layout_and_for_nothing_of_the_machine() -> None:
    words = cnb.arguments(has_previous=True, has_order=True)
    assert words == (
        *("-app", "/workspace", "-platform", "/platform", "-layers", "/layers", "-cache-dir", "/cache"),
        *("-layout", "-layout-dir", "/layouts", "-run-image", "pushboat.local/run:now"),
        *("-previous-image", "pushboat.local/app:before", "-order", "/layers/order.toml", "pushboat.local/app:now"),
    )
    assert "-previous-image" not in cnb.arguments(has_previous=False, has_order=False)
    assert cnb.folder(cnb.RESULT) == "/layouts/pushboat.local/app/now"


def facts() -> BuilderFacts:
    return facts_of(image(), image="house/builder:1")


def test_an_order_names_the_version_of_each_buildpack() -> None:
    order = cnb.order_toml([Wanted("house/go"), Wanted("house/go", "2.0")], facts(), image="house/builder:1").decode()
    assert order == (
        '[[order]]\n[[order.group]]\nid = "house/go"\nversion = "1.0"\n'
        '[[order.group]]\nid = "house/go"\nversion = "2.0"\n'
    )


def test_a_buildpack_that_the_builder_lacks_is_named_with_what_it_has() -> None:
    with pytest.raises(UserError) as refused:
        cnb.order_toml([Wanted("house/go", "3.0")], facts(), image="house/builder:1")
    assert refused.value.message == "The builder house/builder:1 has no buildpack house/go@3.0."
    assert refused.value.hint == "It has: house/go@1.0, house/go@2.0"
