# Made by Pushboat.
# bun.lock, so Node with bun; web: node dist/main.js --x=a b
# node:24-bookworm-slim has Node 24, the default

FROM node:24-bookworm-slim AS build
RUN --mount=type=cache,target=/root/.npm npm install --global bun
ENV NODE_ENV=production
WORKDIR /app
COPY package.json bun.lock ./
RUN --mount=type=cache,target=/root/.bun/install/cache bun install --frozen-lockfile
COPY . ./
RUN bun run build
RUN --mount=type=cache,target=/root/.bun/install/cache mkdir -p /tmp/kept \
    && find . -name node_modules -prune -o -name package.json -exec cp --parents {} /tmp/kept ';' \
    && find . -name node_modules -prune -o -name package.json -exec node -e 'const fs = require("fs"); for (const name of process.argv.slice(1)) { let found; try { found = JSON.parse(fs.readFileSync(name)) } catch { continue } delete found.scripts; fs.writeFileSync(name, JSON.stringify(found)) }' {} + \
    && rm -rf node_modules \
    && bun install --frozen-lockfile --production \
    && cp -r /tmp/kept/. ./

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
