"""Which layers an image has, and how large each is: what `GET /system/df` adds up for all images, told for some.

The engine tells the ids of an image's layers (``RootFS.Layers``), and in its history the size of each step, but not
which steps made a layer. All that have a size did. Of those without, those that only set something (``CMD``) did
not; where that leaves a choice, it is between layers of no size, and the sum of an image is right in any case.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from agent.docker.engine import Engine

_SETS: Final = re.compile(
    r"(?:\S+ -c )?#\(nop\) +(?!ADD|COPY|WORKDIR)"
    r"|(?:ARG|CMD|ENTRYPOINT|ENV|EXPOSE|HEALTHCHECK|LABEL|MAINTAINER|ONBUILD|SHELL|STOPSIGNAL|USER|VOLUME)\b"
)
"""Begins the history of a step that makes no layer, as the classic builder and BuildKit write it."""


class Layer(msgspec.Struct, frozen=True):
    """A layer as it lies on the disk: equal for two images only if all below it is equal too."""

    chain: str
    size: int
    """Bytes."""


class Step(msgspec.Struct, frozen=True, rename="pascal"):
    """A line of ``GET /images/{id}/history``."""

    created_by: str = ""
    size: int = 0


class _Root(msgspec.Struct, frozen=True, rename="pascal"):
    layers: list[str] | None = None


class _Image(msgspec.Struct, frozen=True, rename="pascal"):
    root: _Root = msgspec.field(name="RootFS", default=_Root())


async def layers_of(engine: Engine, image: str) -> Sequence[Layer]:
    """Return the layers of an image, the lowest first; none if it is gone.

    Raises:
        Unavailable: the engine does not answer.
    """
    found = await engine.get(f"images/{image}/json", into=_Image)
    history = await engine.get(f"images/{image}/history", into=list[Step])
    return layers(found.root.layers or (), list(reversed(history))) if found and history else ()


def layers(ids: Sequence[str], steps: Sequence[Step]) -> Sequence[Layer]:
    """Return the layers of an image out of their ids and its history, both with the lowest first."""
    sizes = [step.size for step in _that_made_one(steps, count=len(ids))]
    chains = list(_chains(ids))
    if len(sizes) != len(ids):
        # Nobody can say which is which, so none of them is called shared.
        return (Layer(chains[-1], sum(step.size for step in steps)),) if chains else ()
    return [Layer(chain, size) for chain, size in zip(chains, sizes, strict=True)]


def _that_made_one(steps: Sequence[Step], *, count: int) -> Iterator[Step]:
    lacking = count - sum(step.size > 0 for step in steps)
    for step in steps:
        if step.size:
            yield step
        elif lacking > 0 and not _SETS.match(step.created_by):
            lacking -= 1
            yield step


def _chains(ids: Sequence[str]) -> Iterator[str]:
    chain = hashlib.sha256()
    for one in ids:
        chain.update(one.encode())
        yield chain.hexdigest()
