# Made by Pushboat.
# pnpm-lock.yaml, so Node with pnpm; web: node dist/main.js --x=a b
# node:24-bookworm-slim has Node 24, the default

FROM node:24-bookworm-slim AS build
RUN --mount=type=cache,target=/root/.npm npm install --global pnpm@9
ENV NODE_ENV=production
ENV NPM_CONFIG_STORE_DIR=/root/.pnpm-store
ENV CI=true
WORKDIR /app
COPY package.json pnpm-lock.yaml ./
RUN --mount=type=cache,target=/root/.pnpm-store pnpm install --frozen-lockfile --prod=false
COPY . ./
RUN pnpm run build
RUN --mount=type=cache,target=/root/.pnpm-store pnpm install --frozen-lockfile --prefer-offline --prod --ignore-scripts --config.modules-cache-max-age=0

FROM node:24-bookworm-slim
ENV NODE_ENV=production
ENV PATH="/app/node_modules/.bin:$PATH"
RUN groupadd --gid 10001 pushboat \
    && useradd --uid 10001 --gid 10001 --create-home --skel /dev/null --home-dir /app pushboat
WORKDIR /app
ENV HOME=/app
COPY --from=build --chown=10001:10001 /app /app
USER 10001:10001
ENTRYPOINT []
CMD ["node", "dist/main.js", "--x=a b"]
