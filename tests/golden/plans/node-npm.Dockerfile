# Made by Pushboat.
# package-lock.json and .nvmrc, so Node v22.11.0 with npm; web: node server.js
# node:22.11.0-bookworm-slim has Node 22.11.0

FROM node:22.11.0-bookworm-slim AS build
ENV NODE_ENV=production
ENV NPM_CONFIG_UPDATE_NOTIFIER=false
WORKDIR /app
COPY package.json package-lock.json ./
RUN --mount=type=cache,target=/root/.npm npm ci --no-audit --no-fund --omit=dev
COPY . ./

FROM node:22.11.0-bookworm-slim
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
