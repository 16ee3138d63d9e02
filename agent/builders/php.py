"""PHP apps: Composer installs what is locked, and Apache serves it with PHP inside.

One server with everything in one family of processes: nothing has to be watched or told to end but that, which neither
PHP-FPM behind another server nor PHP's own server for developers can say.
"""

from __future__ import annotations

from typing import Final

import msgspec

from agent.builders.assets import Assets, assets_of
from agent.builders.bases import Base, Need
from agent.builders.files import Files, is_plain, not_for_visitors
from agent.builders.language import Sketch
from agent.builders.php_extensions import compiled, debian_packages
from agent.builders.php_manifests import COMPOSER, Manifest, read_manifest, wanted_php
from agent.builders.plan import BuildPlan, BuildStage, Cache, Copy, CopyFrom, Env, Run, Step, Workdir, Write, apt
from agent.builders.stages import APP, foundation, running
from agent.errors import UserError
from agent.ports.images import BuildOptions

SERVE: Final = "serve-php"
"""The program that serves the app, for a Procfile to name."""

_ROOTS: Final = ("public", "web", "webroot", "htdocs", "www")
"""Where frameworks have the page that answers everything, apart from what visitors must not see."""

_CONFIGURATION: Final = "/etc/pushboat/apache.conf"
_SERVER: Final = (
    "#!/bin/sh",
    "# Serves the app by Apache, on $PORT, by as many processes as $WEB_CONCURRENCY says at most.",
    'export PORT="${PORT:-5000}" WEB_CONCURRENCY="${WEB_CONCURRENCY:-10}"',
    f"exec apache2 -f {_CONFIGURATION} -D FOREGROUND",
)
_CACHE: Final = Cache("composer", "/root/.cache/composer")
_INSTALL: Final = "composer install --no-dev --no-interaction --no-progress --prefer-dist"


class _Site(msgspec.Struct, frozen=True):
    """What Apache serves."""

    root: str
    """A folder of the app; empty: all of it."""
    private: str
    """The paths that nobody is shown, as a regular expression."""


class Php:
    """Fulfils ``Language``."""

    name = "php"
    looks_for = "composer.json or index.php"
    markers: tuple[str, ...] = ("composer.json",)

    async def sketch(self, files: Files, options: BuildOptions) -> Sketch | None:
        """See ``Language``. A composer.json with no page in it and no Procfile is of a library, or of tools."""
        manifest = await read_manifest(files)
        if manifest is None:
            return None
        root = _root(files, told=options.static_folder.strip("/"))
        has_processes = await files.has_processes()
        if root is None and not has_processes:
            if options.selected != self.name and not options.static_folder:
                return None
            message = "What to serve is not clear: there is no Procfile, and no index.php in a folder that is known."
            raise UserError("web.unknown", message, "Name the folder: builder:set <app> static-folder <folder>")
        need = await wanted_php(files)
        assets = await _assets(files, manifest)
        why = f"{' and '.join(dict.fromkeys(filter(None, (manifest.file, need.said_in))))}, so {need}"
        why += " with Composer" if manifest.has_composer else ""
        why += f", and {assets.said}" if assets else ""
        if not has_processes:
            why += f"; web: Apache serves {root or 'all files'}"
        needs = [need]
        if manifest.has_composer:
            needs.append(Need(runtime=COMPOSER, is_beside=True))
        if assets:
            needs.append(assets.need)

        def plan(bases: tuple[Base, ...]) -> BuildPlan:
            said = (why, *(base.why for base in bases))
            words = () if has_processes else (SERVE,)
            site = _Site(root or "", not_for_visitors(options, served=(root or "",)))
            return _plan(bases, manifest, assets, why=said, words=words, site=site)

        return Sketch(why=why, needs=tuple(needs), notes=_notes(manifest), plan=plan)


def _plan(
    bases: tuple[Base, ...],
    manifest: Manifest,
    assets: Assets | None,
    *,
    why: tuple[str, ...],
    words: tuple[str, ...],
    site: _Site,
) -> BuildPlan:
    stages, start = _server(bases[0], manifest, site=site)
    steps: list[Step] = [Workdir(APP)]
    if manifest.has_composer:
        composer = bases[1]
        if composer.packages:
            steps.append(apt(*composer.packages.run, "git", "unzip"))
        else:
            if composer.image != bases[0].image:
                stages = (*stages, BuildStage(base=composer.image, name="composer"))
                steps.append(CopyFrom("composer", "/usr/bin/composer"))
            steps.append(apt("git", "unzip"))
        steps.append(Env({"COMPOSER_ALLOW_SUPERUSER": "1", "COMPOSER_CACHE_DIR": _CACHE.folder}))
    if assets:
        steps += assets.node_steps(bases[-1], on=bases[0])
        stages = (*stages, *assets.stages(bases[-1], on=bases[0]))
    if manifest.has_composer and not manifest.needs_source:
        # Its own scripts need the app's files, and so does the list of its classes.
        steps += [Copy(manifest.files), Run((f"{_INSTALL} --no-scripts --no-autoloader",), (_CACHE,))]
    if assets:
        steps += assets.before_source()
    steps.append(Copy())
    if manifest.has_composer:
        steps.append(Run((f"{_INSTALL} --optimize-autoloader",), (_CACHE,)))
    if assets:
        steps += [*assets.after_source(runs_build=True), assets.cleared()]
    env = {"PATH": f"{APP}/vendor/bin:$PATH"} if manifest.has_composer else {}
    last = running(start, copies=[CopyFrom("build", APP, is_apps=True)], env=env, command=words)
    return BuildPlan(why=why, stages=(*stages, BuildStage(base=start, name="build", steps=tuple(steps)), last))


