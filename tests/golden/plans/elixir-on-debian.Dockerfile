# Made by Pushboat.
# mix.exs, so Elixir and the release shop; web: /app/bin/shop start
# Elixir 1.14.0 of Debian's own packages, on debian:bookworm-slim

FROM debian:bookworm-slim AS base
RUN apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends ca-certificates libncurses6 libstdc++6 openssl > /dev/null \
    && rm -rf /var/lib/apt/lists/*

FROM base AS build
RUN apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends elixir erlang-dev erlang-nox git > /dev/null \
    && rm -rf /var/lib/apt/lists/*
ENV MIX_ENV=prod
ENV LANG=C.UTF-8
WORKDIR /app
COPY mix.exs ./
COPY deps/ deps/
RUN --mount=type=cache,target=/root/.hex --mount=type=cache,target=/root/.cache mix deps.compile
COPY . ./
RUN --mount=type=cache,target=/root/.hex --mount=type=cache,target=/root/.cache mix compile
RUN mix release --overwrite --path /opt/release

FROM base
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
