"""Package managers that no example has, with packages in the app's own repository, so that no index is named in a lock.

Managers themselves, and what they build packages by, come from the public indexes, as in the tests of examples.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import zipfile

import pytest

from tests.flow.test_languages import KILLED, cached, change, example, exit_status, harbour, pushed, report, runs_as
from tests.support.debian import DEBIAN
from tests.support.rig import Rig

__all__ = ["harbour"]

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

BUILT = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
SERVER = """
import http.server
import os
import signal
import sys

import own

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{own.WORD}. This is version 1.\\n".encode())

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.HTTPServer(("", int(os.environ["PORT"])), Page).serve_forever()
"""
OWN = {
    "libs/own/pyproject.toml": f'[project]\nname = "own"\nversion = "1"\n\n{BUILT}',
    "libs/own/own/__init__.py": 'WORD = "Own"\n',
    "Procfile": "web: python server.py\n",
    "server.py": SERVER,
}
UV = {
    **OWN,
    "server.py": SERVER.replace("import own", "import greet\nimport own").replace(
        "{own.WORD}", "{greet.WORD} {own.WORD}"
    ),
    "packages/greet/pyproject.toml": f'[project]\nname = "greet"\nversion = "1"\n\n{BUILT}',
    "packages/greet/greet/__init__.py": 'WORD = "Hello"\n',
    "pyproject.toml": """[project]
name = "shop"
version = "1"
requires-python = ">=3.11"
dependencies = ["greet", "own"]

[tool.uv.workspace]
members = ["packages/*"]

[tool.uv.sources]
greet = { workspace = true }
own = { path = "libs/own" }
""",
    "uv.lock": """version = 1
revision = 3
requires-python = ">=3.11"

[manifest]
members = [
    "greet",
    "shop",
]

[[package]]
name = "greet"
version = "1"
source = { editable = "packages/greet" }

[[package]]
name = "own"
version = "1"
source = { directory = "libs/own" }

[[package]]
name = "shop"
version = "1"
source = { virtual = "." }
dependencies = [
    { name = "greet" },
    { name = "own" },
]

[package.metadata]
requires-dist = [
    { name = "greet", editable = "packages/greet" },
    { name = "own", directory = "libs/own" },
]
""",
}
POETRY = {
    # A wheel, as what it would have to build asks an index in ways that not every mirror knows.
    **{name: text for name, text in OWN.items() if not name.startswith("libs/")},
    "pyproject.toml": """[tool.poetry]
package-mode = false

[tool.poetry.dependencies]
python = "^3.11"
own = {path = "wheels/own-1-py3-none-any.whl"}
""",
    "poetry.lock": """[[package]]
name = "own"
version = "1"
description = ""
optional = false
python-versions = "*"
groups = ["main"]
files = [
    {file = "own-1-py3-none-any.whl", hash = "sha256:DIGEST"},
]

[package.source]
type = "file"
url = "wheels/own-1-py3-none-any.whl"

[metadata]
lock-version = "2.1"
python-versions = "^3.11"
content-hash = "a7e4bb74852d0b755fb2fbda20d39aa350dff056a0ab7ca530fa17710e29de31"
""",
}
PAGE = """
const built = require("fs").existsSync("built.txt") ? "built" : "not built";
require("http")
  .createServer((_, answer) => answer.end(`${require("own")}, ${built}. This is version 1.\\n`))
  .listen(process.env.PORT);
process.on("SIGTERM", () => process.exit(0));
"""
NODE = {
    "packages/own/package.json": '{ "name": "own", "version": "1.0.0", "main": "own.js" }\n',
    "packages/own/own.js": 'module.exports = "Own";\n',
    "packages/tool/package.json": '{ "name": "tool", "version": "1.0.0", "bin": { "announce": "cli.js" } }\n',
    "packages/tool/cli.js": '#!/usr/bin/env node\nrequire("fs").writeFileSync("built.txt", "");\n',
    "server.js": PAGE,
}
PNPM = {
    **NODE,
    "package.json": """{
  "private": true,
  "scripts": { "build": "announce", "start": "node server.js" },
  "dependencies": { "own": "workspace:*" },
  "devDependencies": { "tool": "workspace:*" }
}
""",
    "pnpm-workspace.yaml": "packages:\n  - packages/*\n",
    "pnpm-lock.yaml": """lockfileVersion: '9.0'

settings:
  autoInstallPeers: true
  excludeLinksFromLockfile: false