def _server(base: Base, manifest: Manifest, *, site: _Site) -> tuple[tuple[BuildStage, ...], str]:
    """Return the stage that has PHP, its extensions and Apache, and its name."""
    steps: list[Step] = []
    if base.packages and "libapache2-mod-php" in base.packages.run:
        packages = base.packages
        more = tuple(dict.fromkeys((*packages.run, *debian_packages(manifest.extensions))))
        base = msgspec.structs.replace(base, packages=msgspec.structs.replace(packages, run=more))
    else:
        steps += compiled(manifest.extensions)
    stages, start = foundation(base)
    steps += [
        Run(("a2enmod -q headers remoteip rewrite > /dev/null",)),
        Write(_CONFIGURATION, _apache(site)),
        Write(f"/usr/local/bin/{SERVE}", _SERVER),
        Run((f"chmod 755 /usr/local/bin/{SERVE}",)),
    ]
    return (*stages, BuildStage(base=start, name="server", steps=tuple(steps))), "server"


def _root(files: Files, *, told: str) -> str | None:
    """Return the folder that is served; empty: all files; `None`: it is not clear."""
    if told and not is_plain(told):
        raise UserError(
            "static.bad-folder", f"The folder {told[:80]!r} has an unusual name.", "Use letters, digits, - and _."
        )
    if told:
        return told if any(name.startswith(f"{told}/") for name in files.names) else None
    return next((each for each in (*_ROOTS, "") if files.has(f"{each}/index.php".removeprefix("/"))), None)


async def _assets(files: Files, manifest: Manifest) -> Assets | None:
    """Return the front end, if the app has one with something to build."""
    if not manifest.has_composer:
        return None
    assets = await assets_of(files)
    return assets if assets and assets.manifest.build else None


def _notes(manifest: Manifest) -> tuple[str, ...]:
    notes = []
    if manifest.has_composer and not manifest.is_locked:
        notes.append("There is no composer.lock: two builds may get different versions. Commit it")
    if manifest.needs_source:
        notes.append(f"Every change of the app installs all again, as {manifest.needs_source}")
    for name in manifest.unknown:
        notes.append(f"The extension {name} is not known here: builder:set <app> apt-packages php-{name} may have it")
    return tuple(notes)


def _apache(site: _Site) -> tuple[str, ...]:
    served = f"{APP}/{site.root}" if site.root else APP
    return (
        "ServerRoot /etc/apache2",
        "ServerName localhost",
        "Listen ${PORT}",
        "PidFile /tmp/apache2.pid",
        "DefaultRuntimeDir /tmp",
        "IncludeOptional mods-enabled/*.load",
        "TypesConfig /etc/mime.types",
        "ErrorLog /dev/stderr",
        'ErrorLogFormat "[%l] %M"',
        r'CustomLog /dev/stdout "%a \"%r\" %>s %B"',
        "ServerTokens Prod",
        "ServerSignature Off",
        "TraceEnable Off",
        "StartServers 2",
        "MinSpareServers 2",
        "MaxSpareServers 4",
        "MaxRequestWorkers ${WEB_CONCURRENCY}",
        "KeepAliveTimeout 5",
        "RemoteIPHeader X-Forwarded-For",
        "SetEnvIf X-Forwarded-Proto ^https$ HTTPS=on",
        "AddOutputFilterByType DEFLATE text/html text/css text/plain application/javascript application/json",
        # What is set as config is in $_ENV too, where some frameworks look for it.
        "php_value variables_order EGPCS",
        "php_flag display_errors off",
        "php_flag log_errors on",
        "php_value upload_max_filesize 64M",
        "php_value post_max_size 64M",
        "<Directory />",
        "  AllowOverride None",
        "  Require all denied",
        "</Directory>",
        f"DocumentRoot {served}",
        f"<Directory {served}>",
        "  Options FollowSymLinks",
        "  AllowOverride All",
        "  Require all granted",
        "  DirectoryIndex index.php index.html",
        # A framework's page answers for every path that is no file.
        *(("  FallbackResource /index.php",) if site.root else ()),
        "</Directory>",
        r'<LocationMatch "/\.(?!well-known/)">',
        "  Require all denied",
        "</LocationMatch>",
        rf'<LocationMatch "^/(vendor/|(composer\.(json|lock)|{site.private})$)">',
        "  Require all denied",
        "</LocationMatch>",
        r'<FilesMatch "\.php$">',
        "  SetHandler application/x-httpd-php",
        "</FilesMatch>",
    )
