"""Python apps: pip, Poetry, uv, PDM and Pipenv install into one virtual environment, which the last stage takes over.

Packages are installed before the app's files come in, so that a change of those alone reinstalls nothing. What the
tools need to know stays in the manifests: none of it gets into the Dockerfile.
"""

from __future__ import annotations

from typing import Final

import msgspec

from agent.builders.bases import Base
from agent.builders.files import Files
from agent.builders.language import Sketch
from agent.builders.plan import BuildPlan, BuildStage, Cache, Copy, CopyFrom, Env, Run, Step, Workdir
from agent.builders.python_manifests import Manifest, read_manifest, wanted_python
from agent.builders.python_web import guess
from agent.builders.stages import APP, build_packages, each_in_its_folder, foundation, running, shown
from agent.ports.images import BuildOptions

VENV: Final = "/opt/venv"

_PIP_CACHE: Final = Cache("pip", "/root/.cache/pip")
_LIST_DEPENDENCIES: Final = (
    "import sys; toml = __import__('tomllib' if sys.version_info >= (3, 11) else 'pip._vendor.tomli', fromlist='x'); "
    "print(*toml.load(open('pyproject.toml', 'rb'))['project'].get('dependencies', ()), sep='\\n')"
)
"""Python that prints what a pyproject.toml depends on, to be installed before the app itself is there."""

_PLACEHOLDERS: Final = "SECRET_KEY=collectstatic DJANGO_SECRET_KEY=collectstatic DATABASE_URL=sqlite://:memory:"
"""Settings of Django often insist on these; collecting files uses none of them."""

_COLLECT: Final = (
    f"{{ {_PLACEHOLDERS} python manage.py collectstatic --noinput"
    " || { echo 'If static files need no collecting: config:set <app> DISABLE_COLLECTSTATIC=1' >&2; exit 1; }; }"
)


class _Tool(msgspec.Struct, frozen=True, kw_only=True):
    """How a tool is got, and what it is told."""

    package: str = ""
    """On the package index; empty: it is there."""
    locked: str
    unlocked: str
    itself: str
    """Installs the app itself."""
    rest: str = ""
    """Installs what was left out at first, and the app itself."""
    not_itself: str = ""
    """Added to that where the app itself is not to be installed."""
    cache: Cache = _PIP_CACHE
    env: dict[str, str] = {}


_TOOLS: Final = {
    "pip": _Tool(
        locked="pip install",  # and its files
        unlocked=f'python -c "{_LIST_DEPENDENCIES}" > /tmp/requirements.txt && pip install -r /tmp/requirements.txt',
        itself="pip install --no-deps .",
    ),
    "uv": _Tool(
        package="uv<1",
        locked="/opt/uv/bin/uv sync --frozen --no-dev --no-install-project",
        unlocked="/opt/uv/bin/uv sync --no-dev --no-install-project",
        itself="/opt/uv/bin/uv sync --frozen --no-dev",
        rest="/opt/uv/bin/uv sync --frozen --no-dev",
        not_itself=" --no-install-project",
        cache=Cache("uv", "/root/.cache/uv"),
        env={"UV_PROJECT_ENVIRONMENT": VENV, "UV_LINK_MODE": "copy", "UV_PYTHON_DOWNLOADS": "never"},
    ),
    "poetry": _Tool(
        package="poetry<3",
        locked="/opt/poetry/bin/poetry install --only main --no-root --no-interaction",
        unlocked="/opt/poetry/bin/poetry install --only main --no-root --no-interaction",
        itself="/opt/poetry/bin/poetry install --only-root --no-interaction",
        rest="/opt/poetry/bin/poetry install --only main --no-interaction",
        not_itself=" --no-root",
        cache=Cache("poetry", "/root/.cache/pypoetry"),
    ),
    "pdm": _Tool(
        package="pdm[locked]<3",
        locked="/opt/pdm/bin/pdm sync --prod --no-self",
        unlocked="/opt/pdm/bin/pdm install --prod --no-self",
        itself="pip install --no-deps .",
        cache=Cache("pdm", "/root/.cache/pdm"),
        env={"PDM_CHECK_UPDATE": "false", "PDM_IGNORE_SAVED_PYTHON": "1"},
    ),
    "pipenv": _Tool(
        package="pipenv",
        locked="/opt/pipenv/bin/pipenv sync",
        unlocked="/opt/pipenv/bin/pipenv install --skip-lock",
        itself="pip install --no-deps .",
        env={"PIPENV_VERBOSITY": "-1", "PIPENV_NOSPIN": "1"},
    ),
}


