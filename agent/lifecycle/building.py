"""What users have set about an app's builds, gathered for one of them."""

from __future__ import annotations

import msgspec

from agent.errors import UserError
from agent.ports.images import BuildOptions
from agent.state.database import Tables
from proto.names import AppId

COLLECTSTATIC = "DISABLE_COLLECTSTATIC"
"""The config variable that keeps Django's static files from being collected, as on Heroku. Not 0, nor empty."""

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
        selected=await effective(SELECTED),
        base_image=await effective("builder.base-image"),
        apt_packages=tuple((await effective("builder.apt-packages")).split()),
        static_folder=await effective("builder.static-folder"),
        has_collectstatic=config.get(COLLECTSTATIC, "") in ("", "0"),
    )
