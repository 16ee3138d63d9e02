"""A base image of Debian that no registry is needed for, made once by debootstrap: what languages are built on."""

from __future__ import annotations

import fcntl
import io
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from scripts.house.engine import Engine

DEBIAN = "pushboat-test/debian:bookworm"
"""Shared by all test runs on the machine, and left there: it takes a minute to make."""

_LOCK = Path(tempfile.gettempdir()) / "pushboat-test-debian.lock"
_AUTHORITIES = Path("/usr/local/share/ca-certificates")
"""What this machine trusts besides the usual: containers must too, where a proxy looks into TLS."""
_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_TRUSTING = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
_QUICK = "\n".join(
    ("force-unsafe-io", *(f"path-exclude /usr/share/{folder}/*" for folder in ("doc", "man", "locale")), "")
)
"""For dpkg, as Debian's own slim images have it: an image that breaks off is thrown away anyhow."""


def ensure_debian() -> str:
    """Make the image if it is not there; return its name. Whoever comes second waits."""
    engine = Engine(seconds=300.0)
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not engine.has_image(DEBIAN):
            _make(engine)
    return DEBIAN


def _make(engine: Engine) -> None:
    with tempfile.TemporaryDirectory(prefix="pb-debian-") as name:
        root = Path(name) / "root"
        command = ["debootstrap", "--variant=minbase", "bookworm", str(root)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
        for folder in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man"):
            shutil.rmtree(root / folder)
            (root / folder).mkdir()
        (root / "etc/dpkg/dpkg.cfg.d/quick").write_text(_QUICK)
        authorities = sorted(_AUTHORITIES.glob("*.crt")) if _AUTHORITIES.is_dir() else []
        for each in authorities:
            target = root / _AUTHORITIES.relative_to("/") / each.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(each, target)
        changes = ['CMD ["/bin/bash"]', *(f"ENV {name}={_BUNDLE}" for name in _TRUSTING if authorities)]
        repository, _, tag = DEBIAN.rpartition(":")
        engine.call("POST", "/images/create", _packed(root), fromSrc="-", repo=repository, tag=tag, changes=changes)


def _packed(root: Path) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.add(root, arcname=".")
    return output.getvalue()
