"""The apps that flow tests push. All need nothing but busybox."""

from __future__ import annotations

from tests.support.rig import BASE

LINE_SERVER = """#!/bin/sh
# Answers an upgrade and echoes lines, or says hello; one process per connection.
while IFS= read -r line; do
  line="${line%$(printf '\\r')}"
  case "$line" in Upgrade:*|upgrade:*) upgrade=1 ;; esac
  [ -z "$line" ] && break
done
if [ -n "$upgrade" ]; then
  printf 'HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n'
  printf 'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\\r\\n\\r\\n'
  exec cat
fi
[ -n "$WAIT" ] && sleep "$WAIT"
printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 6\\r\\nConnection: close\\r\\n\\r\\nhello\\n'
"""
"""A shell script for ``nc -ll -e``: a web server that can be upgraded, and that answers after ``$WAIT`` seconds."""


def page(version: str, *, more: str = "") -> dict[str, str]:
    """Return a web app whose page says `version`; `more` goes into its Dockerfile."""
    return {
        "Dockerfile": f"FROM {BASE}\nCOPY . /www\nEXPOSE 5000\n{more}CMD exec httpd -f -p $PORT -h /www\n",
        "index.html": f"version {version}\n",
    }


def liner(*, wait: str = "") -> dict[str, str]:
    """Return a web app that can be upgraded and echoes then; other requests are answered after `wait` seconds."""
    return {
        "Dockerfile": (
            f"FROM {BASE}\nCOPY serve.sh /serve.sh\nRUN chmod +x /serve.sh\nENV WAIT={wait}\nEXPOSE 5000\n"
            "CMD exec nc -ll -p $PORT -e /serve.sh\n"
        ),
        "serve.sh": LINE_SERVER,
    }


def shell(command: str, *, more: str = "") -> dict[str, str]:
    """Return an app whose web process is one line of shell."""
    return {"Dockerfile": f"FROM {BASE}\n{more}EXPOSE 5000\nRUN mkdir -p /www\nCMD {command}\n"}


def with_procfile(version: str, *lines: str) -> dict[str, str]:
    """Return `page` with a Procfile of these lines."""
    return {**page(version), "Procfile": "\n".join(lines) + "\n"}


def writer(script: str) -> dict[str, str]:
    """Return a web app that runs `script` beside its server, for what it writes."""
    return {
        "Dockerfile": (
            f"FROM {BASE}\nCOPY . /www\nEXPOSE 5000\nCMD sh /www/write.sh & exec httpd -f -p $PORT -h /www\n"
        ),
        "index.html": "it writes\n",
        "write.sh": script,
    }
