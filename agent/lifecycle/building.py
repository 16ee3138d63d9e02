"""What users have set about an app's builds, gathered for one of them."""

from __future__ import annotations

import msgspec

from agent.ports.images import USUAL_BUILDER_IMAGE, BuildOptions
from agent.state.database import Tables
from proto.names import SERVER, AppId

COLLECTSTATIC = "DISABLE_COLLECTSTATIC"
"""The config variable that keeps Django's static files from being collected, as on Heroku. Not 0, nor empty."""

FOR_BUILDPACKS = "BP_"
"""Begins the names of config variables that are meant for buildpacks, by their custom: no others reach a build."""
_BUILDER_IMAGE = "builder.builder-image"


async def build_options(tables: Tables, *, app: AppId, name: str, timeout_seconds: float = 1800.0) -> BuildOptions:
    """Return the options of a build of `app`, whose name is `name`."""

    async def effective(property: str) -> str:
        return await tables.properties.effective(app, property) or ""

    build_args = await effective("builder-dockerfile.build-args")
    config = await tables.configs.merged(app)
    return BuildOptions(
        app_name=name,
        dockerfile_path=await effective("builder-dockerfile.dockerfile-path") or "Dockerfile",
        build_folder=await effective("builder.build-dir"),
        target=await effective("builder-dockerfile.target"),
        build_args=msgspec.json.decode(build_args, type=dict[str, str]) if build_args else {},
        timeout_seconds=timeout_seconds,
        selected=await effective("builder.selected"),
        base_image=await effective("builder.base-image"),
        apt_packages=tuple((await effective("builder.apt-packages")).split()),
        static_folder=await effective("builder.static-folder"),
        keeps_git_dir=await effective("git.keep-git-dir") == "true",
        builder_image=await tables.properties.get(app, _BUILDER_IMAGE) or "",
        usual_builder_image=await tables.properties.get(SERVER, _BUILDER_IMAGE) or USUAL_BUILDER_IMAGE,
        project_toml=await effective("builder-pack.projecttoml-path") or "project.toml",
        buildpack_env={name: value for name, value in config.items() if name.startswith(FOR_BUILDPACKS)},
        has_collectstatic=config.get(COLLECTSTATIC, "") in ("", "0"),
    )
