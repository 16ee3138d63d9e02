"""Procfile and app.json of what is deployed: of the commit that is built, or of the image that came as it is."""

from __future__ import annotations

import posixpath
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from agent.errors import UserError
from agent.lifecycle.building import APP_JSON_PATH, PROCFILE_PATH
from agent.manifests.app_json import AppJson, parse_app_json
from agent.manifests.procfile import Procfile, parse_procfile
from agent.ports.images import BuildOptions, ImageInfo, Workshops
from agent.ports.source import SourceTree
from proto.names import AppId


class AppFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What they say."""

    procfile: Procfile | None = None
    app_json: AppJson = AppJson()


async def of_tree(tree: SourceTree, options: BuildOptions) -> AppFiles:
    """Return what the files in the build folder of a commit say.

    Raises:
        UserError: ``manifest.invalid``, ``manifest.missing`` (one that was named for this app), or too large.
    """

    async def read(paths: Sequence[str]) -> Mapping[str, bytes]:
        found = {path: await tree.read(path) for path in paths}
        return {path: content for path, content in found.items() if content is not None}

    return await _parsed(read, options, folder=options.build_folder.strip("/"), where="the commit")


async def of_image(workshops: Workshops, info: ImageInfo, options: BuildOptions, *, app: AppId) -> AppFiles:
    """Return what the files in the working directory of an image say. Nothing of it is run.

    Raises:
        UserError: as `of_tree`.
        Unavailable: the engine does not answer.
    """

    async def read(paths: Sequence[str]) -> Mapping[str, bytes]:
        return await workshops.read(info.id, paths, app=app, app_name=options.app_name)

    return await _parsed(read, options, folder=info.folder, where="the image")


async def _parsed(
    read: Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]], options: BuildOptions, *, folder: str, where: str
) -> AppFiles:
    procfile, app_json = (posixpath.join(folder, name) for name in (options.procfile_path, options.app_json_path))
    found = await read((procfile, app_json))
    for path, property in ((procfile, PROCFILE_PATH), (app_json, APP_JSON_PATH)):
        if path not in found and property in options.demanded:
            noun, _, key = property.partition(".")
            words = f"{noun}:set {options.app_name} {key}"
            raise UserError(
                "manifest.missing", f"There is no {path} in {where}, and {words} names it.", f"To name another: {words}"
            )
    return AppFiles(
        procfile=parse_procfile(found[procfile], name=options.procfile_path) if procfile in found else None,
        app_json=parse_app_json(found[app_json], name=options.app_json_path) if app_json in found else AppJson(),
    )
