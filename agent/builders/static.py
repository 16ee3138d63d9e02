"""Pages and nothing else: files that are there, or what a Node build puts out, served by nginx.

nginx compresses, lets browsers keep what bears a hash in its name, answers paths without a file by the one page of a
single-page app, or by 404.html where there is one, and logs to standard output. It reads no environment, so the port
is filled into its configuration when it starts.
"""

from __future__ import annotations

from typing import Final

from agent.builders.bases import Base, Need, Packages, Runtime
from agent.builders.files import Files, is_plain, not_for_visitors
from agent.builders.language import Sketch
from agent.builders.node_build import build_steps, notes
from agent.builders.node_manifests import Manifest, read_manifest, wanted_node
from agent.builders.plan import BuildPlan, BuildStage, Copy, CopyFrom, Run, Step, Workdir, Write
from agent.builders.stages import APP, foundation, running
from agent.errors import UserError
from agent.manifests.procfile import argv
from agent.ports.images import BuildOptions

NGINX: Final = Runtime(
    title="nginx",
    official="nginx:{}-bookworm",
    variable="NGINX_VERSION",
    offered=("1.28",),
    debian={
        "bookworm": Packages(version="1.22.1", run=("nginx",)),
        "trixie": Packages(version="1.26.3", run=("nginx",)),
    },
)
PAGES: Final = "/srv/www"
OUTPUTS: Final = ("dist", "build", "out", "public", "_site")
"""Where builds put pages, by themselves."""

_THERE: Final = ("", "public", "dist", "build", "www")
"""Where pages that need no build are."""

_CONFIGURATION: Final = "/etc/pushboat/nginx.conf"
_START: Final = (
    f'sed "s/PORT/${{PORT:-5000}}/" {_CONFIGURATION} > /tmp/nginx.conf'
    " && exec nginx -c /tmp/nginx.conf -g 'daemon off;'"
)
_PRIVATE: Final = "NOT_FOR_VISITORS"
"""Stands for the paths that nobody is shown."""
_NGINX: Final = (
    "worker_processes 2;",
    "pid /tmp/nginx.pid;",
    "error_log stderr;",
    "events { worker_connections 1024; }",
    "http {",
    "  include /etc/nginx/mime.types;",
    "  default_type application/octet-stream;",
    "  access_log /dev/stdout;",
    "  client_body_temp_path /tmp/nginx-body; proxy_temp_path /tmp/nginx-proxy; fastcgi_temp_path /tmp/nginx-fastcgi;",
    "  uwsgi_temp_path /tmp/nginx-uwsgi; scgi_temp_path /tmp/nginx-scgi;",
    "  server_tokens off; sendfile on; tcp_nopush on; keepalive_timeout 75s;",
    "  set_real_ip_from 0.0.0.0/0; real_ip_header X-Forwarded-For;",
    "  gzip on; gzip_vary on; gzip_proxied any; gzip_min_length 512;",
    "  gzip_types text/css text/plain text/xml application/javascript text/javascript application/json",
    "    application/manifest+json application/rss+xml application/wasm application/xml image/svg+xml font/ttf;",
    "  server {",
    "    listen PORT;",
    f"    root {PAGES};",
    "    index index.html;",
    "    absolute_redirect off;",
    "    error_page 404 /404.html;",
    "    error_page 403 =404 /404.html;",
    r"    location ~ /\.(?!well-known/) { return 404; }",
    f'    location ~ "^/(?:{_PRIVATE})$" {{ return 404; }}',
    r'    location ~ "^/(?:assets|static|_astro|_nuxt|_next/static|_app/immutable)/(?:.*[./-])?'
    r'(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{8,}\.[a-z0-9]+$" {',
    '      add_header Cache-Control "public, max-age=31536000, immutable";',
    "    }",
    "    location / {",
    '      add_header Cache-Control "no-cache";',
    "      try_files $uri $uri.html $uri/ @missing;",
    "    }",
    "    location @missing {",
    "      if (-f $document_root/404.html) { return 404; }",
    r"      if ($uri ~ \.[A-Za-z0-9]+$) { return 404; }",
    '      add_header Cache-Control "no-cache";',
    "      rewrite ^ /index.html break;",
    "    }",
    "  }",
    "}",
)


class Static:
    """Fulfils ``Language``."""

    name = "static"
    looks_for = "index.html, or package.json with a script build"
    markers: tuple[str, ...] = ("package.json",)

    async def sketch(self, files: Files, options: BuildOptions) -> Sketch | None:
        """See ``Language``."""
        told = options.static_folder.strip("/")
        if told and not is_plain(told):
            raise UserError(
                "static.bad-folder", f"The folder {told[:80]!r} has an unusual name.", "Use letters, digits, - and _."
            )
        manifest = await read_manifest(files)
        if manifest is not None and manifest.build:
            private = not_for_visitors(options, served=(told,) if told else OUTPUTS)
            return await _built(files, manifest, told=told, private=private)
        folders = (told,) if told else _THERE
        folder = next((each for each in folders if files.has(f"{each}/index.html".removeprefix("/"))), None)
        if folder is None:
            return None
        why = f"{folder}/index.html, so files as they are".removeprefix("/")
        private = not_for_visitors(options, served=(folder,))

        def plan(bases: tuple[Base, ...]) -> BuildPlan:
            pages = Copy((f"{folder}/",) if folder else (".",), "./")
            stage = BuildStage(base=bases[0].image, name="build", steps=(Workdir(PAGES), pages))
            return _served(bases[0], stage, why=(why, bases[0].why), private=private)

        return Sketch(why=why, needs=(Need(runtime=NGINX),), plan=plan)


async def _built(files: Files, manifest: Manifest, *, told: str, private: str) -> Sketch:
    need = await wanted_node(files)
    named = " and ".join(dict.fromkeys(filter(None, (manifest.lock or "package.json", need.said_in))))
    output = told or "what the build puts out"
    why = f"{named} and a script {manifest.build} with nothing to start, so {need} with {manifest.title}, then {output}"

    def plan(bases: tuple[Base, ...]) -> BuildPlan:
        node, nginx = bases
        stages, start = foundation(node)
        steps = (*build_steps(node, manifest, keeps_dev=True), _gather(told))
        build = BuildStage(base=start, name="build", steps=steps)
        built = _served(nginx, build, why=(why, node.why, nginx.why), private=private)
        return BuildPlan(why=built.why, stages=(*stages, *built.stages))

    return Sketch(why=why, needs=(need, Need(runtime=NGINX)), notes=notes(manifest), plan=plan)


def _gather(told: str) -> Step:
    folders = (told,) if told else OUTPUTS
    listed = " ".join(folders)
    return Run(
        (
            f"for folder in {listed}; do if [ -f $folder/index.html ]; then mkdir -p /srv && cp -a $folder {PAGES} "
            "&& break; fi; done",
            f"{{ [ -d {PAGES} ] || {{ echo 'The build left no index.html in: {listed}. If it is elsewhere: "
            "builder:set <app> static-folder <folder>' >&2; exit 1; }; }",
        )
    )


def _served(base: Base, stage: BuildStage, *, why: tuple[str, ...], private: str) -> BuildPlan:
    # PORT is filled in when the server starts.
    private = private.replace("PORT", "P.RT")
    stages, start = foundation(base, name="server")
    last = running(
        start,
        copies=[CopyFrom("build", PAGES)],
        env={},
        command=argv(_START, environment={}),
        before=(Write(_CONFIGURATION, tuple(line.replace(_PRIVATE, private) for line in _NGINX)),),
        folder=APP,
    )
    return BuildPlan(why=why, stages=(*stages, stage, last))
