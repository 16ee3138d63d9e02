"""OCI image layouts: the run image as one without its layers, and an app's image out of one.

The lifecycle needs of a run image only what it says of itself, since its layers are in the engine already: a layout may
lack them ("sparse"). They are missing from what it writes, too, and the engine does not ask for layers that it has.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from agent.builders.files import mapping
from agent.ports.images import BuildFailed

MAX_DOCUMENT: Final = 4 << 20
"""Bytes of an index, a manifest or a config."""
INDEX: Final = "index.json"

_INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
_MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class RootFs(msgspec.Struct, frozen=True, rename="pascal"):
    """The layers of an image that the engine holds."""

    layers: list[str] | None = None
    """Digests of what is in them, not packed; the lowest first."""


class RunImage(msgspec.Struct, frozen=True, rename="pascal"):
    """What the engine tells of an image (``GET /images/NAME/json``)."""

    id: str
    architecture: str = "amd64"
    os: str = "linux"
    config: dict[str, Any] = {}
    root_f_s: RootFs = msgspec.field(name="RootFS", default=RootFs())

    @property
    def layers(self) -> Sequence[str]:
        """Digests of what is in its layers."""
        return self.root_f_s.layers or ()


class Blob(msgspec.Struct, frozen=True):
    """A file of a layout, by what is in it."""

    digest: str
    size: int = 0

    @property
    def path(self) -> str:
        """Within the layout."""
        return f"blobs/{self.digest.replace(':', '/')}"


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """An image that the lifecycle wrote, as the engine is to take it."""

    config: bytes
    """Its config, as it is to be."""
    layers: tuple[Blob, ...]
    """All of them, the run image's first."""
    own: tuple[Blob, ...]
    """Those that the engine may lack."""


def sparse(image: RunImage) -> dict[str, bytes]:
    """Return the files of a layout that holds `image` without its layers."""
    config = _encoded(
        {
            "architecture": image.architecture,
            "os": image.os,
            "config": {key: value for key, value in image.config.items() if value is not None},
            "rootfs": {"type": "layers", "diff_ids": list(image.layers)},
            "history": [],
        }
    )
    # Nobody reads the layers; what is not packed has the digest that is known. A size of 0 would be an empty file.
    layers = [{"mediaType": _LAYER_TYPE, "digest": digest, "size": 1} for digest in image.layers]
    manifest = _encoded(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": _descriptor(config, _CONFIG_TYPE),
            "layers": layers,
        }
    )
    index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": [_descriptor(manifest, _MANIFEST_TYPE)]}
    return {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        INDEX: _encoded(index),
        Blob(_digest(config)).path: config,
        Blob(_digest(manifest)).path: manifest,
    }


def manifest_in(index: bytes) -> Blob:
    """Return where the manifest of the only image of a layout is.

    Raises:
        BuildFailed: the index names none, or several.
    """
    manifests = _object(index).get("manifests")
    if not isinstance(manifests, list) or len(manifests) != 1:
        raise _senseless("its index does not name one image")
    return _blob(manifests[0])


def config_in(manifest: bytes) -> Blob:
    """Return where the config of an image is.

    Raises:
        BuildFailed: the manifest makes no sense.
    """
    return _blob(_object(manifest).get("config"))


def exported(manifest: bytes, config: bytes, *, run_image: RunImage, labels: Mapping[str, str]) -> Exported:
    """Return the image that the engine is to take: with `labels`, and its process as what it runs.

    An image of the lifecycle begins its default process by its entry point. Other processes of it are begun by other
    programs, and an entry point would stand before those; so what was the entry point becomes the command.

    Raises:
        BuildFailed: it is no image upon `run_image`.
    """
    found = _object(config)
    layers = [_blob(each) for each in _list(_object(manifest).get("layers"))]
    contents = _list(mapping(found.get("rootfs")).get("diff_ids"))
    below = len(run_image.layers)
    if contents[:below] != list(run_image.layers) or len(contents) != len(layers):
        raise _senseless("it is not built on the run image")
    runs = dict(mapping(found.get("config")))
    words = [*_list(runs.get("Entrypoint")), *_list(runs.get("Cmd"))]
    runs |= {"Entrypoint": None, "Cmd": words, "Labels": {**mapping(runs.get("Labels")), **labels}}
    return Exported(
        config=_encoded({**found, "config": runs}), layers=tuple(layers), own=tuple(dict.fromkeys(layers[below:]))
    )


def saved_manifest(image: Exported, *, name: str, config: str, below: Sequence[str] = ()) -> bytes:
    """Return the ``manifest.json`` of a ``docker save`` archive with `image` as `name`, its config in `config`.

    `below`: where the run image's layers are in it; none: the engine has them.
    """
    layers = [*below, *(layer.path for layer in image.layers[len(below) :])]
    return _encoded([{"Config": config, "RepoTags": [name], "Layers": layers}])


def _descriptor(content: bytes, kind: str) -> dict[str, object]:
    return {"mediaType": kind, "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _encoded(document: object) -> bytes:
    return msgspec.json.encode(document, order="deterministic")


def _object(content: bytes) -> Mapping[str, Any]:
    try:
        return mapping(msgspec.json.decode(content))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _senseless("a file of it cannot be read") from error


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _blob(descriptor: object) -> Blob:
    digest, size = mapping(descriptor).get("digest"), mapping(descriptor).get("size")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest) or not isinstance(size, int) or size < 0:
        raise _senseless("a file of it is named by no digest")
    return Blob(digest, size)


def _senseless(what: str) -> BuildFailed:
    return BuildFailed(f"The lifecycle of the builder wrote an image that makes no sense: {what}.")
