"""What a Java app's manifests say: who builds it, for which Java, and what kind of server comes of it.

Build files are searched with patterns: pom.xml is XML by hostile hands, and Gradle's are programs.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from agent.builders.bases import Need, Packages, Runtime
from agent.builders.files import Files
from agent.builders.version_files import asked, first_line, tool_version

_VERSIONS: Final = ("21", "25", "17", "11", "8")
_DEBIAN_JDK: Final = {
    "bookworm": Packages(version="17", run=("default-jdk-headless",)),
    "trixie": Packages(version="21", run=("default-jdk-headless",)),
}
JDK: Final = Runtime(
    title="Java",
    official="eclipse-temurin:{}-jdk",
    variable="JAVA_VERSION",
    offered=_VERSIONS,
    debian=_DEBIAN_JDK,
)
"""With what compiles, for builds that bring their own tool (mvnw, gradlew)."""
MAVEN: Final = Runtime(
    title="Java",
    official="maven:3-eclipse-temurin-{}",
    variable="JAVA_VERSION",
    offered=_VERSIONS,
    debian={
        name: Packages(version=each.version, run=(*each.run, "maven")) for name, each in _DEBIAN_JDK.items()
    },
)  # fmt: skip
GRADLE: Final = Runtime(
    title="Java", official="gradle:8-jdk{}", variable="JAVA_VERSION", offered=_VERSIONS[:1] + _VERSIONS[2:], debian={}
)
"""Debian's Gradle is of 2018."""
JRE: Final = Runtime(
    title="Java",
    official="eclipse-temurin:{}-jre",
    variable="JAVA_VERSION",
    offered=_VERSIONS,
    debian={
        "bookworm": Packages(version="17", run=("default-jre-headless",)),
        "trixie": Packages(version="21", run=("default-jre-headless",)),
    },
)
"""What the app runs on."""

MAX_BUILD_FILES: Final = 40
"""Build files of modules that are looked into."""

_SERVERS: Final = {
    "spring-boot": ("Spring Boot", "server.port"),
    "quarkus": ("Quarkus", "quarkus.http.port"),
    "micronaut": ("Micronaut", "micronaut.server.port"),
    "helidon": ("Helidon", "server.port"),
}
_POM_VERSION = re.compile(
    r"<(?:maven\.compiler\.(?:release|target|source)|java\.version|release)>\s*([0-9.]{1,8})\s*</"
)
_TOOLCHAIN = re.compile(r"JavaLanguageVersion\.of\(\s*([0-9]{1,3})\s*\)|\bjvmToolchain\(\s*([0-9]{1,3})\s*\)")
_COMPATIBILITY = re.compile(
    r"(?:source|target)Compatibility\s*=\s*(?:JavaVersion\.VERSION_)?[\"']?([0-9]{1,2}(?:[._][0-9]{1,2})?)\b"
)
_PROPERTY = re.compile(r"^\s*java\.runtime\.version\s*[=:]\s*(\S{1,40})\s*$", re.MULTILINE)
_NUMBER = re.compile(r"(?:[a-z]+-)*(?:1\.(?=8))?([0-9]{1,3}(?:\.[0-9]{1,4}){0,2})(?:[._+-].*)?")
_GRADLE_JAR: Final = "gradle/wrapper/gradle-wrapper.jar"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Who builds it, and what comes of it."""

    tool: str
    """``maven`` or ``gradle``."""
    file: str
    """What decided it."""
    has_wrapper: bool
    """Whether the app brings the tool."""
    framework: str = ""
    """``Spring Boot``, or empty."""
    port_property: str = ""
    """The system property that tells it where to listen."""

    @property
    def runtime(self) -> Runtime:
        """What it is built on."""
        if self.has_wrapper:
            return JDK
        return MAVEN if self.tool == "maven" else GRADLE


async def read_manifest(files: Files) -> Manifest | None:
    """Return what a Java app's manifests say; `None`: it is none.

    Raises:
        UserError: ``manifest.invalid``.
    """
    file = files.first("pom.xml", "build.gradle.kts", "build.gradle")
    if not file:
        return None
    tool = "maven" if file == "pom.xml" else "gradle"
    # The jar of the wrapper is often kept out of repositories of Maven, which then fetches it; Gradle's cannot be.
    parts = ("mvnw", ".mvn/wrapper/maven-wrapper.properties") if tool == "maven" else ("gradlew", _GRADLE_JAR)
    text = "\n".join([await files.text(name) for name in _build_files(files, file)])
    framework, port = next((known for word, known in _SERVERS.items() if word in text), ("", ""))
    return Manifest(tool=tool, file=file, has_wrapper=files.has(*parts), framework=framework, port_property=port)


async def wanted_java(files: Files, runtime: Runtime, *, file: str) -> Need:
    """Return the Java that the app wants, of `runtime`. `file`: the build file.

    Raises:
        UserError: ``manifest.invalid``, what asks for it is no version.
    """
    said = _PROPERTY.search(await files.text("system.properties"))
    in_tools, tools = await tool_version(files, "java")
    for name, text in (
        ("system.properties", said[1] if said else ""),
        (".java-version", await first_line(files, ".java-version")),
        (tools, in_tools),
    ):
        if text:
            number = _NUMBER.fullmatch(text)
            return asked(files, runtime, file=name, text=_major(number[1]) if number else text)
    text = await files.text(file)
    if file != "pom.xml" and (exact := _TOOLCHAIN.search(text)):
        return asked(files, runtime, file=file, text=exact[1] or exact[2])
    least = (_POM_VERSION if file == "pom.xml" else _COMPATIBILITY).search(text)
    if least:
        version = least[1].replace("_", ".").removeprefix("1.")
        return asked(files, runtime, file=file, text=f">={version}")
    return Need(runtime=runtime)


def _major(version: str) -> str:
    """Return what is asked for of a version: images of just one patch level are seldom kept, and hold known holes."""
    return version.partition(".")[0]


def _build_files(files: Files, first: str) -> list[str]:
    """Return the build files of the app and of its modules."""
    name = first.rpartition("/")[2]
    others = [each for each in files.names if each.endswith(f"/{name}") and each.count("/") <= 2]
    more = ["gradle.properties"] if files.has("gradle.properties") else []
    return [first, *more, *sorted(others)][:MAX_BUILD_FILES]
