"""Java apps: Maven or Gradle builds a jar, and a Java without a compiler runs it.

What these tools fetch stays in a cache of the app's, outside the image: which packages a build needs is known only to
its plugins, so there is no layer of them. The jar that is run is looked for when it was built.
"""

from __future__ import annotations

from typing import Final

import msgspec

from agent.builders.bases import Base
from agent.builders.files import Files
from agent.builders.java_manifests import JRE, Manifest, read_manifest, wanted_java
from agent.builders.language import Sketch
from agent.builders.plan import BuildPlan, BuildStage, Cache, Copy, CopyFrom, Run, Step, Workdir
from agent.builders.stages import APP, foundation, running, shown
from agent.ports.images import BuildOptions

JAR: Final = ".pushboat-jar"
"""The file that names the jar to run."""

_MEMORY: Final = "-XX:MaxRAMPercentage=70.0 -XX:+ExitOnOutOfMemoryError"
"""The heap is a share of what the container may have, and an app without memory ends and is started anew."""

_CACHES: Final = {"maven": Cache("maven", "/root/.m2"), "gradle": Cache("gradle", "/root/.gradle")}
_MANUALS: Final = (Run(("mkdir -p /usr/share/man/man1",)),)
"""Slim images have no folder for manuals, and Debian's Java does not install without one (Debian bug 863199)."""

_JARS: Final = (
    r"find . \( -path '*/target/*.jar' ! -path '*/target/*/*' -o -path '*/build/libs/*.jar' "
    r"-o -path '*/quarkus-app/quarkus-run.jar' \) "
    "! -name '*-sources.jar' ! -name '*-javadoc.jar' ! -name '*-tests.jar' ! -name '*-plain.jar' ! -name 'original-*'"
)
_RUNS: Final = (
    '(jar=$(realpath "$each") && cd "$(mktemp -d)" && jar xf "$jar" META-INF/MANIFEST.MF '
    "&& grep -q '^Main-Class:' META-INF/MANIFEST.MF) 2> /dev/null"
)
_FIND_JAR: Final = (
    # Of several, the one that holds the libraries too is the largest.
    f'{_JARS} | while read -r each; do if {_RUNS}; then stat -c "%s %n" "$each"; fi; done '
    f"| sort -nr | head -n 1 | cut -d ' ' -f 2- > {JAR}",
    f"{{ [ -s {JAR} ] || {{ echo 'The build left no jar in target or build/libs that says what to run (Main-Class). "
    "Say it in a Procfile, for instance: web: java -cp target/classes Main' >&2; exit 1; }; }",
    f'echo "To run: $(cat {JAR})"',
)


class Java:
    """Fulfils ``Language``."""

    name = "java"
    looks_for = "pom.xml, build.gradle or build.gradle.kts"
    markers: tuple[str, ...] = ("pom.xml", "build.gradle", "build.gradle.kts")

    async def sketch(self, files: Files, options: BuildOptions) -> Sketch | None:
        """See ``Language``."""
        manifest = await read_manifest(files)
        if manifest is None:
            return None
        need = await wanted_java(files, manifest.runtime, file=manifest.file)
        tool = ("its own " if manifest.has_wrapper else "") + manifest.tool.capitalize()
        why = f"{' and '.join(dict.fromkeys(filter(None, (manifest.file, need.said_in))))}, so {need} with {tool}"
        words: tuple[str, ...] = ()
        if not await files.has_processes():
            words = _web(manifest)
            said = f"{manifest.framework}, so web" if manifest.framework else "web"
            why = f"{why}; {said}: {shown(words)}"
        needs = (need, msgspec.structs.replace(need, runtime=JRE))

        def plan(bases: tuple[Base, ...]) -> BuildPlan:
            return _plan(bases, manifest, why=(why, *(base.why for base in bases)), words=words)

        return Sketch(why=why, needs=needs, plan=plan)


def _plan(bases: tuple[Base, ...], manifest: Manifest, *, why: tuple[str, ...], words: tuple[str, ...]) -> BuildPlan:
    jdk, jre = bases
    builders, start = foundation(jdk, name="jdk", before=_MANUALS if jdk.packages else ())
    runners, runs_on = foundation(jre, name="jre", before=_MANUALS if jre.packages else ())
    commands = [_build(manifest)]
    if words:
        commands += _FIND_JAR
    steps: list[Step] = [Workdir(APP), Copy(), Run(tuple(commands), (_CACHES[manifest.tool],))]
    last = running(
        runs_on,
        copies=[CopyFrom("build", APP, is_apps=True)],
        env={"JAVA_TOOL_OPTIONS": _MEMORY},
        command=words,
    )
    build = BuildStage(base=start, name="build", steps=tuple(steps))
    return BuildPlan(why=why, stages=(*builders, build, *runners, last))


def _build(manifest: Manifest) -> str:
    if manifest.tool == "maven":
        program = "sh ./mvnw" if manifest.has_wrapper else "mvn"
        return f"{program} --batch-mode --no-transfer-progress -Dstyle.color=never -DskipTests package"
    program = "sh ./gradlew" if manifest.has_wrapper else "gradle"
    task = "bootJar" if manifest.framework == "Spring Boot" else "assemble"
    return f"{program} --no-daemon --console=plain {task}"


def _web(manifest: Manifest) -> tuple[str, ...]:
    port = f'-D{manifest.port_property}="${{PORT:-5000}}" ' if manifest.port_property else ""
    return ("/bin/sh", "-c", f'exec java {port}$JAVA_OPTS -jar "$(cat {JAR})"')
