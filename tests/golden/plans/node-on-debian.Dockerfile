# Made by Pushboat.
# package-lock.json, so Node with npm; web: node server.js
# Node 18.20.4 of Debian's own packages, on debian:bookworm-slim

FROM debian:bookworm-slim AS base
RUN apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends ca-certificates nodejs > /dev/null \
    && rm -rf /var/lib/apt/lists/*

FROM base AS build
RUN apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends npm > /dev/null \
    && rm -rf /var/lib/apt/lists/*
ENV NODE_ENV=production
ENV NPM_CONFIG_UPDATE_NOTIFIER=false
WORKDIR /app
COPY package.json package-lock.json ./
RUN --mount=type=cache,target=/root/.npm npm ci --no-audit --no-fund --omit=dev
COPY . ./

FROM base
ENV NODE_ENV=production
ENV PATH="/app/node_modules/.bin:$PATH"
RUN groupadd --gid 10001 pushboat \
    && useradd --uid 10001 --gid 10001 --create-home --skel /dev/null --home-dir /app pushboat
WORKDIR /app
ENV HOME=/app
COPY --from=build --chown=10001:10001 /app /app
USER 10001:10001
ENTRYPOINT []
CMD ["node", "server.js"]
