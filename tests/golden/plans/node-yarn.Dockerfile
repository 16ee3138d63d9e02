# Made by Pushboat.
# yarn.lock, so Node with yarn; web: node dist/main.js --x=a b
# node:24-bookworm-slim has Node 24, the default

FROM node:24-bookworm-slim AS build
RUN --mount=type=cache,target=/root/.npm npm install --global --force yarn@1
ENV NODE_ENV=production
ENV YARN_CACHE_FOLDER=/root/.yarn
WORKDIR /app
COPY package.json yarn.lock ./
RUN --mount=type=cache,target=/root/.yarn yarn install --frozen-lockfile --non-interactive --production=false
COPY . ./
RUN yarn run build
RUN --mount=type=cache,target=/root/.yarn yarn install --frozen-lockfile --non-interactive --production --ignore-scripts --prefer-offline

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
