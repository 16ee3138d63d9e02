# Made by Pushboat.
# uv.lock and pyproject.toml, so Python >=3.10 with uv; Starlette in src/api/app.py, so web: uvicorn
#   api.app:app --host 0.0.0.0 --port "${PORT:-5000}"
# python:3.13-slim-bookworm has Python 3.13

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
COPY pyproject.toml uv.lock ./
RUN --mount=type=cache,target=/root/.cache/uv /opt/uv/bin/uv sync --frozen --no-dev --no-install-project
COPY . ./

FROM python:3.13-slim-bookworm
ENV VIRTUAL_ENV=/opt/venv
ENV PATH="/opt/venv/bin:$PATH"
ENV PYTHONUNBUFFERED=1
ENV FORWARDED_ALLOW_IPS="*"
ENV PYTHONPATH=/app/src
RUN groupadd --gid 10001 pushboat \
    && useradd --uid 10001 --gid 10001 --create-home --skel /dev/null --home-dir /app pushboat
WORKDIR /app
ENV HOME=/app
COPY --from=build /opt/venv /opt/venv
COPY --from=build --chown=10001:10001 /app /app
USER 10001:10001
ENTRYPOINT []
CMD ["/bin/sh", "-c", "exec uvicorn api.app:app --host 0.0.0.0 --port \"${PORT:-5000}\""]
