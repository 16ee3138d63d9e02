# Made by Pushboat.
# Gemfile, so Ruby with Bundler
# ruby:3.4-slim-bookworm has Ruby 3.4, the default

FROM ruby:3.4-slim-bookworm AS build
RUN apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends build-essential git libyaml-dev pkg-config > /dev/null \
    && rm -rf /var/lib/apt/lists/*
ENV LANG=C.UTF-8
ENV RAILS_ENV=production
ENV RACK_ENV=production
ENV BUNDLE_PATH=/opt/bundle
ENV BUNDLE_WITHOUT="development:test"
ENV BUNDLE_SILENCE_ROOT_WARNING=1
WORKDIR /app
COPY Gemfile ./
COPY gems/a/ gems/a/
RUN --mount=type=cache,target=/root/.bundle/cache mkdir -p /opt/bundle \
    && bundle install \
    && rm -rf /opt/bundle/ruby/*/cache
COPY . ./

FROM ruby:3.4-slim-bookworm
ENV LANG=C.UTF-8
ENV RAILS_ENV=production
ENV RACK_ENV=production
ENV BUNDLE_PATH=/opt/bundle
ENV BUNDLE_WITHOUT="development:test"
RUN groupadd --gid 10001 pushboat \
    && useradd --uid 10001 --gid 10001 --create-home --skel /dev/null --home-dir /app pushboat
WORKDIR /app
ENV HOME=/app
COPY --from=build /opt/bundle /opt/bundle
COPY --from=build --chown=10001:10001 /app /app
USER 10001:10001
ENTRYPOINT []
