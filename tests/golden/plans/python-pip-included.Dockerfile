# Made by Pushboat.
# requirements.txt, so Python with pip; Flask in app.py, so web: gunicorn app:app
# python:3.13-slim-bookworm has Python 3.13, the default

FROM python:3.13-slim-bookworm AS build
RUN python3 -m venv /opt/venv
ENV VIRTUAL_ENV=/opt/venv
ENV PATH="/opt/venv/bin:$PATH"
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
COPY requirements.txt ./
COPY deps/base.txt deps/c.txt deps/
RUN --mount=type=cache,target=/root/.cache/pip pip install --requirement requirements.txt
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
