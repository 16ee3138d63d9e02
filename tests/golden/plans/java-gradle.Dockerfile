# Made by Pushboat.
# build.gradle, so Java >=11 with Gradle
# gradle:8-jdk21 has Java 21
# eclipse-temurin:21-jre has Java 21

FROM gradle:8-jdk21 AS build
WORKDIR /app
COPY . ./
RUN --mount=type=cache,target=/root/.gradle gradle --no-daemon --console=plain assemble

FROM eclipse-temurin:21-jre
ENV JAVA_TOOL_OPTIONS="-XX:MaxRAMPercentage=70.0 -XX:+ExitOnOutOfMemoryError"
RUN groupadd --gid 10001 pushboat \
    && useradd --uid 10001 --gid 10001 --create-home --skel /dev/null --home-dir /app pushboat
WORKDIR /app
ENV HOME=/app
COPY --from=build --chown=10001:10001 /app /app
USER 10001:10001
ENTRYPOINT []
