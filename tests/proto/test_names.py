"""Names at their limits, and one past them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proto.names import MAX_APP_NAME, MAX_DOMAIN, app_name, domain_name, process_type

LABEL = "x" * 63
DOMAIN = ".".join((LABEL, LABEL, LABEL, "x" * (MAX_DOMAIN - 3 * 64)))


@pytest.mark.parametrize(
    ("read", "longest"),
    [
        (app_name, "x" * MAX_APP_NAME),
        (app_name, "a." + "x" * (MAX_APP_NAME - 2)),
        (process_type, "x" * 63),
        (domain_name, DOMAIN),
        (domain_name, f"{LABEL}.example.com"),
    ],
    ids=["app", "app of two labels", "process type", "domain", "label of a domain"],
)
def test_the_longest_name_is_one_and_a_longer_one_is_none(read: Callable[[str], str], longest: str) -> None:
    assert read(longest) == longest
    with pytest.raises(ValueError, match="is not a"):
        read(f"x{longest}")
