# Made by Pushboat.
# uv.lock, so Python with uv
# python:3.13-slim-bookworm has Python 3.13, the default

FROM python:3.13-slim-bookworm AS build
RUN python3 -m venv /opt/venv
ENV VIRTUAL_ENV=/opt/venv
ENV PATH="/opt/venv/bin:$PATH"
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
ENV UV_PROJECT_ENVIRONMENT=/opt/venv
ENV UV_LINK_MODE=copy
ENV UV_PYTHON_DOWNLOADS=never
RUN --mount=type=cache,target=/root/.cache/pip python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install 'uv<1'
WORKDIR /app
COPY pyproject.toml uv.lock uv.toml ./
COPY wheels/own-1.0-py3-none-any.whl wheels/
RUN --mount=type=cache,target=/root/.cache/uv /opt/uv/bin/uv sync --frozen --no-dev --no-install-project --no-install-package greet --no-install-package pathy
COPY . ./
RUN --mount=type=cache,target=/root/.cache/uv /opt/uv/bin/uv sync --frozen --no-dev --no-install-project

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
