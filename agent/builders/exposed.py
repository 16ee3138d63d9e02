"""The order in which a Dockerfile EXPOSEs its ports, which the image itself does not keep."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_CONTINUED: Final = re.compile(r"\\[ \t]*\r?\n")
_STAGE: Final = re.compile(r"^[ \t]*FROM[ \t]", re.IGNORECASE | re.MULTILINE)
_EXPOSE: Final = re.compile(r"^[ \t]*EXPOSE[ \t]+(.*)$", re.IGNORECASE | re.MULTILINE)
_PORT: Final = re.compile(r"([0-9]{1,5})(?:-[0-9]{1,5})?(?:/tcp)?", re.IGNORECASE)


def in_order(ports: Sequence[int], dockerfile: bytes) -> tuple[int, ...]:
    """Return `ports` (of the image) with those first that the last stage of `dockerfile` names, in its order.

    Those that another stage, the base image or a variable named follow as they were.
    """
    text = _CONTINUED.sub(" ", dockerfile.decode("utf-8", "replace"))
    words = [word for line in _EXPOSE.findall(_STAGE.split(text)[-1]) for word in line.split()]
    named = [int(found[1]) for word in words if (found := _PORT.fullmatch(word))]
    first = tuple(dict.fromkeys(port for port in named if port in ports))
    return (*first, *(port for port in ports if port not in first))
