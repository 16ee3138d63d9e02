# Made by Pushboat.
# deno.lock, so Deno; web: deno run -A main.ts
# denoland/deno:2.9.3 has Deno 2.9.3, the default

FROM denoland/deno:2.9.3 AS build
ENV DENO_DIR=/opt/deno
ENV DENO_NO_UPDATE_CHECK=1
ENV DENO_NO_PROMPT=1
ENV NO_COLOR=1
WORKDIR /app
COPY deno.json deno.lock ./
RUN mkdir -p /opt/deno \
    && deno install --frozen
COPY . ./
RUN deno cache --frozen main.ts
RUN deno task build

FROM denoland/deno:2.9.3
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
CMD ["deno", "run", "-A", "main.ts"]