importers:

  .:
    dependencies:
      own:
        specifier: workspace:*
        version: link:packages/own
    devDependencies:
      tool:
        specifier: workspace:*
        version: link:packages/tool

  packages/own: {}

  packages/tool: {}
""",
}
YARN = {
    **{name: text for name, text in NODE.items() if not name.startswith("packages/tool")},
    "gone/package.json": '{ "name": "gone", "version": "1.0.0" }\n',
    "package.json": """{
  "private": true,
  "packageManager": "yarn@3.8.7",
  "workspaces": [
    "packages/own"
  ],
  "scripts": {
    "start": "node server.js"
  },
  "dependencies": {
    "own": "workspace:*"
  },
  "devDependencies": {
    "gone": "link:./gone"
  }
}
""",
    "yarn.lock": """# This file is generated by running "yarn install" inside your project.
# Manual changes might be lost - proceed with caution!

__metadata:
  version: 6

"gone@link:./gone::locator=root-workspace-0b6124%40workspace%3A.":
  version: 0.0.0-use.local
  resolution: "gone@link:./gone::locator=root-workspace-0b6124%40workspace%3A."
  languageName: node
  linkType: soft

"own@workspace:*, own@workspace:packages/own":
  version: 0.0.0-use.local
  resolution: "own@workspace:packages/own"
  languageName: unknown
  linkType: soft

"root-workspace-0b6124@workspace:.":
  version: 0.0.0-use.local
  resolution: "root-workspace-0b6124@workspace:."
  dependencies:
    gone: "link:./gone"
    own: "workspace:*"
  languageName: unknown
  linkType: soft
""",
}
GO = {
    "go.mod": "module example.com/shop\n\ngo 1.19\n\nrequire example.com/own v0.0.0\n\n"
    "replace example.com/own => ./libs/own\n",
    "go.work": "go 1.19\n\nuse (\n\t.\n\t./greet // ours\n)\n",
    "libs/own/go.mod": "module example.com/own\n\ngo 1.19\n",
    "libs/own/own.go": 'package own\n\nconst Word = "Own"\n',
    "greet/go.mod": "module example.com/greet\n\ngo 1.19\n",
    "greet/greet.go": 'package greet\n\nconst Word = "Hello"\n',
    "main.go": """package main

import (
	"fmt"
	"net/http"
	"os"

	"example.com/greet"
	"example.com/own"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s. This is version 1.\\n", greet.Word, own.Word)
	})
	http.ListenAndServe(":"+os.Getenv("PORT"), nil)
}
""",
}
DENO = "pushboat-test/deno:bookworm"
"""Left on the machine, as the Debian that it is made from is."""
DENO_FROM = f"""FROM {DEBIAN}
RUN apt-get -qq update && apt-get -qq install --no-install-recommends ca-certificates python3-venv > /dev/null \
    && python3 -m venv /opt/pip && /opt/pip/bin/pip install --quiet deno==2.9.8 \
    && cp /opt/pip/bin/deno /usr/local/bin/ && rm -rf /opt/pip
