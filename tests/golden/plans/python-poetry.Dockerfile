# Made by Pushboat.
# poetry.lock and pyproject.toml, so Python ^3.11 with poetry; FastAPI in main.py, so web: uvicorn
#   main:api --host 0.0.0.0 --port "${PORT:-5000}"
# python:3.13-slim-bookworm has Python 3.13

FROM python:3.13-slim-bookworm AS build
RUN python3 -m venv /opt/venv
ENV VIRTUAL_ENV=/opt/venv
ENV PATH="/opt/venv/bin:$PATH"
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN --mount=type=cache,target=/root/.cache/pip python3 -m venv /opt/poetry \
    && /opt/poetry/bin/pip install 'poetry<3'
WORKDIR /app
COPY pyproject.toml poetry.lock ./
RUN --mount=type=cache,target=/root/.cache/pypoetry /opt/poetry/bin/poetry install --only main --no-root --no-interaction
COPY . ./

FROM python:3.13-slim-bookworm
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
CMD ["/bin/sh", "-c", "exec uvicorn main:api --host 0.0.0.0 --port \"${PORT:-5000}\""]
