# Made by Pushboat.
# yarn.lock, so Node with yarn; web: node dist/main.js --x=a b
# node:24-bookworm-slim has Node 24, the default

FROM node:24-bookworm-slim AS build
RUN --mount=type=cache,target=/root/.npm npm install --global --force @yarnpkg/cli-dist@4.5.1
ENV NODE_ENV=production
ENV YARN_CACHE_FOLDER=/root/.yarn
ENV YARN_ENABLE_GLOBAL_CACHE=false
ENV YARN_ENABLE_TELEMETRY=0
ENV YARN_NODE_LINKER=node-modules
WORKDIR /app
COPY package.json yarn.lock ./
RUN --mount=type=cache,target=/root/.yarn yarn install --immutable
COPY . ./
RUN yarn run build
RUN --mount=type=cache,target=/root/.yarn mkdir -p /tmp/kept \
    && find . -name node_modules -prune -o -name package.json -exec cp --parents {} /tmp/kept ';' \
    && cp yarn.lock /tmp/kept \
    && find . -name node_modules -prune -o -name package.json -exec node -e 'const fs = require("fs"); for (const name of process.argv.slice(1)) { let found; try { found = JSON.parse(fs.readFileSync(name)) } catch { continue } delete found.devDependencies; fs.writeFileSync(name, JSON.stringify(found)) }' {} + \
    && YARN_ENABLE_IMMUTABLE_INSTALLS=false yarn install --mode=skip-build \
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
