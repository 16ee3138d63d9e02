"""What users have set about an app's builds, gathered for one of them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from agent.errors import UserError
from agent.lifecycle import build_secrets, registries
from agent.lifecycle.properties import set_property
from agent.lifecycle.resources import BUILD, Limits, limits_of
from agent.ports.images import USUAL_BUILDER_IMAGE, BuildOptions
from agent.state.database import Tables, Transaction
from proto.names import AppId

COLLECTSTATIC = "DISABLE_COLLECTSTATIC"
"""The config variable that keeps Django's static files from being collected, as on Heroku. Not 0, nor empty."""

FOR_BUILDPACKS = "BP_"
"""Begins the names of config variables that are meant for buildpacks, by their custom: no others reach a build."""
_BUILDER_IMAGE = "builder.builder-image"

APP_JSON_PATH = "app-json.appjson-path"
PROCFILE_PATH = "ps.procfile-path"


PURGED = "builder.cache-purged"
"""Property that holds the newest deploy when the cache was purged: what was built up to it is not used any more."""

_LOOKED_AT = 50
"""Deploys to look through for one that was built since."""


async def purge_cache(tx: Transaction, *, app: AppId) -> None:
    """Have builds of `app` from now on use nothing that earlier ones left. Repeating is harmless."""
    newest = await tx.deploys.newest(app)
    await set_property(tx, app=app, name=PURGED, value=newest.id if newest else None)


SELECTED = "builder.selected"
"""Property: the builder to take, or what stands in its place."""


def refuse(selected: str, *, app: str, is_image: bool) -> None:
    """Refuse a deploy of a commit or an image, if what is selected in place of a builder takes none such.

    Raises:
        UserError: ``builder.null`` or ``builder.image``, with the way out.
    """
    hint = f"To have builders look again: builder:set {app} selected"
    if selected == "null":
        raise UserError("builder.null", f"{app} is set to deploy nothing new (builder: null).", hint)
    if selected == "image" and not is_image:
        hint = f"Deploy one: git:from-image {app} <image>. {hint}"
        raise UserError("builder.image", f"{app} is set to deploy images alone, and nothing that is pushed.", hint)


async def build_options(tables: Tables, *, app: AppId, name: str, timeout_seconds: float = 1800.0) -> BuildOptions:
    """Return the options of a build of `app`, whose name is `name`."""
    layers = await tables.properties.layers(app)

    def effective(property: str) -> str:
        return layers.effective(property) or ""

    build_args = await tables.properties.effective(app, "builder-dockerfile.build-args") or ""
    config = await tables.configs.merged(app)
    limits = (await limits_of(tables, app)).get(BUILD, Limits())
    own_seconds = effective("builder.timeout-seconds")
    return BuildOptions(
        app_name=name,
        dockerfile_path=effective("builder-dockerfile.dockerfile-path") or "Dockerfile",
        build_folder=effective("builder.build-dir"),
        target=effective("builder-dockerfile.target"),
        build_args=_arguments(build_args, config=config),
        secrets=await build_secrets.merged(tables, app),
        logins=await registries.logins(tables, app),
        timeout_seconds=float(own_seconds) if own_seconds else timeout_seconds,
        memory_bytes=limits.memory,
        cpus=limits.cpu,
        no_cache=await _is_purged(tables, app),
        cache_epoch=effective(PURGED),
        selected=effective(SELECTED),
        base_image=effective("builder.base-image"),
        apt_packages=tuple(effective("builder.apt-packages").split()),
        static_folder=effective("builder.static-folder"),
        keeps_git_dir=effective("git.keep-git-dir") == "true",
        builder_image=layers.own.get(_BUILDER_IMAGE) or "",
        usual_builder_image=layers.server.get(_BUILDER_IMAGE) or USUAL_BUILDER_IMAGE,
        app_json_path=effective(APP_JSON_PATH) or "app.json",
        procfile_path=effective(PROCFILE_PATH) or "Procfile",
        demanded=tuple(name for name in (APP_JSON_PATH, PROCFILE_PATH) if layers.own.get(name)),
        project_toml=effective("builder-pack.projecttoml-path") or "project.toml",
        buildpack_env={name: value for name, value in config.items() if name.startswith(FOR_BUILDPACKS)},
        has_collectstatic=config.get(COLLECTSTATIC, "") in ("", "0"),
    )


async def _is_purged(tables: Tables, app: AppId) -> bool:
    """Tell whether nothing was built since the cache was purged."""
    purged = await tables.properties.get(app, PURGED)
    if not purged:
        return False
    for deploy in await tables.deploys.of_app(app, limit=_LOOKED_AT):
        if deploy.id == purged:
            return True
        if deploy.kind in ("push", "rebuild") and deploy.plan is not None:
            return False
    return False


def _arguments(stored: str, *, config: Mapping[str, str]) -> dict[str, str]:
    """Return the build arguments. One without a value has that of the config of its name; where there is none, none."""
    known = msgspec.json.decode(stored, type=dict[str, str | None]) if stored else {}
    values = {key: config.get(key) if value is None else value for key, value in known.items()}
    return {key: value for key, value in values.items() if value is not None}