ENV DENO_VERSION=2.9.8
"""


def wheel(name: str, code: str) -> bytes:
    """Return version 1 of a package of one module, as wheels are: an archive with a list of what is in it."""
    info = f"{name}-1.dist-info"
    files = {
        f"{name}/__init__.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{info}/RECORD,,\n"
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text)}\n"
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(path, text)
    return output.getvalue()


async def modules(boat: Rig, app: str) -> list[str]:
    replica, *_ = await boat.replicas(app)
    return (await boat.docker("exec", replica, "ls", "node_modules")).out.split()


async def test_uv_with_a_workspace_and_a_path_dependency(harbour: Rig) -> None:
    app = harbour.checkout("uv", UV)
    said = await pushed(harbour, app)
    assert "uv.lock and pyproject.toml, so Python >=3.11 with uv\n" in said
    assert (await harbour.http("uv.localhost")).text == "Hello Own. This is version 1.\n"
    await change(app, "server.py")
    said = await pushed(harbour, app)
    assert cached(said, "--no-install-package greet --no-install-package own")
    assert (await harbour.http("uv.localhost")).text == "Hello Own. This is version 2.\n"
    assert "Python 3.11.2 of Debian's own packages, on " in (await report(harbour, "uv"))["built-on"]
    assert await exit_status(harbour, "uv") == 0


@pytest.mark.toolchains
async def test_poetry_with_a_wheel_in_the_repository(harbour: Rig) -> None:
    content = wheel("own", 'WORD = "Own"\n')
    lock = POETRY["poetry.lock"].replace("DIGEST", hashlib.sha256(content).hexdigest())
    app = harbour.checkout("poetry", {**POETRY, "poetry.lock": lock})
    (app.folder / "wheels").mkdir()
    (app.folder / "wheels/own-1-py3-none-any.whl").write_bytes(content)
    said = await pushed(harbour, app)
    assert "poetry.lock and pyproject.toml, so Python ^3.11 with poetry\n" in said
    assert (await harbour.http("poetry.localhost")).text == "Own. This is version 1.\n"
    await change(app, "server.py")
    said = await pushed(harbour, app)
    assert cached(said, "poetry install --only main --no-root --no-interaction")
    assert (await harbour.http("poetry.localhost")).text == "Own. This is version 2.\n"
    assert await exit_status(harbour, "poetry") == 0


async def test_pnpm_with_a_workspace_whose_program_builds_the_app(harbour: Rig) -> None:
    app = harbour.checkout("pnpm", PNPM)
    said = await pushed(harbour, app)
    assert "pnpm-lock.yaml, so Node with pnpm; web: node server.js\n" in said
    assert (await harbour.http("pnpm.localhost")).text == "Own, built. This is version 1.\n"
    assert await modules(harbour, "pnpm") == ["own"]
    await change(app, "server.js")
    said = await pushed(harbour, app)
    assert cached(said, "pnpm install --frozen-lockfile --prod=false")
    assert (await harbour.http("pnpm.localhost")).text == "Own, built. This is version 2.\n"
    assert await exit_status(harbour, "pnpm") == 0


@pytest.mark.toolchains
async def test_yarn_3_without_its_plugin_leaves_out_what_only_a_build_needs(harbour: Rig) -> None:
    app = harbour.checkout("yarn", YARN)
    said = await pushed(harbour, app)
    assert "yarn.lock, so Node with yarn; web: node server.js\n" in said
    assert (await harbour.http("yarn.localhost")).text == "Own, not built. This is version 1.\n"
    assert await modules(harbour, "yarn") == ["own"]
    await change(app, "server.js")
    said = await pushed(harbour, app)
    assert cached(said, "yarn install --immutable") and cached(said, "mkdir -p /tmp/kept")
    assert (await harbour.http("yarn.localhost")).text == "Own, not built. This is version 2.\n"
    assert await exit_status(harbour, "yarn") == 0


@pytest.mark.toolchains
async def test_go_with_a_workspace_and_a_replaced_module(harbour: Rig) -> None:
    app = harbour.checkout("modules", GO)
    said = await pushed(harbour, app)
    assert "go.mod and go.work, so Go >=1.19; web: /app/bin/shop\n" in said
    assert (await harbour.http("modules.localhost")).text == "Hello Own. This is version 1.\n"
    await change(app, "main.go")
    said = await pushed(harbour, app)
    assert cached(said, "go mod download")
    assert (await harbour.http("modules.localhost")).text == "Hello Own. This is version 2.\n"
    assert await exit_status(harbour, "modules") != KILLED


@pytest.mark.toolchains
async def test_deno_on_an_image_of_ones_own(harbour: Rig) -> None:
    builds = await harbour.spawn(
        "docker", "--host", f"unix://{harbour.boat.engine.path}", "build", "-q", "-t", DENO, "-"
    )
    out, err = await asyncio.wait_for(builds.communicate(DENO_FROM.encode()), 400)
    assert builds.returncode == 0, (out + err).decode()
    app = example(harbour, "deno", app="deno")
    await harbour.must("apps:create", "deno")
    await harbour.must("builder:set", "deno", "base-image", DENO)
    said = await pushed(harbour, app)
    assert "deno.lock, so Deno; web: deno run --allow-env --allow-net main.ts\n" in said
    assert f"\n       {DENO} has Deno 2.9.8\n" in said
    assert (await harbour.http("deno.localhost")).text.startswith("Hello from Deno, up for ")
    assert await runs_as(harbour, "deno") == "10001"
    await change(app, "main.ts")
    said = await pushed(harbour, app)
    assert cached(said, "deno install --frozen")
    assert "This is version 2." in (await harbour.http("deno.localhost")).text
    assert await exit_status(harbour, "deno") != KILLED
