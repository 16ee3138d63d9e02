"""A builder image of Cloud Native Buildpacks, and the run image of its apps, without any registry.

No public builder can be had here. This one follows the specifications where a platform meets it (labels, variables,
arguments, exit statuses, folders, the exported layout) and is shell on busybox for the rest: `tests/support/stand_in`.
Two buildpacks make a web app of ``index.html`` and ``deps.txt``; a third does what a Dockerfile's RUN lines say.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

from scripts.house.engine import Engine, busybox_root

_FOLDER = Path(__file__).parent / "stand_in"
_BUILDPACKS = ("deps", "web", "run")
_ORDER = (("deps", "web"), ("web",), ("run",))
USER, GROUP = 1000, 1001
APP_USER = 1002
"""Whom apps run as: the run image says so."""


class StandIn:
    """The two images, as they are called on an engine that has them."""

    def __init__(self, builder: str, run_image: str) -> None:
        self.builder = builder
        self.run_image = run_image


def ensure_stand_in(engine: Engine) -> StandIn:
    """Make both images if they are not there, and return their names. They are left: 4 MB, named by what is in them."""
    files = _files()
    mark = hashlib.sha256(b"".join([name.encode() + content for name, content in files.items()])).hexdigest()[:12]
    made = StandIn(f"pushboat-test/builder:{mark}", f"pushboat-test/run:{mark}")
    if not engine.has_image(made.run_image):
        _make(engine, made.run_image, busybox_root(), ["ENV PATH=/bin", f"USER {APP_USER}"])
    if not engine.has_image(made.builder):
        _make(engine, made.builder, _with(busybox_root(), files), _changes(made))
    return made


def _changes(made: StandIn) -> list[str]:
    buildpacks = [{"id": f"test/{name}", "version": "1.0"} for name in _BUILDPACKS]
    metadata = {"stack": {"runImage": {"image": made.run_image, "mirrors": []}}, "buildpacks": buildpacks}
    apis = {"buildpack": {"supported": ["0.10"]}, "platform": {"deprecated": ["0.7"], "supported": ["0.12", "0.13"]}}
    return [
        "ENV PATH=/bin",
        f"ENV CNB_USER_ID={USER}",
        f"ENV CNB_GROUP_ID={GROUP}",
        f"USER {USER}:{GROUP}",
        f"LABEL io.buildpacks.builder.metadata='{json.dumps(metadata)}'",
        f"LABEL io.buildpacks.lifecycle.apis='{json.dumps(apis)}'",
    ]


def _files() -> dict[str, bytes]:
    order = ""
    for group in _ORDER:
        order += "[[order]]\n"
        order += "".join(f'[[order.group]]\nid = "test/{name}"\nversion = "1.0"\n' for name in group)
    files = {
        "cnb/lifecycle/creator": (_FOLDER / "creator").read_bytes(),
        "cnb/lifecycle/launcher": (_FOLDER / "launcher").read_bytes(),
        "cnb/order.toml": order.encode(),
    }
    for name in _BUILDPACKS:
        for what in ("detect", "build"):
            files[f"cnb/buildpacks/test_{name}/1.0/bin/{what}"] = (_FOLDER / f"{name}.{what}").read_bytes()
    return files


def _with(root: bytes, files: dict[str, bytes]) -> bytes:
    output = io.BytesIO(root)
    with tarfile.open(fileobj=output, mode="a", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return output.getvalue()


def _make(engine: Engine, name: str, root: bytes, changes: list[str]) -> None:
    repository, _, tag = name.rpartition(":")
    engine.call("POST", "/images/create", root, fromSrc="-", repo=repository, tag=tag, changes=changes)
