# Made by Pushboat.
# Gemfile.lock and Gemfile, so Ruby 3.3.6 with Bundler; Rails and puma, so web: bundle exec puma
#   --port "${PORT:-5000}"
# ruby:3.3.6-slim-bookworm has Ruby 3.3.6

FROM ruby:3.3.6-slim-bookworm AS base
RUN apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends ca-certificates libpq5 > /dev/null \
    && rm -rf /var/lib/apt/lists/*

FROM base AS build
RUN apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends build-essential git libyaml-dev pkg-config libpq-dev > /dev/null \
    && rm -rf /var/lib/apt/lists/*
ENV LANG=C.UTF-8
ENV RAILS_ENV=production
ENV RACK_ENV=production
ENV BUNDLE_PATH=/opt/bundle
ENV BUNDLE_WITHOUT="development:test"
ENV BUNDLE_DEPLOYMENT=1
ENV BUNDLE_SILENCE_ROOT_WARNING=1
WORKDIR /app
COPY Gemfile Gemfile.lock ./
RUN --mount=type=cache,target=/root/.bundle/cache mkdir -p /opt/bundle \
    && bundle install \
    && rm -rf /opt/bundle/ruby/*/cache
COPY . ./
RUN SECRET_KEY_BASE=assets SECRET_KEY_BASE_DUMMY=1 DATABASE_URL=postgresql://user@127.0.0.1/none bundle exec rails assets:precompile

FROM base
ENV LANG=C.UTF-8
ENV RAILS_ENV=production
ENV RACK_ENV=production
ENV BUNDLE_PATH=/opt/bundle
ENV BUNDLE_WITHOUT="development:test"
ENV BUNDLE_DEPLOYMENT=1
ENV RAILS_LOG_TO_STDOUT=1
ENV RAILS_SERVE_STATIC_FILES=1
RUN groupadd --gid 10001 pushboat \
    && useradd --uid 10001 --gid 10001 --create-home --skel /dev/null --home-dir /app pushboat
WORKDIR /app
ENV HOME=/app
COPY --from=build /opt/bundle /opt/bundle
COPY --from=build --chown=10001:10001 /app /app
USER 10001:10001
ENTRYPOINT []
CMD ["/bin/sh", "-c", "exec bundle exec puma --port \"${PORT:-5000}\""]
