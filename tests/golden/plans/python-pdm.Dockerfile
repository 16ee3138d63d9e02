# Made by Pushboat.
# pdm.lock and pyproject.toml, so Python >=3.10 with pdm
# python:3.13-slim-bookworm has Python 3.13

FROM python:3.13-slim-bookworm AS build
RUN python3 -m venv /opt/venv
ENV VIRTUAL_ENV=/opt/venv
ENV PATH="/opt/venv/bin:$PATH"
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
ENV PDM_CHECK_UPDATE=false
ENV PDM_IGNORE_SAVED_PYTHON=1
RUN --mount=type=cache,target=/root/.cache/pip python3 -m venv /opt/pdm \
    && /opt/pdm/bin/pip install 'pdm[locked]<3'
WORKDIR /app
COPY pyproject.toml pdm.lock ./
RUN --mount=type=cache,target=/root/.cache/pdm /opt/pdm/bin/pdm sync --prod --no-self
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
