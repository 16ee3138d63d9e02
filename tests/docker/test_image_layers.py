"""Which layers an image has: out of what the engine tells, and for real of two images that share some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.docker import labels
from agent.docker.disks import MachineDisks
from agent.docker.engine import Engine
from agent.docker.image_layers import Layer, Step, layers, layers_of
from tests.support.docker import Corner, token


def sizes(found: Sequence[Layer]) -> list[int]:
    return [layer.size for layer in found]


def test_steps_that_only_set_something_make_no_layer() -> None:
    steps = [
        Step("/bin/sh -c #(nop) ADD file:1 in / ", 100),
        Step('/bin/sh -c #(nop)  CMD ["bash"]'),
        Step("ENV A=1"),
        Step("WORKDIR /app"),
        Step("RUN /bin/sh -c true # buildkit"),
        Step("COPY . . # buildkit", 7),
        Step('CMD ["x"]'),
    ]
    assert sizes(layers(["a", "b", "c", "d"], steps)) == [100, 0, 0, 7]
    assert sizes(layers(["a", "b"], [steps[0], *steps[4:]])) == [100, 7], "what has a size made one in any case"


def test_two_images_share_layers_as_far_as_all_below_is_equal() -> None:
    steps = [Step("ADD", 100), Step("COPY", 7)]
    one, same, other = layers(["a", "b"], steps), layers(["a", "b"], steps), layers(["x", "b"], steps)
    assert list(one) == list(same)
    assert one[1].chain != other[1].chain
    assert layers(["a"], steps[:1])[0] == one[0]


def test_a_history_that_does_not_fit_is_counted_whole_and_as_nobody_elses() -> None:
    for ids in (["a"], ["a", "b", "c"]):
        (found,) = layers(ids, [Step("ADD", 100), Step("COPY", 7)])
        assert found.size == 107
    assert not layers([], [])


async def made_on(c: Corner, image: str) -> str:
    """Make an image of ours on another, with one layer of a million bytes that is like no other; return its id."""
    write = f"(echo {token()}; yes) | head -c 1000000 > /own"
    container = (await c.engine.json("POST", "containers/create", data={"Image": image, "Cmd": ["sh", "-c", write]}))[
        "Id"
    ]
    try:
        await c.engine.json("POST", f"containers/{container}/start")
        await c.engine.json("POST", f"containers/{container}/wait")
        mark = f"LABEL {labels.INSTANCE}={c.engine.instance}"
        name = f"pushboat-{c.engine.instance}/{token('a')}"
        params = {"container": container, "repo": name, "tag": "1", "changes": mark}
        return str((await c.engine.json("POST", "commit", params=params))["Id"])
    finally:
        await c.engine.json("DELETE", f"containers/{container}", params={"force": True})


@pytest.mark.real
async def test_layers_of_our_images_are_counted_once_whoever_else_has_them(docker: Corner, tmp_path: Path) -> None:
    disks = MachineDisks(docker.engine, tmp_path)
    (base,) = await layers_of(docker.engine, docker.image)
    assert await disks.layers() == base.size, "it has a tag of ours"
    first, second = await made_on(docker, docker.image), await made_on(docker, docker.image)
    assert (await layers_of(docker.engine, first))[-1].size == 1_000_000
    # What no other has is what `GET /system/df` tells: the layer that all have is nobody's.
    assert sum(use.own for use in await disks.images()) == 2_000_000
    assert await disks.layers() == base.size + 2_000_000
    await docker.engine.json("DELETE", f"images/{first}", params={"force": True})
    assert await disks.layers() == base.size + 1_000_000
    assert second in {use.id for use in await disks.images()}
    assert not await layers_of(docker.engine, first), "gone"
    async with Engine.open(instance=token("t")) as other:
        assert await MachineDisks(other, tmp_path).layers() == 0, "of another agent nothing counts"
