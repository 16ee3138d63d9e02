# Made by Pushboat.
# build.gradle.kts, so Java 17 with its own Gradle; Spring Boot, so web: java
#   -Dserver.port="${PORT:-5000}" $JAVA_OPTS -jar "$(cat .pushboat-jar)"
# eclipse-temurin:17-jdk has Java 17
# eclipse-temurin:17-jre has Java 17

FROM eclipse-temurin:17-jdk AS build
WORKDIR /app
COPY . ./
RUN --mount=type=cache,target=/root/.gradle sh ./gradlew --no-daemon --console=plain bootJar \
    && find . \( -path '*/target/*.jar' ! -path '*/target/*/*' -o -path '*/build/libs/*.jar' -o -path '*/quarkus-app/quarkus-run.jar' \) ! -name '*-sources.jar' ! -name '*-javadoc.jar' ! -name '*-tests.jar' ! -name '*-plain.jar' ! -name 'original-*' | while read -r each; do if (jar=$(realpath "$each") && cd "$(mktemp -d)" && jar xf "$jar" META-INF/MANIFEST.MF && grep -q '^Main-Class:' META-INF/MANIFEST.MF) 2> /dev/null; then stat -c "%s %n" "$each"; fi; done | sort -nr | head -n 1 | cut -d ' ' -f 2- > .pushboat-jar \
    && { [ -s .pushboat-jar ] || { echo 'The build left no jar in target or build/libs that says what to run (Main-Class). Say it in a Procfile, for instance: web: java -cp target/classes Main' >&2; exit 1; }; } \
    && echo "To run: $(cat .pushboat-jar)"

FROM eclipse-temurin:17-jre
ENV JAVA_TOOL_OPTIONS="-XX:MaxRAMPercentage=70.0 -XX:+ExitOnOutOfMemoryError"
RUN groupadd --gid 10001 pushboat \
    && useradd --uid 10001 --gid 10001 --create-home --skel /dev/null --home-dir /app pushboat
WORKDIR /app
ENV HOME=/app
COPY --from=build --chown=10001:10001 /app /app
USER 10001:10001
ENTRYPOINT []
CMD ["/bin/sh", "-c", "exec java -Dserver.port=\"${PORT:-5000}\" $JAVA_OPTS -jar \"$(cat .pushboat-jar)\""]
