# Made by Pushboat.
# package-lock.json and a script build with nothing to start, so Node with npm, then what the build
#   puts out
# Node 18.20.4 of Debian's own packages, on debian:bookworm-slim
# nginx 1.22.1 of Debian's own packages, on debian:bookworm-slim

FROM debian:bookworm-slim AS base
RUN apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends ca-certificates nodejs > /dev/null \
    && rm -rf /var/lib/apt/lists/*

FROM debian:bookworm-slim AS server
RUN apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends ca-certificates nginx > /dev/null \
    && rm -rf /var/lib/apt/lists/*

FROM base AS build
RUN apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends npm > /dev/null \
    && rm -rf /var/lib/apt/lists/*
ENV NODE_ENV=production
ENV NPM_CONFIG_UPDATE_NOTIFIER=false
WORKDIR /app
COPY package.json package-lock.json ./
RUN --mount=type=cache,target=/root/.npm npm ci --no-audit --no-fund --include=dev
COPY . ./
RUN npm run build
RUN for folder in dist build out public _site; do if [ -f $folder/index.html ]; then mkdir -p /srv && cp -a $folder /srv/www && break; fi; done \
    && { [ -d /srv/www ] || { echo 'The build left no index.html in: dist build out public _site. If it is elsewhere: builder:set <app> static-folder <folder>' >&2; exit 1; }; }

FROM server
RUN mkdir -p /etc/pushboat && printf '%s\n' \
    'worker_processes 2;' \
    'pid /tmp/nginx.pid;' \
    'error_log stderr;' \
    'events { worker_connections 1024; }' \
    'http {' \
    '  include /etc/nginx/mime.types;' \
    '  default_type application/octet-stream;' \
    '  access_log /dev/stdout;' \
    '  client_body_temp_path /tmp/nginx-body; proxy_temp_path /tmp/nginx-proxy; fastcgi_temp_path /tmp/nginx-fastcgi;' \
    '  uwsgi_temp_path /tmp/nginx-uwsgi; scgi_temp_path /tmp/nginx-scgi;' \
    '  server_tokens off; sendfile on; tcp_nopush on; keepalive_timeout 75s;' \
    '  set_real_ip_from 0.0.0.0/0; real_ip_header X-Forwarded-For;' \
    '  gzip on; gzip_vary on; gzip_proxied any; gzip_min_length 512;' \
    '  gzip_types text/css text/plain text/xml application/javascript text/javascript application/json' \
    '    application/manifest+json application/rss+xml application/wasm application/xml image/svg+xml font/ttf;' \
    '  server {' \
    '    listen PORT;' \
    '    root /srv/www;' \
    '    index index.html;' \
    '    absolute_redirect off;' \
    '    error_page 404 /404.html;' \
    '    error_page 403 =404 /404.html;' \
    '    location ~ /\.(?!well-known/) { return 404; }' \
    '    location ~ "^/(?:Procfile|app\.json)$" { return 404; }' \
    '    location ~ "^/(?:assets|static|_astro|_nuxt|_next/static|_app/immutable)/(?:.*[./-])?(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{8,}\.[a-z0-9]+$" {' \
    '      add_header Cache-Control "public, max-age=31536000, immutable";' \
    '    }' \
    '    location / {' \
    '      add_header Cache-Control "no-cache";' \
    '      try_files $uri $uri.html $uri/ @missing;' \
    '    }' \
    '    location @missing {' \
    '      if (-f $document_root/404.html) { return 404; }' \
    '      if ($uri ~ \.[A-Za-z0-9]+$) { return 404; }' \
    '      add_header Cache-Control "no-cache";' \
    '      rewrite ^ /index.html break;' \
    '    }' \
    '  }' \
    '}' \
    > /etc/pushboat/nginx.conf
RUN groupadd --gid 10001 pushboat \
    && useradd --uid 10001 --gid 10001 --create-home --skel /dev/null --home-dir /app pushboat
WORKDIR /app
ENV HOME=/app
COPY --from=build /srv/www /srv/www
USER 10001:10001
ENTRYPOINT []
CMD ["/bin/sh", "-c", "sed \"s/PORT/${PORT:-5000}/\" /etc/pushboat/nginx.conf > /tmp/nginx.conf && exec nginx -c /tmp/nginx.conf -g 'daemon off;'"]
