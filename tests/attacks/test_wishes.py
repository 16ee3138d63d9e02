"""Whatever wish for a container comes up: its body gives it nothing that an app may not have, or it is refused."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.attacks.wishes import dangers, try_wishes
from tests.docker.test_spec import FORBIDDEN, body_of, replica

HARMLESS = {"HostConfig.Init", "HostConfig.RestartPolicy", "Env"}
"""What our list refuses because it is a mistake, and a container would get nothing by it."""


def test_five_hundred_wishes_get_no_more_than_an_app_may_have() -> None:
    chosen = random.SystemRandom().randrange(1 << 40)
    print(f"seed {chosen}")
    assert try_wishes(250, first=0) + try_wishes(250, first=chosen) == []


@pytest.mark.slow
def test_two_thousand_wishes_get_no_more_than_an_app_may_have() -> None:
    """Ten thousand, from a new seed: ``scripts/torture commands``."""
    assert try_wishes(2_000, first=1_000_000) == []


@pytest.mark.parametrize(
    ("path", "value"), [(path, value) for path, value in FORBIDDEN if path not in HARMLESS | {"HostConfig.LogConfig"}]
)
def test_the_judge_sees_what_gives_a_container_too_much(path: str, value: object) -> None:
    body: Any = body_of(replica())
    assert list(dangers(body)) == []
    *folders, name = path.split(".")
    target = body
    for folder in folders:
        target = target[folder]
    target[name] = value
    assert list(dangers(body))
