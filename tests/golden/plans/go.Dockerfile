# Made by Pushboat.
# go.mod, so Go >=1.22; web: /app/bin/shop
# golang:1.25-bookworm has Go 1.25

FROM golang:1.25-bookworm AS build
ENV CGO_ENABLED=0
ENV GOFLAGS="-trimpath -buildvcs=false"
ENV GOTOOLCHAIN=local
WORKDIR /app
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/root/.cache/go-build --mount=type=cache,target=/root/go/pkg/mod go mod download
COPY . ./
RUN --mount=type=cache,target=/root/.cache/go-build --mount=type=cache,target=/root/go/pkg/mod mkdir -p bin \
    && go build -ldflags='-s -w' -o bin/shop .

FROM debian:bookworm-slim AS runtime
RUN apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends ca-certificates tzdata > /dev/null \
    && rm -rf /var/lib/apt/lists/*

FROM runtime
ENV PATH="/app/bin:$PATH"
RUN groupadd --gid 10001 pushboat \
    && useradd --uid 10001 --gid 10001 --create-home --skel /dev/null --home-dir /app pushboat
WORKDIR /app
ENV HOME=/app
COPY --from=build --chown=10001:10001 /app /app
USER 10001:10001
ENTRYPOINT []
CMD ["/app/bin/shop"]
