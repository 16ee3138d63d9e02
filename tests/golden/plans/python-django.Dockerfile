# Made by Pushboat.
# requirements.txt and runtime.txt, so Python 3.11.9 with pip; Django in shop/wsgi.py, so web:
#   gunicorn shop.wsgi:application
# python:3.11.9-slim-bookworm has Python 3.11.9

FROM python:3.11.9-slim-bookworm AS build
RUN python3 -m venv /opt/venv
ENV VIRTUAL_ENV=/opt/venv
ENV PATH="/opt/venv/bin:$PATH"
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
COPY requirements.txt ./
RUN --mount=type=cache,target=/root/.cache/pip pip install --requirement requirements.txt
COPY . ./
RUN { SECRET_KEY=collectstatic DJANGO_SECRET_KEY=collectstatic DATABASE_URL=sqlite://:memory: python manage.py collectstatic --noinput || { echo 'If static files need no collecting: config:set <app> DISABLE_COLLECTSTATIC=1' >&2; exit 1; }; }

FROM python:3.11.9-slim-bookworm
ENV VIRTUAL_ENV=/opt/venv
ENV PATH="/opt/venv/bin:$PATH"
ENV PYTHONUNBUFFERED=1
ENV FORWARDED_ALLOW_IPS="*"
RUN groupadd --gid 10001 pushboat \
    && useradd --uid 10001 --gid 10001 --create-home --skel /dev/null --home-dir /app pushboat
WORKDIR /app
ENV HOME=/app
COPY --from=build /opt/venv /opt/venv
COPY --from=build --chown=10001:10001 /app /app
USER 10001:10001
ENTRYPOINT []
CMD ["gunicorn", "shop.wsgi:application"]
