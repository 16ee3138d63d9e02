"""The examples of languages whose tools take minutes to install: ``scripts/torture languages``."""

from __future__ import annotations

import pytest

from tests.flow.test_languages import (
    ERLANG_STOPS_SECONDS,
    INSTALLS,
    KILLED,
    all_cached,
    cached,
    change,
    example,
    exit_status,
    harbour,
    pushed,
    runs_as,
)
from tests.support.rig import Rig

__all__ = ["harbour"]

pytestmark = [pytest.mark.real, pytest.mark.toolchains, pytest.mark.asyncio(loop_scope="module")]

MAVEN = "libmaven-jar-plugin-java libmaven-compiler-plugin-java libmaven-resources-plugin-java libsurefire-java"
"""Debian's own plugins of Maven."""
MIRROR = """<settings><mirrors><mirror>
<id>debian</id><mirrorOf>*</mirrorOf><url>file:///usr/share/maven-repo</url>
</mirror></mirrors></settings>
"""
"""Maven fetches them from there into its cache, as it does all else from its registry."""
ONLINE = "-s\n.mvn/settings.xml\n"
OFFLINE = f"{ONLINE}-o\n"


async def test_rust_with_a_vendored_crate(harbour: Rig) -> None:
    app = example(harbour, "rust", app="rust")
    said = await pushed(harbour, app)
    assert "with rust\n       Cargo.lock, so Rust with what is in vendor; web: /app/bin/hello\n" in said
    assert (await harbour.http("rust.localhost")).text == "Hello from Rust. This is version 1.\n"
    assert await runs_as(harbour, "rust") == "10001"
    await change(app, "src/main.rs")
    said = await pushed(harbour, app)
    assert cached(said, "echo 'fn main() {}'") and all_cached(said, INSTALLS)
    assert "Compiling hello" in said and "Compiling greeting" not in said
    assert (await harbour.http("rust.localhost")).text == "Hello from Rust. This is version 2.\n"
    assert await exit_status(harbour, "rust") != KILLED


async def test_elixir_as_a_release(harbour: Rig) -> None:
    app = example(harbour, "elixir", app="elixir")
    said = await pushed(harbour, app)
    why = "mix.exs, so Elixir ~> 1.14 and the release hello; web: /app/bin/hello start"
    assert f"with elixir\n       {why}\n" in said
    assert (await harbour.http("elixir.localhost")).text == "Hello from Elixir. This is version 1.\n"
    assert await runs_as(harbour, "elixir") == "10001"
    await change(app, "lib/hello.ex")
    said = await pushed(harbour, app)
    assert cached(said, "mix deps.compile") and all_cached(said, INSTALLS)
    assert (await harbour.http("elixir.localhost")).text == "Hello from Elixir. This is version 2.\n"
    assert await exit_status(harbour, "elixir", within=ERLANG_STOPS_SECONDS) == 0


async def test_java_with_maven(harbour: Rig) -> None:
    app = example(harbour, "java", app="java")
    app.write({".mvn/maven.config": ONLINE, ".mvn/settings.xml": MIRROR})
    await harbour.must("apps:create", "java")
    await harbour.must("builder:set", "java", "apt-packages", f"'{MAVEN}'")
    said = await pushed(harbour, app)
    assert "with java\n       pom.xml, so Java >=17 with Maven; web: java $JAVA_OPTS -jar" in said
    assert "To run: ./target/hello-1.0.jar" in said
    assert (await harbour.http("java.localhost")).text == "Hello from Java. This is version 1.\n"
    assert await runs_as(harbour, "java") == "10001"
    await change(app, "src/main/java/Hello.java")
    # Offline, Maven asks the mirror for nothing: what it fetched at the first push is in the app's cache.
    app.write({".mvn/maven.config": OFFLINE})
    said = await pushed(harbour, app)
    assert all_cached(said, INSTALLS) and "BUILD SUCCESS" in said
    assert (await harbour.http("java.localhost")).text == "Hello from Java. This is version 2.\n"
    # Java itself, which was told to end, and no shell before it.
    assert await exit_status(harbour, "java") == 143
