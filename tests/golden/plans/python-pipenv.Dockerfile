# Made by Pushboat.
# Pipfile.lock and Pipfile, so Python 3.13 with pipenv; Flask in app.py, so web: gunicorn app:app
# python:3.13-slim-bookworm has Python 3.13

FROM python:3.13-slim-bookworm AS build
RUN python3 -m venv /opt/venv
ENV VIRTUAL_ENV=/opt/venv
ENV PATH="/opt/venv/bin:$PATH"
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
ENV PIPENV_VERBOSITY="-1"
ENV PIPENV_NOSPIN=1
RUN --mount=type=cache,target=/root/.cache/pip python3 -m venv /opt/pipenv \
    && /opt/pipenv/bin/pip install 'pipenv'
WORKDIR /app
COPY Pipfile Pipfile.lock ./
RUN --mount=type=cache,target=/root/.cache/pip /opt/pipenv/bin/pipenv sync
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
CMD ["gunicorn", "app:app"]
