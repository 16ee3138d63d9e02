"""The run image as a layout without layers, and an app's image out of one."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from agent.builders import layouts
from agent.builders.layouts import Blob, RunImage
from agent.ports.images import BuildFailed

BASE = "sha256:" + "a" * 64
OWN = "sha256:" + "b" * 64
PACKED = "sha256:" + "c" * 64


def run_image() -> RunImage:
    told = {
        "Id": "sha256:1",
        "Architecture": "arm64",
        "Os": "linux",
        "Config": {"User": "1002", "Env": ["PATH=/bin"], "Labels": None},
        "RootFS": {"Type": "layers", "Layers": [BASE]},
    }
    return msgspec.json.decode(msgspec.json.encode(told), type=RunImage)


def test_a_run_image_becomes_a_layout_whose_files_are_named_by_what_is_in_them() -> None:
    files = layouts.sparse(run_image())
    manifest_at = layouts.manifest_in(files["index.json"])
    manifest = files[manifest_at.path]
    config = msgspec.json.decode(files[layouts.config_in(manifest).path])
    assert config["architecture"] == "arm64"
    assert config["config"] == {"User": "1002", "Env": ["PATH=/bin"]}
    assert config["rootfs"] == {"type": "layers", "diff_ids": [BASE]}
    # Its layer is named and is not there; a size of 0 would have the lifecycle make an empty file of it.
    (layer,) = msgspec.json.decode(manifest)["layers"]
    assert layer["digest"] == BASE and layer["size"] > 0
    blobs = {name: content for name, content in files.items() if name.startswith("blobs/")}
    assert {name.rpartition("/")[2] for name in blobs} == {
        hashlib.sha256(content).hexdigest() for content in blobs.values()
    }
    assert msgspec.json.decode(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}


def written(**changes: Any) -> tuple[bytes, bytes]:
    config = {
        "config": {"Entrypoint": ["/cnb/process/web"], "Cmd": ["x"], "User": "1002", "Labels": {"a": "b"}},
        "rootfs": {"diff_ids": [BASE, OWN]},
        **changes,
    }
    manifest = {"layers": [{"digest": BASE, "size": 1}, {"digest": PACKED, "size": 7}]}
    return msgspec.json.encode(manifest), msgspec.json.encode(config)


def test_what_the_engine_lacks_is_what_is_not_of_the_run_image() -> None:
    manifest, config = written()
    image = layouts.exported(manifest, config, run_image=run_image(), labels={"ours": "yes"})
    assert image.layers == (Blob(BASE, 1), Blob(PACKED, 7)) and image.own == (Blob(PACKED, 7),)
    assert msgspec.json.decode(image.config)["config"] == {
        "Entrypoint": None,
        "Cmd": ["/cnb/process/web", "x"],
        "User": "1002",
        "Labels": {"a": "b", "ours": "yes"},
    }
    assert msgspec.json.decode(layouts.saved_manifest(image, name="app:now", config="config.json")) == [
        {
            "Config": "config.json",
            "RepoTags": ["app:now"],
            "Layers": [f"blobs/sha256/{'a' * 64}", f"blobs/sha256/{'c' * 64}"],
        }
    ]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rootfs": {"diff_ids": [OWN, BASE]}}, "it is not built on the run image"),
        ({"rootfs": {"diff_ids": [BASE]}}, "it is not built on the run image"),
        ({"rootfs": 1}, "it is not built on the run image"),
    ],
)
def test_an_image_upon_something_else_is_refused(changes: dict[str, Any], says: str) -> None:
    manifest, config = written(**changes)
    with pytest.raises(BuildFailed, match=says):
        layouts.exported(manifest, config, run_image=run_image(), labels={})


@pytest.mark.parametrize(
    "index",
    [
        b"",
        b"[]",
        b'{"manifests":[]}',
        b'{"manifests":[{"digest":"../../etc/passwd","size":1}]}',
        b'{"manifests":[{"digest":"sha256:' + b"a" * 64 + b'","size":-1}]}',
    ],
)
def test_an_index_that_makes_no_sense_is_refused(index: bytes) -> None:
    with pytest.raises(BuildFailed, match="makes no sense"):
        layouts.manifest_in(index)
