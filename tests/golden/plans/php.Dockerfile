# Made by Pushboat.
# index.php, so PHP; web: Apache serves all files
# php:8.4-apache-bookworm has PHP 8.4, the default

FROM php:8.4-apache-bookworm AS server
RUN apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends libpq-dev > /dev/null \
    && rm -rf /var/lib/apt/lists/*
RUN docker-php-ext-install -j"$(nproc)" mysqli pdo_mysql pdo_pgsql
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
    'DocumentRoot /app' \
    '<Directory /app>' \
    '  Options FollowSymLinks' \
    '  AllowOverride All' \
    '  Require all granted' \
    '  DirectoryIndex index.php index.html' \
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

FROM server AS build
WORKDIR /app
COPY . ./

FROM server
RUN groupadd --gid 10001 pushboat \
    && useradd --uid 10001 --gid 10001 --create-home --skel /dev/null --home-dir /app pushboat
WORKDIR /app
ENV HOME=/app
COPY --from=build --chown=10001:10001 /app /app
USER 10001:10001
ENTRYPOINT []
CMD ["serve-php"]
