"""What users have set about an app's builds, gathered for one of them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from agent.lifecycle import build_secrets, registries
from agent.ports.images import BuildOptions
from agent.state.database import Tables
from proto.names import AppId

COLLECTSTATIC = "DISABLE_COLLECTSTATIC"
"""The config variable that keeps Django's static files from being collected, as on Heroku. Not 0, nor empty."""


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
        build_args=_arguments(build_args, config=config),
        secrets=await build_secrets.merged(tables, app),
        logins=await registries.logins(tables, app),
        timeout_seconds=timeout_seconds,
        selected=await effective("builder.selected"),
        base_image=await effective("builder.base-image"),
        apt_packages=tuple((await effective("builder.apt-packages")).split()),
        static_folder=await effective("builder.static-folder"),
        has_collectstatic=config.get(COLLECTSTATIC, "") in ("", "0"),
    )


def _arguments(stored: str, *, config: Mapping[str, str]) -> dict[str, str]:
    """Return the build arguments. One without a value has that of the config of its name; where there is none, none."""
    known = msgspec.json.decode(stored, type=dict[str, str | None]) if stored else {}
    values = {key: config.get(key) if value is None else value for key, value in known.items()}
    return {key: value for key, value in values.items() if value is not None}
