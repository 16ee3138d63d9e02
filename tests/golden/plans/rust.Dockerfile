# Made by Pushboat.
# Cargo.lock, so Rust; web: /app/bin/shop
# rust:1-slim-bookworm has Rust 1, the default

FROM rust:1-slim-bookworm AS build
ENV CARGO_HOME=/usr/local/cargo
ENV CARGO_TERM_COLOR=never
WORKDIR /app
COPY Cargo.toml Cargo.lock ./
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/usr/local/cargo/git mkdir -p src \
    && for file in src/main.rs; do echo 'fn main() {}' > $file; done \
    && cargo build --release --bins --locked
COPY . ./
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/usr/local/cargo/git find . \( -path ./target -o -path ./vendor \) -prune -o -type f -name '*.rs' -exec touch {} + \
    && cargo build --release --bins --locked \
    && mkdir -p bin \
    && find target/release -maxdepth 1 -type f -perm -100 ! -name '*.so' -exec cp -t bin {} + \
    && rm -rf target

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
