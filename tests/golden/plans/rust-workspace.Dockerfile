# Made by Pushboat.
# Cargo.lock and rust-toolchain.toml, so Rust 1.85.0; web: /app/bin/web
# rust:1.85.0-slim-bookworm has Rust 1.85.0

FROM rust:1.85.0-slim-bookworm AS build
RUN apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends pkg-config libssl-dev > /dev/null \
    && rm -rf /var/lib/apt/lists/*
ENV CARGO_HOME=/usr/local/cargo
ENV CARGO_TERM_COLOR=never
WORKDIR /app
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
COPY crates/core/Cargo.toml crates/core/
COPY crates/tools/Cargo.toml crates/tools/
COPY crates/web/Cargo.toml crates/web/
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/usr/local/cargo/git mkdir -p crates/core crates/tools crates/web crates/web/src \
    && for file in crates/core/lib.rs crates/tools/tidy.rs crates/web/gen.rs crates/web/src/main.rs; do echo 'fn main() {}' > $file; done \
    && cargo build --release --bins --locked
COPY . ./
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/usr/local/cargo/git find . \( -path ./target -o -path ./vendor \) -prune -o -type f -name '*.rs' -exec touch {} + \
    && cargo build --release --bins --locked \
    && mkdir -p bin \
    && find target/release -maxdepth 1 -type f -perm -100 ! -name '*.so' -exec cp -t bin {} + \
    && rm -rf target

FROM debian:bookworm-slim AS runtime
RUN apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends ca-certificates tzdata libssl3 > /dev/null \
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
CMD ["/app/bin/web"]
