"""What is built on: official images, Debian's packages where no registry can be reached, or what was set."""

from __future__ import annotations

import re

import pytest

from agent.builders.bases import Base, Bases, Need
from agent.builders.go import Go
from agent.builders.java import Java
from agent.builders.language import Language, LanguageBuilder
from agent.builders.node import Node
from agent.builders.php import Php
from agent.builders.python import Python
from agent.builders.python_manifests import PYTHON
from agent.builders.versions import parse_range
from agent.docker.build_limits import BuildLimits
from agent.docker.engine import Engine
from agent.errors import UserError
from agent.ports.images import BuildOptions, BuildRequest, ImageInfo
from agent.ports.registries import Login
from agent.ports.world import Say
from proto.names import AppId, DeployId
from tests.builders.sketching import dockerfile, store
from tests.fakes.images import FakeImages
from tests.fakes.source import FakeTree

UNREACHABLE = "The image could not be fetched: dial tcp: lookup registry on 10.0.0.1:53: no such host"
ABSENT = "The image could not be fetched: manifest unknown"


class Registry(FakeImages):
    """A store whose registry answers one thing."""

    def __init__(self, answer: str, *images: str, code: str = "image.not-found") -> None:
        super().__init__()
        self._answer = answer
        self._code = code
        self.asked: list[str] = []
        self.logins: list[Login | None] = []
        for image in images:
            self.have(ImageInfo(id=image), image)

    async def pull(self, reference: str, say: Say, *, login: Login | None = None) -> ImageInfo:
        self.asked.append(reference)
        self.logins.append(login)
        if self._answer:
            raise UserError(self._code, self._answer)
        self.have(ImageInfo(id=reference), reference)
        return self.by_id[reference]


def python(wanted: str = "") -> Need:
    return Need(runtime=PYTHON, wanted=parse_range(wanted), said_in=".python-version" if wanted else "")


async def found(images: FakeImages, wanted: str = "", *, chosen: str = "", said: list[str] | None = None) -> Base:
    say = said.append if said is not None else lambda line: None
    return await Bases(images).find(python(wanted), chosen=chosen, app="blog", say=say)


async def refusal(images: FakeImages, wanted: str = "", *, chosen: str = "") -> str:
    with pytest.raises(UserError) as refused:
        await found(images, wanted, chosen=chosen)
    assert refused.value.code == "base.none"
    return f"{refused.value.message} {refused.value.hint}"


async def test_an_official_image_that_is_there_is_taken() -> None:
    base = await found(store("python:3.12-slim-bookworm"), "3.12")
    assert (base.image, base.packages) == ("python:3.12-slim-bookworm", None)


async def test_else_it_is_fetched_in_the_wanted_version() -> None:
    registry = Registry("")
    assert (await found(registry, ">=3.9,<3.12")).image == "python:3.11-slim-bookworm"
    assert (await found(registry, "3.12.4")).image == "python:3.12.4-slim-bookworm"
    assert registry.asked == ["python:3.11-slim-bookworm", "python:3.12.4-slim-bookworm"]


async def test_it_is_fetched_as_whom_its_registry_knows() -> None:
    registry = Registry("")
    login = Login(server="registry.example.com", user="ada", password="x")
    need, logins = python(), {login.server: login}
    for chosen in ("registry.example.com/house/debian:bookworm", "other.example.com/house/debian:bookworm", ""):
        await Bases(registry).find(need, chosen=chosen, app="blog", say=print, logins=logins)
    assert registry.logins == [login, None, None]


async def test_without_a_registry_debians_own_packages_do_and_it_is_said_once_a_build() -> None:
    registry, said = Registry(UNREACHABLE, "debian:bookworm-slim"), list[str]()
    bases = Bases(registry)
    for _ in range(2):
        base = await bases.find(python(">=3.10"), chosen="", app="blog", say=said.append)
        assert (base.image, base.version, base.needed_to_run()) == ("debian:bookworm-slim", "3.11.2", ("python3",))
    assert said == 2 * ["       python:3.13-slim-bookworm cannot be had, as its registry cannot be reached"]
    assert len(registry.asked) == 1  # it is not asked again for a while


async def test_what_was_chosen_is_told_by_its_version_and_whether_it_is_the_default() -> None:
    assert (await found(Registry(""))).why == "python:3.13-slim-bookworm has Python 3.13, the default"
    assert (await found(Registry(""), "<3.13")).why == "python:3.12-slim-bookworm has Python 3.12"
    assert (await found(Registry(""), "3.12.4")).why == "python:3.12.4-slim-bookworm has Python 3.12.4"
    debian = await found(Registry(UNREACHABLE, "debian:bookworm-slim"))
    assert debian.why == "Python 3.11.2 of Debian's own packages, on debian:bookworm-slim"
    mine = await found(store("mine:1", PYTHON_VERSION="3.12.8"), chosen="mine:1")
    assert mine.why == "mine:1 has Python 3.12.8"


