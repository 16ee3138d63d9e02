# Made by Pushboat.
# deno.lock and .deno-version, so Deno 1.46.3; web: deno run --allow-env --allow-net --allow-read
#   main.ts
# denoland/deno:1.46.3 has Deno 1.46.3

FROM denoland/deno:1.46.3 AS build
ENV DENO_DIR=/opt/deno
ENV DENO_NO_UPDATE_CHECK=1
ENV DENO_NO_PROMPT=1
ENV NO_COLOR=1
WORKDIR /app
COPY deno.json deno.lock ./
RUN mkdir -p /opt/deno
COPY . ./
RUN deno cache --frozen main.ts

FROM denoland/deno:1.46.3
ENV DENO_DIR=/opt/deno
ENV DENO_NO_UPDATE_CHECK=1
ENV DENO_NO_PROMPT=1
RUN groupadd --gid 10001 pushboat \
    && useradd --uid 10001 --gid 10001 --create-home --skel /dev/null --home-dir /app pushboat
WORKDIR /app
ENV HOME=/app
COPY --from=build --chown=10001:10001 /opt/deno /opt/deno
COPY --from=build --chown=10001:10001 /app /app
USER 10001:10001
ENTRYPOINT []
CMD ["deno", "run", "--allow-env", "--allow-net", "--allow-read", "main.ts"]
