# Made by Pushboat.
# composer.lock and composer.json, so PHP ^8.2 with Composer, and Node with npm for package.json;
#   web: Apache serves public
# php:8.4-apache-bookworm has PHP 8.4
# composer:2 has Composer 2, the default
# node:24-bookworm-slim has Node 24, the default

FROM php:8.4-apache-bookworm AS server
RUN apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends libfreetype6-dev libjpeg62-turbo-dev libpng-dev libpq-dev libwebp-dev > /dev/null \
    && rm -rf /var/lib/apt/lists/*
RUN docker-php-ext-configure gd --with-freetype --with-jpeg --with-webp \
    && docker-php-ext-install -j"$(nproc)" gd mysqli pdo_mysql pdo_pgsql \
    && pecl install redis \
    && docker-php-ext-enable redis
RUN a2enmod -q headers remoteip rewrite > /dev/null
RUN mkdir -p /etc/pushboat && printf '%s\n' \
    'ServerRoot /etc/apache2' \
    'ServerName localhost' \
    'Listen ${PORT}' \
    'PidFile /tmp/apache2.pid' \
    'DefaultRuntimeDir /tmp' \
    'IncludeOptional mods-enabled/*.load' \
    'TypesConfig /etc/mime.types' \
    'ErrorLog /dev/stderr' \
    'ErrorLogFormat "[%l] %M"' \
    'CustomLog /dev/stdout "%a \"%r\" %>s %B"' \
    'ServerTokens Prod' \
    'ServerSignature Off' \
    'TraceEnable Off' \
    'StartServers 2' \
    'MinSpareServers 2' \
    'MaxSpareServers 4' \
    'MaxRequestWorkers ${WEB_CONCURRENCY}' \
    'KeepAliveTimeout 5' \
    'RemoteIPHeader X-Forwarded-For' \
    'SetEnvIf X-Forwarded-Proto ^https$ HTTPS=on' \
    'AddOutputFilterByType DEFLATE text/html text/css text/plain application/javascript application/json' \
    'php_value variables_order EGPCS' \
    'php_flag display_errors off' \
    'php_flag log_errors on' \
    'php_value upload_max_filesize 64M' \
    'php_value post_max_size 64M' \
    '<Directory />' \
    '  AllowOverride None' \
    '  Require all denied' \
    '</Directory>' \
    'DocumentRoot /app/public' \
    '<Directory /app/public>' \
    '  Options FollowSymLinks' \
    '  AllowOverride All' \
    '  Require all granted' \
    '  DirectoryIndex index.php index.html' \
    '  FallbackResource /index.php' \
    '</Directory>' \
    '<LocationMatch "/\.(?!well-known/)">' \
    '  Require all denied' \
    '</LocationMatch>' \
    '<LocationMatch "^/(vendor/|(composer\.(json|lock)|Procfile|app\.json)$)">' \
    '  Require all denied' \
    '</LocationMatch>' \
    '<FilesMatch "\.php$">' \
    '  SetHandler application/x-httpd-php' \
    '</FilesMatch>' \
    > /etc/pushboat/apache.conf
RUN mkdir -p /usr/local/bin && printf '%s\n' \
    '#!/bin/sh' \
    '# Serves the app by Apache, on $PORT, by as many processes as $WEB_CONCURRENCY says at most.' \
    'export PORT="${PORT:-5000}" WEB_CONCURRENCY="${WEB_CONCURRENCY:-10}"' \
    'exec apache2 -f /etc/pushboat/apache.conf -D FOREGROUND' \
    > /usr/local/bin/serve-php
RUN chmod 755 /usr/local/bin/serve-php

FROM composer:2 AS composer

FROM node:24-bookworm-slim AS node

FROM server AS build
WORKDIR /app
COPY --from=composer /usr/bin/composer /usr/bin/composer
RUN apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends git unzip > /dev/null \
    && rm -rf /var/lib/apt/lists/*
ENV COMPOSER_ALLOW_SUPERUSER=1
ENV COMPOSER_CACHE_DIR=/root/.cache/composer
COPY --from=node /usr/local /opt/node
ENV PATH="/opt/node/bin:$PATH"
COPY composer.json composer.lock ./
RUN --mount=type=cache,target=/root/.cache/composer composer install --no-dev --no-interaction --no-progress --prefer-dist --no-scripts --no-autoloader
ENV NPM_CONFIG_UPDATE_NOTIFIER=false
COPY package.json package-lock.json ./
RUN --mount=type=cache,target=/root/.npm npm ci --no-audit --no-fund --include=dev
COPY . ./
RUN --mount=type=cache,target=/root/.cache/composer composer install --no-dev --no-interaction --no-progress --prefer-dist --optimize-autoloader
RUN npm run build
RUN rm -rf node_modules

FROM server
ENV PATH="/app/vendor/bin:$PATH"
RUN groupadd --gid 10001 pushboat \
    && useradd --uid 10001 --gid 10001 --create-home --skel /dev/null --home-dir /app pushboat
WORKDIR /app
ENV HOME=/app
COPY --from=build --chown=10001:10001 /app /app
USER 10001:10001
ENTRYPOINT []
CMD ["serve-php"]
