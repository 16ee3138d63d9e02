"""What a builder image says of itself, and how its lifecycle is asked to build: pure functions, nothing acts.

From the Cloud Native Buildpacks' specifications: Builder (labels, variables), Platform API 0.12 to 0.14 (arguments,
variables, exit statuses). The result is written as an OCI image layout, so that the build needs neither a registry nor
the engine's socket (`docs/adr/0017-buildpacks-export-a-layout.md`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from agent.builders.files import mapping, string
from agent.builders.project_toml import Wanted
from agent.docker.saved import full_name
from agent.errors import UserError
from agent.ports.images import ImageInfo

APP: Final = "/workspace"
PLATFORM: Final = "/platform"
LAYERS: Final = "/layers"
CACHE: Final = "/cache"
LAYOUTS: Final = "/layouts"
ORDER: Final = f"{LAYERS}/order.toml"

HOUSE: Final = "pushboat.local"
"""A registry that is never asked: the first part of names that are folders of `LAYOUTS`, and nothing else."""
RUN_IMAGE: Final = f"{HOUSE}/run:now"
RESULT: Final = f"{HOUSE}/app:now"
PREVIOUS: Final = f"{HOUSE}/app:before"

SPOKEN_APIS: Final = ("0.14", "0.13", "0.12")
"""Versions of the Platform API, best first. A layout can be asked for since 0.12."""

_METADATA: Final = "io.buildpacks.builder.metadata"
_APIS: Final = "io.buildpacks.lifecycle.apis"
_NUMBER = re.compile(r"[0-9]{1,9}")


class BuilderFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be known of a builder image."""

    user: int
    group: int
    """Whom its build runs as; never root."""
    api: str
    """The version of the Platform API to speak."""
    run_images: tuple[str, ...]
    """What apps run on: names of one image, in order of preference."""
    buildpacks: tuple[Wanted, ...]
    """Those it holds, with their versions."""


def facts_of(info: ImageInfo, *, image: str) -> BuilderFacts:
    """Return what the image called `image` says.

    Raises:
        UserError: ``builder.no-builder``, it is none; ``builder.other-api``, its lifecycle is too old or too new.
    """
    metadata = _json(info.labels.get(_METADATA, ""))
    user, group = (_number(info.env.get(name, "")) for name in ("CNB_USER_ID", "CNB_GROUP_ID"))
    run_images = _run_images(metadata)
    missing = [
        what
        for what, is_there in (
            (f"the label {_METADATA}", metadata),
            ("CNB_USER_ID (a number that is not root's)", user),
            ("CNB_GROUP_ID", group is not None),
            ("a run image in that label", run_images),
        )
        if not is_there
    ]
    if missing:
        raise UserError(
            "builder.no-builder",
            f"The image {image} is no builder of Cloud Native Buildpacks: it lacks {', '.join(missing)}.",
            "Set another: builder:set <app> builder-image <image>",
        )
    return BuilderFacts(
        user=user or 0,
        group=group or 0,
        api=_negotiated(info, metadata, image=image),
        run_images=run_images,
        buildpacks=tuple(
            Wanted(string(each.get("id")), string(each.get("version")))
            for each in map(mapping, _list(metadata.get("buildpacks")))
        ),
    )


def is_trusted(image: str, trusted: Sequence[str]) -> bool:
    """Tell whether `image` is one of `trusted`. A name there without tag or digest stands for all of them."""
    name = full_name(image)
    return any(name == full_name(each) or _repository(name) == _repository(each) == _short(each) for each in trusted)


def arguments(*, has_previous: bool, has_order: bool) -> tuple[str, ...]:
    """Return the arguments of the ``creator``: it does all phases of one build."""
    words = [
        *("-app", APP, "-platform", PLATFORM, "-layers", LAYERS, "-cache-dir", CACHE),
        *("-layout", "-layout-dir", LAYOUTS, "-run-image", RUN_IMAGE),
    ]
    if has_previous:
        words += ["-previous-image", PREVIOUS]
    if has_order:
        words += ["-order", ORDER]
    return (*words, RESULT)


def environment(facts: BuilderFacts) -> dict[str, str]:
    """Return what the lifecycle itself is told. What buildpacks are told comes as files (``<platform>/env``)."""
    # A layout is called experimental: the lifecycle refuses it unless told that one knows.
    return {"CNB_PLATFORM_API": facts.api, "CNB_EXPERIMENTAL_MODE": "quiet", "CNB_NO_COLOR": "true"}


def folder(name: str) -> str:
    """Return where the layout of one of our names is: ``<layouts>/<registry>/<repository>/<tag>``."""
    repository, _, tag = name.rpartition(":")
    return f"{LAYOUTS}/{repository}/{tag}"


def order_toml(group: Sequence[Wanted], facts: BuilderFacts, *, image: str) -> bytes:
    """Return the order of buildpacks that an app asks for, as the lifecycle reads it: every version is named.

    Raises:
        UserError: ``builder.no-buildpack``, the builder holds none of that name or version.
    """
    lines = ["[[order]]"]
    for wanted in group:
        held = [each for each in facts.buildpacks if each.id == wanted.id]
        found = next((each for each in held if wanted.version in ("", each.version)), None)
        if found is None:
            there = ", ".join(f"{each.id}@{each.version}" for each in held or facts.buildpacks) or "none"
            raise UserError(
                "builder.no-buildpack",
                f"The builder {image} has no buildpack {wanted.id}{wanted.version and f'@{wanted.version}'}.",
                f"It has: {there[:600]}",
            )
        # Ids and versions of labels are hostile as well; JSON's strings are TOML's.
        lines += ["[[order.group]]", f"id = {json.dumps(found.id)}", f"version = {json.dumps(found.version)}"]
    return "\n".join([*lines, ""]).encode()


def _negotiated(info: ImageInfo, metadata: Mapping[str, Any], *, image: str) -> str:
    apis = _json(info.labels.get(_APIS, "")) or mapping(mapping(metadata.get("lifecycle")).get("apis"))
    platform = mapping(apis.get("platform"))
    offered = {string(each) for key in ("supported", "deprecated") for each in _list(platform.get(key))}
    for version in SPOKEN_APIS:
        if version in offered:
            return version
    has = ", ".join(sorted(offered)) or "none that it tells"
    raise UserError(
        "builder.other-api",
        f"The lifecycle in {image} speaks the Platform API {has}; Pushboat speaks {', '.join(SPOKEN_APIS)}.",
        "Take a newer builder: docker pull renews one, builder:set <app> builder-image names another.",
    )


def _run_images(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    entries = [mapping(mapping(metadata.get("stack")).get("runImage")), *map(mapping, _list(metadata.get("images")))]
    for entry in entries:
        if image := string(entry.get("image")):
            return tuple(dict.fromkeys((image, *(string(each) for each in _list(entry.get("mirrors")) if each))))
    return ()


def _short(name: str) -> str:
    return name.removeprefix("docker.io/").removeprefix("library/")


def _repository(name: str) -> str:
    short = _short(name).partition("@")[0]
    head, slash, last = short.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def _json(text: str) -> Mapping[str, Any]:
    try:
        return mapping(msgspec.json.decode(text))
    except (msgspec.DecodeError, RecursionError):
        return {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None