class Python:
    """Fulfils ``Language``."""

    name = "python"
    looks_for = "requirements.txt, pyproject.toml or Pipfile"
    markers: tuple[str, ...] = ("requirements.txt", "pyproject.toml", "Pipfile")

    async def sketch(self, files: Files, options: BuildOptions) -> Sketch | None:
        """See ``Language``."""
        manifest = await read_manifest(files)
        if manifest is None:
            return None
        need = await wanted_python(files)
        named = " and ".join(dict.fromkeys(filter(None, (manifest.file, need.said_in))))
        words: tuple[str, ...] = ()
        why = f"{named}, so {need} with {manifest.tool}"
        if not await files.has_processes():
            web = await guess(files, manifest.packages, file=manifest.file, is_known=manifest.knows_packages)
            words, why = web.words, f"{why}; {web.why}, so web: {shown(web.words)}"
        collects = await _collects_static(files, manifest, options)
        sources = any(name.startswith("src/") and name.endswith(".py") for name in files.names)

        def plan(bases: tuple[Base, ...]) -> BuildPlan:
            path = {} if manifest.is_package or not sources else {"PYTHONPATH": f"{APP}/src"}
            return _plan(bases[0], manifest, why=(why, bases[0].why), words=words, collects=collects, path=path)

        return Sketch(why=why, needs=(need,), notes=_notes(manifest), plan=plan)


def _plan(
    base: Base,
    manifest: Manifest,
    *,
    why: tuple[str, ...],
    words: tuple[str, ...],
    collects: bool,
    path: dict[str, str],
) -> BuildPlan:
    stages, start = foundation(base)
    tool = _TOOLS[manifest.tool]
    steps: list[Step] = [
        *build_packages(base),
        Run((f"python3 -m venv {VENV}",)),
        Env({"VIRTUAL_ENV": VENV, "PATH": f"{VENV}/bin:$PATH", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **tool.env}),
        *_the_tool(manifest.tool, tool),
        Workdir(APP),
        *((Copy(),) if manifest.needs_source else each_in_its_folder(manifest.files)),
        Run((_install(manifest, tool),), (tool.cache,)),
    ]
    if not manifest.needs_source:
        steps.append(Copy())
    if manifest.skips:
        steps.append(Run((tool.rest + ("" if manifest.is_package else tool.not_itself),), (tool.cache,)))
    elif manifest.is_package:
        steps.append(Run((tool.itself,), (tool.cache,)))
    if collects:
        steps += [*([Env(path)] if path else []), Run((_COLLECT,))]
    env = {
        "VIRTUAL_ENV": VENV,
        "PATH": f"{VENV}/bin:$PATH",
        "PYTHONUNBUFFERED": "1",
        # Nobody but the proxy reaches a replica, so its word on the visitor's address counts.
        "FORWARDED_ALLOW_IPS": "*",
        **path,
    }
    copies = [CopyFrom("build", VENV), CopyFrom("build", APP, is_apps=True)]
    return BuildPlan(
        why=why,
        stages=(
            *stages,
            BuildStage(base=start, name="build", steps=tuple(steps)),
            running(start, copies=copies, env=env, command=words),
        ),
    )


def _install(manifest: Manifest, tool: _Tool) -> str:
    """Return the command that installs the packages, as far as they can be had before the app's files are there."""
    if not manifest.knows_packages and not manifest.is_locked and manifest.tool == "pip":
        return "pip install ."
    options = [*(f"--requirement {name}" for name in manifest.requirements), *manifest.skips]
    return " ".join((tool.locked if manifest.is_locked else tool.unlocked, *options))


def _the_tool(name: str, tool: _Tool) -> tuple[Step, ...]:
    if not tool.package:
        return ()
    folder = f"/opt/{name}"
    return (Run((f"python3 -m venv {folder}", f"{folder}/bin/pip install '{tool.package}'"), (_PIP_CACHE,)),)


async def _collects_static(files: Files, manifest: Manifest, options: BuildOptions) -> bool:
    if "django" not in manifest.packages or not files.has("manage.py") or not options.has_collectstatic:
        return False
    settings = [name for name in files.names if name.endswith(".py") and "settings" in name]
    for name in sorted(settings)[:20]:
        # Without a place to collect them to, the command only fails.
        if "STATIC_ROOT" in await files.code(name):
            return True
    return False


def _notes(manifest: Manifest) -> tuple[str, ...]:
    notes = []
    if manifest.needs_source:
        notes.append(f"Every change of the app installs all again, as {manifest.needs_source}")
    if not manifest.is_locked and manifest.tool != "pip":
        notes.append(f"There is no lock file for {manifest.tool}: two builds may get different versions. Commit one")
    return tuple(notes)
