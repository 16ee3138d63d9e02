"""What is made of Java apps."""

from __future__ import annotations

import pytest

from agent.builders.java import Java
from agent.ports.images import BuildOptions
from tests.builders.sketching import DEBIAN, agrees, dockerfile, refusal, sketch, store, why

JAVA = Java()
POM = {"pom.xml": "<project><properties><maven.compiler.release>17</maven.compiler.release></properties></project>"}
SPRING = {
    "build.gradle.kts": 'plugins { id("org.springframework.boot") version "3" }\n// spring-boot\n'
    "java { toolchain { languageVersion = JavaLanguageVersion.of(17) } }",
    "gradlew": "",
    "gradle/wrapper/gradle-wrapper.jar": "",
}
RUN = 'java $JAVA_OPTS -jar "$(cat .pushboat-jar)"'


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("java-maven", POM),
        ("java-maven-wrapped", {**POM, "mvnw": "", ".mvn/wrapper/maven-wrapper.properties": ""}),
        ("java-gradle-spring", SPRING),
        ("java-gradle", {"build.gradle": "sourceCompatibility = '11'", "Procfile": "web: x"}),
    ],
)
async def test_the_dockerfile_reads_as_it_did(name: str, files: dict[str, str]) -> None:
    agrees(name, await dockerfile(JAVA, files))


async def test_on_debian_its_own_packages_do_for_maven() -> None:
    options, images = BuildOptions(base_image=DEBIAN), store(DEBIAN)
    agrees("java-on-debian", await dockerfile(JAVA, POM, options, images=images))


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (POM, f"pom.xml, so Java >=17 with Maven; web: {RUN}"),
        ({**POM, "mvnw": "", ".mvn/wrapper/maven-wrapper.properties": "", "Procfile": "web: x"},
         "pom.xml, so Java >=17 with its own Maven"),
        ({"pom.xml": "quarkus", "system.properties": "java.runtime.version=21.0.2\n"},
         "pom.xml and system.properties, so Java 21 with Maven; Quarkus, so web: java "
         '-Dquarkus.http.port="${PORT:-5000}" $JAVA_OPTS -jar "$(cat .pushboat-jar)"'),
        ({"pom.xml": "<java.version>1.8</java.version>", "Procfile": "web: x"}, "pom.xml, so Java >=8 with Maven"),
        ({**POM, ".java-version": "temurin-21.0.4+7\n", "Procfile": "web: x"},
         "pom.xml and .java-version, so Java 21 with Maven"),
        ({**POM, ".tool-versions": "java corretto-17.0.9.8.1\n", "Procfile": "web: x"},
         "pom.xml and .tool-versions, so Java 17 with Maven"),
        (SPRING, "build.gradle.kts, so Java 17 with its own Gradle; Spring Boot, so web: java "
         '-Dserver.port="${PORT:-5000}" $JAVA_OPTS -jar "$(cat .pushboat-jar)"'),
        ({"build.gradle": "targetCompatibility = JavaVersion.VERSION_1_8", "Procfile": "web: x"},
         "build.gradle, so Java >=8 with Gradle"),
        ({**POM, "web/pom.xml": "micronaut"}, "pom.xml, so Java >=17 with Maven; Micronaut, so web: java "
         '-Dmicronaut.server.port="${PORT:-5000}" $JAVA_OPTS -jar "$(cat .pushboat-jar)"'),
    ],
)  # fmt: skip
async def test_what_was_found_is_said(files: dict[str, str], says: str) -> None:
    assert await why(JAVA, files) == says


async def test_java_takes_the_place_of_the_shell_that_finds_the_jar() -> None:
    text = await dockerfile(JAVA, POM)
    assert f'CMD ["/bin/sh", "-c", "exec {RUN.replace(chr(34), chr(92) + chr(34))}"]' in text


async def test_an_older_java_than_what_is_compiled_for_is_not_taken() -> None:
    text = await dockerfile(JAVA, {"pom.xml": "<java.version>25</java.version>"})
    assert "FROM maven:3-eclipse-temurin-25 AS build" in text and "FROM eclipse-temurin:25-jre" in text


async def test_a_version_that_is_none_is_named() -> None:
    files = {**POM, ".java-version": "17; rm"}
    assert ".java-version asks for Java '17; rm', which is not a version" in await refusal(JAVA, files)


async def test_what_has_no_build_file_is_left_to_others() -> None:
    assert await sketch(JAVA, {"Main.java": "", "system.properties": ""}) is None
