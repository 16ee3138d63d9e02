# Made by Pushboat.
# mix.lock, so Elixir and the release shop; web: /app/bin/shop start
# elixir:1.18-slim has Elixir 1.18, the default

FROM elixir:1.18-slim AS build
RUN apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends build-essential git > /dev/null \
    && rm -rf /var/lib/apt/lists/*
ENV MIX_ENV=prod
ENV LANG=C.UTF-8
WORKDIR /app
RUN mix local.hex --force \
    && mix local.rebar --force
COPY mix.exs mix.lock ./
COPY deps/ deps/
COPY libs/a/ libs/a/
RUN --mount=type=cache,target=/root/.hex --mount=type=cache,target=/root/.cache mix deps.get --only prod \
    && mix deps.compile
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
