# Made by Pushboat.
# mix.exs, so Elixir ~> 1.14 and the release shop; web: /app/bin/shop start
# elixir:1.18-slim has Elixir 1.18

FROM elixir:1.18-slim AS build
ENV MIX_ENV=prod
ENV LANG=C.UTF-8
WORKDIR /app
COPY . ./
RUN --mount=type=cache,target=/root/.hex --mount=type=cache,target=/root/.cache mix compile
RUN mix release --overwrite --path /opt/release

FROM elixir:1.18-slim
ENV MIX_ENV=prod
ENV LANG=C.UTF-8
RUN groupadd --gid 10001 pushboat \
    && useradd --uid 10001 --gid 10001 --create-home --skel /dev/null --home-dir /app pushboat
WORKDIR /app
ENV HOME=/app
COPY --from=build --chown=10001:10001 /opt/release /app
USER 10001:10001
ENTRYPOINT []
CMD ["/app/bin/shop", "start"]