async def test_a_build_says_each_version_that_it_takes_once_and_keeps_quiet_about_what_has_none() -> None:
    async def said(language: Language, files: dict[str, str]) -> list[str]:
        lines = list[str]()
        async with Engine.open("unix:///none.sock", instance="t") as engine:
            builder = LanguageBuilder(engine, Registry(""), BuildLimits(engine, memory_bytes=0), language=language)
            tree = FakeTree("1" * 40, {name: text.encode() for name, text in files.items()})
            await builder.dockerfile(tree, BuildOptions(), lines.append)
        return lines

    assert await said(Go(), {"go.mod": "module x", "main.go": "package main"}) == [
        "       golang:1.25-bookworm has Go 1.25, the default"
    ]
    assert await said(Java(), {"pom.xml": "<java.version>17</java.version>"}) == [
        "       maven:3-eclipse-temurin-21 has Java 21",
        "       eclipse-temurin:21-jre has Java 21",
    ]
    composed = await said(Php(), {"composer.json": "{}", "index.php": "", ".php-version": "8.3"})
    assert composed[-2:] == [
        "       php:8.3-apache-bookworm has PHP 8.3",
        "       composer:2 has Composer 2, the default",
    ]


async def test_the_debian_that_has_the_version_is_taken() -> None:
    registry = Registry(UNREACHABLE, "debian:bookworm-slim", "debian:trixie-slim")
    assert (await found(registry, "3.13")).image == "debian:trixie-slim"


async def test_a_version_that_nothing_has_is_named_with_what_is_there_and_what_to_do() -> None:
    text = await refusal(Registry(UNREACHABLE, "debian:bookworm-slim"), "3.12")
    assert text.startswith("The app wants Python 3.12 (.python-version), and there is nothing to build that on: ")
    assert "python:3.12-slim-bookworm cannot be had, as its registry cannot be reached" in text
    assert "builder:set blog base-image <image>" in text and "3.11.2 (bookworm)" in text
    assert "manifest unknown" in await refusal(Registry(ABSENT), "3.99")
    assert "known are 3.13, 3.12" in await refusal(Registry(""), "<3")


async def test_a_registry_that_is_busy_is_told_as_that_and_asked_again_by_the_next_build() -> None:
    registry = Registry("The registry docker.io is too busy", "debian:bookworm-slim", code="registry.busy")
    bases = Bases(registry)
    for _ in range(2):
        with pytest.raises(UserError, match="too busy") as refused:
            await bases.find(python(), chosen="", app="blog", say=print)
        assert refused.value.code == "registry.busy", "neither that there is none, nor another image in its place"
    assert len(registry.asked) == 2


async def test_the_image_that_was_set_is_taken_if_it_has_the_version() -> None:
    mine = store("mine:1", PYTHON_VERSION="3.12.8")
    assert (await found(mine, "3.12", chosen="mine:1")).packages is None
    assert "the base image mine:1 has Python 3.12.8" in await refusal(mine, "3.11", chosen="mine:1")
    debian = store("house/debian:bookworm")
    assert (await found(debian, chosen="house/debian:bookworm")).needed_to_build() == ("python3-venv",)
    text = await refusal(debian, "3.12", chosen="house/debian:bookworm")
    assert "the Debian of the base image house/debian:bookworm has Python 3.11.2" in text
    assert "no variable PYTHON_VERSION" in await refusal(store("mine:2"), chosen="mine:2")


async def test_an_image_that_was_set_and_is_not_there_is_fetched() -> None:
    registry = Registry("", "x")
    assert (await found(registry, chosen="house/bookworm:1")).image == "house/bookworm:1"


@pytest.mark.parametrize(
    ("language", "files"),
    [
        (Python(), {"requirements.txt": "", "Procfile": "web: x"}),
        (Node(), {"package.json": "{}", "Procfile": "web: x"}),
        (Go(), {"go.mod": "module x", "main.go": "package main"}),
    ],
    ids=lambda it: getattr(it, "name", ""),
)
async def test_more_debian_packages_are_there_to_build_and_to_run(language: Language, files: dict[str, str]) -> None:
    text = await dockerfile(language, files, BuildOptions(apt_packages=("ffmpeg", "libpq-dev")))
    assert " ffmpeg libpq-dev > /dev/null" in text
    last = [line.split()[1] for line in text.splitlines() if line.startswith("FROM ")][-1]
    assert last in ("base", "runtime")
    assert "ffmpeg" not in await dockerfile(language, files)


async def test_folders_of_package_managers_are_an_apps_own_and_other_ones_once_its_cache_was_purged() -> None:
    async def folders(app: str, epoch: str) -> list[str]:
        async with Engine.open("unix:///none.sock", instance="t") as engine:
            builder = LanguageBuilder(engine, Registry(""), BuildLimits(engine, memory_bytes=0), language=Go())
            request = BuildRequest(
                app=AppId(app),
                app_name="blog",
                deploy=DeployId("d1"),
                tag="t",
                labels={},
                source=FakeTree("1" * 40, {"go.mod": b"module x", "main.go": b"package main"}),
                options=BuildOptions(cache_epoch=epoch),
            )
            prepared = await builder._prepare(request, lambda line: None)
        return re.findall(r"type=cache,id=([^,]*)", prepared.content.decode())

    for app, epoch in (("ablog", ""), ("ablog", "d7"), ("ashop", "")):
        found = await folders(app, epoch)
        assert found and all(name.startswith(f"{app}{epoch}-") for name in found)
